(function () {
  "use strict";
  var night = window.matchMedia("(prefers-color-scheme: dark)");
  function template(dark) {
    var ink = dark ? "#d6d6d4" : "#2b2d30", grid = dark ? "#303236" : "#e6e7e9", line = dark ? "#5a5d63" : "#b9bcc1";
    var axis = { gridcolor: grid, linecolor: line, tickcolor: line, zerolinecolor: line, title: { font: { size: 12 } } };
    return { layout: {
      font: { family: 'system-ui, -apple-system, "Segoe UI", Roboto, Arial, sans-serif', size: 12, color: ink },
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", xaxis: axis, yaxis: axis,
      hoverlabel: { bgcolor: dark ? "#2a2b2e" : "#ffffff", bordercolor: line, font: { color: ink }, align: "left" },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: line, activecolor: ink } } };
  }
  function swatch(trace) {
    var space = "http://www.w3.org/2000/svg", image = document.createElementNS(space, "svg"), path = document.createElementNS(space, "path");
    var dashes = { dash: "5 3", dot: "1.5 2.5", dashdot: "5 2 1.5 2", longdash: "8 3", longdashdot: "8 2 1.5 2" };
    image.setAttribute("width", 22); image.setAttribute("height", 8); image.setAttribute("aria-hidden", "true");
    path.setAttribute("d", "M0 4H22"); path.setAttribute("stroke", trace.line.color); path.setAttribute("stroke-width", 2.5);
    path.setAttribute("stroke-dasharray", dashes[trace.line.dash] || ""); image.appendChild(path);
    return image;
  }
  function legend(element, traces) {
    var list = document.createElement("div"), groups = new Map();
    traces.forEach(function (trace, index) {
      if (!groups.has(trace.legendgroup)) groups.set(trace.legendgroup, { traces: [], shown: trace });
      groups.get(trace.legendgroup).traces.push(index);
      if (trace.showlegend !== false) groups.get(trace.legendgroup).shown = trace;
    });
    groups.forEach(function (group) {
      var button = document.createElement("button"), text = document.createElement("textarea");
      text.innerHTML = group.shown.name;  // plotly's names are escaped; a textarea holds text only
      button.type = "button"; button.setAttribute("aria-pressed", group.shown.visible !== "legendonly");
      button.append(swatch(group.shown), text.value);
      button.addEventListener("click", function () {
        var on = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", on);
        Plotly.restyle(element, { visible: on ? true : "legendonly" }, group.traces);
      });
      list.appendChild(button);
    });
    list.className = "legend";
    element.closest("figure").querySelector("figcaption").before(list);
  }
  var plots = Array.prototype.slice.call(document.querySelectorAll(".plot"));
  plots.forEach(function (element) {
    var spec = JSON.parse(document.getElementById(element.dataset.spec).textContent);
    spec.layout.template = template(night.matches);
    if (spec.layout.meta && spec.layout.meta.legend === "page") { spec.layout.showlegend = false; legend(element, spec.data); }
    Plotly.newPlot(element, spec.data, spec.layout, { responsive: true, displaylogo: false, displayModeBar: "hover",
      doubleClick: "reset", modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] });
  });
  function restyle(dark, size) {
    plots.forEach(function (element) {
      Plotly.relayout(element, Object.assign({ template: template(dark) }, size));
    });
  }
  night.addEventListener("change", function (event) { restyle(event.matches); });
  var closed = [];
  window.addEventListener("beforeprint", function () {
    closed = Array.prototype.filter.call(document.querySelectorAll("details"), function (one) { return !one.open; });
    closed.forEach(function (one) { one.open = true; });
    restyle(false, { width: 680, autosize: false });
  });
  window.addEventListener("afterprint", function () {
    closed.forEach(function (one) { one.open = false; });
    plots.forEach(function (element) { delete element.layout.width; });
    restyle(night.matches, { autosize: true });
  });
})();
