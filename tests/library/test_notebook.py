"""searchlib in a notebook: docs/notebook.ipynb runs, and the display of a search in a real kernel."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from support import prepare
from support.command import write_study

import searchlib

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"
PLOTLY = "application/vnd.plotly.v1+json"


def html(output: dict) -> str:
    return "".join(output.get("data", {}).get("text/html", ""))


def test_the_notebook_of_the_docs_is_stored_with_its_outputs_and_small() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert NOTEBOOK.stat().st_size < 300_000
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    figures = [output for cell in code for output in cell.outputs if PLOTLY in output.get("data", {})]
    assert len(figures) == 2
    assert all(set(figure.data) == {PLOTLY, "image/png"} for figure in figures)
    assert "plotly.js" not in NOTEBOOK.read_text()


def test_the_notebook_of_the_docs_runs() -> None:
    """With fewer trials and replicates; at its end the display of the search shows the last line."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    for cell in notebook.cells:
        for old, new in (
            ("trials=54", "trials=18"),
            ("replicates=10", "replicates=2"),
            ('"epochs": 10', '"epochs": 2'),
        ):
            cell.source = cell.source.replace(old, new)
    assert "trials=18" in notebook.cells[2].source
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(Path.cwd())}}).execute()
    searched = next(cell for cell in notebook.cells if cell.source == "result = searchlib.optimize(study)")
    [shown] = [output for output in searched.outputs if output.output_type == "display_data"]
    assert re.search(r"<pre[^>]*>\d+/\d+ replicates, .*best mean", html(shown))
    assert "text/html" in notebook.cells[7].outputs[0].data, "a table"
    assert notebook.cells[-1].outputs[0].data["text/plain"] == "True"


def test_an_interrupted_cell_says_what_is_saved() -> None:
    write_study(("trials=12", "trials=4000"))
    prepare()
    manager, client = start_new_kernel()
    try:
        client.execute("import searchlib; result = searchlib.optimize('asked')")
        panels: list[str] = []
        error: dict | None = None
        while error is None:
            message = client.get_iopub_msg(timeout=120)
            if message["msg_type"] in ("display_data", "update_display_data"):
                panels.append(html(message["content"]))
                if re.search(r"[1-9]\d*/4000 trials", panels[-1]) and "leading cells" in panels[-1]:
                    manager.interrupt_kernel()
            if message["msg_type"] == "error":
                error = message["content"]
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert "Loading data" in panels[0]
    assert error["ename"] == "KeyboardInterrupt"
    saved = re.fullmatch(r"(\d+) of 4000 trials are saved; run the same again to resume", error["evalue"])
    assert saved, error["evalue"]
    assert searchlib.result("asked").status.trials.ended == int(saved[1])


@pytest.fixture(autouse=True)
def without_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The kernel reads nothing of the user's own settings."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / ".ipython"))
