"""Draw the README's picture from a finished study: docs/answer-light.svg and docs/answer-dark.svg.

    searchlib report --study init_vs_act --json > report.json
    python docs/picture.py report.json

Every cell of two scientific hyperparameters, with its mean over the replicates. A thick frame marks the best mean, a
thin one each cell that isn't significantly different from it. matplotlib comes with mlflow.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

FOLDER = Path(__file__).parent
THEMES = {  # name -> (background, text, colours from the lowest value to the highest)
    "light": ("#ffffff", "#1f2328", ["#eef2f7", "#9fc4e8", "#1f6fb4"]),
    "dark": ("#0d1117", "#e6edf3", ["#161b22", "#1f4d7a", "#4ea1e8"]),
}
FRAME = "#D55E00"
SPAN = 0.012  # of accuracy below the best: what is lower has the lowest colour


def draw(report: dict[str, Any], theme: str) -> Path:
    """Draw one theme; the path of the file. report: what ``searchlib report --json`` prints."""
    background, ink, colours = THEMES[theme]
    cells = [cell for cell in report["cells"] if cell["mean"] is not None]
    rows, columns = list(cells[0]["scientific"])[:2]

    def order(name: str) -> list[Any]:
        """The values of a dimension by the mean of their cells, best first."""
        values = {cell["scientific"][name] for cell in cells}
        means = {v: [cell["mean"] for cell in cells if cell["scientific"][name] == v] for v in values}
        return sorted(values, key=lambda value: -sum(means[value]) / len(means[value]))

    down, across = order(rows), order(columns)
    best = max(cell["mean"] for cell in cells)
    tied = {tuple(one["against"].values()) for one in report["comparisons"] if not one["told_apart"]}
    scale = LinearSegmentedColormap.from_list("searchlib", colours)

    plt.rcParams |= {
        "svg.fonttype": "none",
        "svg.hashsalt": "searchlib",
        "font.family": "sans-serif",
        "font.size": 10.5,
    }
    figure, axes = plt.subplots(figsize=(7.6, 3.9), facecolor=background)
    axes.set_facecolor(background)
    for cell in cells:
        key = (cell["scientific"][rows], cell["scientific"][columns])
        x, y = across.index(key[1]), down.index(key[0])
        share = max(0.0, 1.0 - (best - cell["mean"]) / SPAN)
        axes.add_patch(Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, facecolor=scale(share), edgecolor="none"))
        dark = (share > 0.6) == (theme == "light")
        axes.text(x, y, f"{100 * cell['mean']:.2f}", ha="center", va="center",
                  color="#ffffff" if dark else "#0d1117" if theme == "dark" and share > 0.6 else ink)  # fmt: skip
        winner = cell["scientific"] == report["winner"]["scientific"]
        if winner or key in tied:
            axes.add_patch(
                Rectangle(
                    (x - 0.47, y - 0.45), 0.94, 0.9, fill=False, edgecolor=FRAME, linewidth=3.5 if winner else 1.8
                )
            )
    axes.set(xlim=(-0.55, len(across) - 0.45), ylim=(len(down) - 0.45, -0.55))
    axes.set_xticks(range(len(across)), across, color=ink)
    axes.set_yticks(range(len(down)), down, color=ink)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    seeds = max(cell["n"] for cell in cells)
    caption = (
        f"Validation accuracy in %, mean of up to {seeds} training runs, each pair tuned on its own."
        "\nThick frame: best. Thin frames: not significantly different from it."
    )
    figure.text(0.5, 0.02, caption, ha="center", va="bottom", color=ink, fontsize=9.5)
    figure.subplots_adjust(left=0.17, right=0.99, top=0.92, bottom=0.15)
    path = FOLDER / f"answer-{theme}.svg"
    figure.savefig(path, facecolor=background, metadata={"Date": None, "Creator": "docs/picture.py"})
    plt.close(figure)
    return path


if __name__ == "__main__":
    found = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for each in THEMES:
        print(draw(found, each))
