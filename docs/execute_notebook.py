"""Run docs/notebook.ipynb in a temporary folder and store it with its outputs: python docs/execute_notebook.py.

Stored are the figures' data and a picture of each, drawn by Chromium, instead of plotly.js, which has 4 MB.
"""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from plotly.graph_objects import Figure

NOTEBOOK = Path(__file__).with_name("notebook.ipynb")
PLOTLY = "application/vnd.plotly.v1+json"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def execute(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Run all cells with *folder* as the working folder; CellExecutionError where one fails."""
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")])
    )
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(folder)}}).execute()


def slim(notebook: nbformat.NotebookNode) -> None:
    """Replace plotly.js by pictures, leave out warnings, and forget when cells were run and on what."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if PLOTLY in data:
                figure = Figure(data[PLOTLY]["data"], data[PLOTLY]["layout"])
                output["data"] = {PLOTLY: data[PLOTLY], "image/png": picture(figure)}
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }


def picture(figure: Figure) -> str:
    """The figure as a PNG, in base64."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        sys.exit(f"a picture needs a browser; install one of {', '.join(BROWSERS)}")
    width, height = 720, int(figure.layout.height or 450)
    with tempfile.TemporaryDirectory() as folder:
        page, image = Path(folder) / "page.html", Path(folder) / "image.png"
        figure.update_layout(width=width, height=height)
        figure.write_html(page, config={"displayModeBar": False}, full_html=True)
        page.write_text(page.read_text().replace("<body>", '<body style="margin:0">'))
        command = [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--virtual-time-budget=10000",
            f"--user-data-dir={folder}/profile", f"--window-size={width},{height}", f"--screenshot={image}",
            page.as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=180)
        return base64.b64encode(image.read_bytes()).decode()


if __name__ == "__main__":
    found = nbformat.read(NOTEBOOK, as_version=4)
    with tempfile.TemporaryDirectory() as temporary:
        execute(found, Path(temporary))
    slim(found)
    nbformat.write(found, NOTEBOOK)
