"""The published experiments, published beside measured: docs/reproductions.md from docs/reproductions.json.

python docs/reproductions.py                    writes the page again from the results
python docs/reproductions.py collect FOLDER...  first takes the results of the studies that ran in these folders
                                                (optuna.journal and mlflow.db), and measures the laws of initializers
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from searchlib import list_studies, load_study
from searchlib.stores.stores import Stores

HERE = Path(__file__).parent
STUDIES = HERE.parent / "studies"
RESULTS, PAGE = HERE / "reproductions.json", HERE / "reproductions.md"
CELL = (
    "label",
    "scientific",
    "nuisance",
    "search_best",
    "points",
    "diverged",
    "n",
    "mean",
    "sd",
    "low",
    "high",
    "values",
)
TRACED = {
    "vanishing_gradient": "gradient_norm/layer",
    "bias_initialization": "dead/layer",
}  # by layer, of the replicates
MOST_LAYERS = 31
TEST = ("evaluated_at", "trial", "replicate", "n", "accuracy", "loss", "low", "high", "checkpoint_sha256")
VERSION = "searchlib.version."

Data = dict[str, Any]


# ------------------------------------------------------------------------------------------------- collecting


def collect(folders: Iterable[Path]) -> None:
    """Put what the studies in *folders* gave into the results, in the place of what was there of them."""
    results: Data = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {"studies": {}}
    for folder in folders:
        for name in list_studies(STUDIES):
            found = study_results(name, folder)
            if found:
                results["studies"][name] = found
                print(f"{name}: {folder}", file=sys.stderr)
    results["laws"] = laws()
    results["studies"] = dict(sorted(results["studies"].items()))
    text = json.dumps(rounded(results), indent=1, ensure_ascii=False)
    RESULTS.write_text(text + "\n", encoding="utf-8")


def study_results(name: str, folder: Path) -> Data | None:
    """What the stores of one study hold; None where it didn't run there. StudyError where its file has changed."""
    from searchlib.report.material import statistics as gathered
    from searchlib.stores import Tracker, replicates_name
    from searchlib.study import refuse_if_changed

    study, storage, tracking = (
        load_study(name, STUDIES),
        str(folder / "optuna.journal"),
        f"sqlite:///{folder}/mlflow.db",
    )
    optuna_study = Stores(storage).optuna_study(name)
    if optuna_study is None or not optuna_study.get_trials(deepcopy=False):
        return None
    refuse_if_changed(study, optuna_study.user_attrs["definition"])
    data = gathered(study, Stores(storage=storage, tracking_uri=tracking))
    if not data["test"]:
        sys.exit(f"{name} isn't finished: searchlib optimize --study {name}")
    replicated = Stores(storage).optuna_study(replicates_name(study))
    trials = [*optuna_study.get_trials(deepcopy=False), *(replicated.get_trials(deepcopy=False) if replicated else [])]
    spans = [(t.datetime_start, t.datetime_complete) for t in trials if t.datetime_start and t.datetime_complete]
    with Tracker(study, Stores(tracking_uri=tracking)) as tracker:
        tags = next(run.tags for run in tracker.runs().values() if run.tags.get("searchlib.kind") == "study")
        runs = {t.user_attrs["mlflow_run_id"]: t for t in trials if t.user_attrs.get("source") is not None}
        traces = traced(name, data, runs, tracker.histories(list(runs), by_layer(name))) if name in TRACED else {}
    return {
        "command": f"searchlib optimize --study {name}",
        "identity": study.identity,
        "seed": study.seed,
        "split_seed": study.split_seed,
        "versions": {key.removeprefix(VERSION): of for key, of in tags.items() if key.startswith(VERSION)},
        "machine": {"cpu": cpu_model(), "cores": tags["searchlib.cores"]},
        "seconds": covered([(start.timestamp(), end.timestamp()) for start, end in spans]),
        **{key: data[key] for key in ("question", "metric", "answer", "method", "resolved", "trials", "replicates")},
        "test": data["test"] and {key: data["test"].get(key) for key in TEST},
        "not_told_apart": sum(not one["told_apart"] for one in data["comparisons"]),
        "cells": [{key: cell[key] for key in CELL} for cell in data["cells"]],
        "published": data["published"],
        **traces,
    }


def by_layer(name: str) -> list[str]:
    return [f"{TRACED[name]}{layer}" for layer in range(1, MOST_LAYERS + 1)]


def traced(name: str, data: Data, runs: Mapping[str, Any], histories: Mapping[str, Any]) -> Data:
    """A statistic by layer, at initialization and at the end: the median over the replicates of each cell."""
    prefix = TRACED[name]
    sources = {cell["trial"]: cell["label"] for cell in data["cells"]}
    found: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for run_id, trial in runs.items():
        label = sources.get(trial.user_attrs["source"])
        for metric, points in histories.get(run_id, {}).items():
            if label and metric.startswith(prefix) and points[0][0] == 0:
                by_layer = found.setdefault(label, {}).setdefault(int(metric.removeprefix(prefix)), [])
                by_layer.append((points[0][1], points[-1][1]))
    return {
        "layers": {
            label: {
                when: [statistics.median(pair[end] for pair in of) for _, of in sorted(layers.items())]
                for end, when in enumerate(("before", "after"))
            }
            for label, layers in sorted(found.items())
        },
        **({"predicted": predictions(data["cells"])} if name == "vanishing_gradient" else {}),
    }


def predictions(cells: Sequence[Data]) -> dict[str, float | None]:
    """The weight gradient of the first hidden layer over that of the last, by mean field, of each cell."""
    from searchlib.report.initialization import diagnose

    found: dict[str, float | None] = {}
    for cell in cells:
        of = cell["scientific"]
        expected = diagnose(of["initializer"], of["activation"], depth=of["depth"], width=64).predicted
        if of["depth"] > 1 and expected:
            last = expected["gradient"][-1] * expected["second_moment"][-2]
            found[cell["label"]] = math.sqrt(expected["gradient"][0] / last) if last > 0 else None
    return found


def laws() -> dict[str, float]:
    """What PyTorch's own functions draw for a layer of 784 inputs and 100 outputs: variances and largest weights."""
    import torch
    from torch import nn

    def measure(fill: Any) -> tuple[float, float]:
        torch.manual_seed(0)
        weights = torch.cat([fill(nn.Linear(784, 100)).detach().flatten().double() for _ in range(20)])
        return float(weights.var()), float(weights.abs().max())

    default, bound = measure(lambda layer: layer.weight)
    xavier, _ = measure(lambda layer: nn.init.xavier_normal_(layer.weight))
    _, widest = measure(lambda layer: nn.init.xavier_uniform_(layer.weight))
    return {
        "default_variance": default,
        "default_bound": bound,
        "xavier_normal_variance": xavier,
        "xavier_uniform_bound": widest,
    }


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """The seconds during which at least one of *spans* lasted."""
    total, until = 0.0, -math.inf
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def rounded(value: Any) -> Any:
    """Six significant digits are enough to print, and don't depend on the machine that sums."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, (list, tuple)) else value


# --------------------------------------------------------------------------------------------------- the page


def page(results: Data) -> str:
    """The whole page."""
    studies = results["studies"]
    parts = [
        "# The published experiments, reproduced",
        "Generated by `python docs/reproductions.py` from `docs/reproductions.json`.",
        *runs(studies),
        *beside(studies),
        *claims(studies),
        *cells(studies),
        *errors(studies, results["laws"]),
    ]
    return "\n\n".join(parts) + "\n"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def shown(value: float | None, metric: str = "val_accuracy") -> str:
    """An accuracy in percent, a loss to three digits."""
    if value is None:
        return "-"
    return f"{100 * value:.2f}" if metric.endswith("accuracy") else f"{value:.3g}"


def interval(low: float | None, high: float | None, metric: str = "val_accuracy") -> str:
    return "-" if low is None else f"{shown(low, metric)} to {shown(high, metric)}"


def runs(studies: Data) -> list[str]:
    """How each was run, and what came of it."""
    rows = []
    for name, of in studies.items():
        leader, test, counts = of["cells"][0], of["test"], of["trials"]
        kind = "accuracy" if of["metric"] == "val_accuracy" else "loss"
        lost = [f"{counts[key]} {key}" for key in ("pruned", "diverged", "failed") if counts[key]]
        replicates = of["replicates"]["runs"] if of["replicates"] else 0
        tested = "-"
        if test and kind == "accuracy":
            tested = f"{shown(test['accuracy'])} ({interval(test['low'], test['high'])})"
        elif test:
            tested = shown(test["loss"], "loss")
        rows.append(
            (
                f"[`{name}`](../studies/{name}.py)",
                f"{counts['total']} {'(' * bool(lost)}{', '.join(lost)}{')' * bool(lost)} + {replicates}".replace(
                    "  ", " "
                ),
                configuration(leader),
                f"{shown(leader['mean'], of['metric'])} ({interval(leader['low'], leader['high'], of['metric'])},"
                f" n = {leader['n']})",
                f"{of['not_told_apart']} of {len(of['cells']) - 1}" if len(of["cells"]) > 1 else "-",
                tested,
                minutes(of["seconds"]),
            )
        )
    heads = (
        "study",
        "trials + replicates",
        "leads",
        "its fresh seeds: mean (95 % interval)",
        "not significantly different from",
        "test (95 % interval)",
        "time",
    )
    return [
        "## The studies",
        "Accuracies are in percent. The command is `searchlib optimize --study NAME` for each; the files hold all "
        "settings. The mean is that of validation over seeds that the search didn't see; the test set was opened once, "
        "for the leader's best replicate. (`vanishing_gradient` had run before with a pruner, which chose blindly "
        "where all points were at chance after one epoch; the digits' test images were opened then, too.)",
        table(heads, rows),
        *made_with(studies),
        *before_searches(studies),
    ]


def before_searches(studies: Data) -> list[str]:
    """By which method the studies were run that an earlier version ran: it noted none."""
    names = [name for name, of in studies.items() if "method" not in of]
    untuned = [name for name in names if not any(cell["nuisance"] for cell in studies[name]["cells"])]
    if not names:
        return []
    which = "All of them" if len(names) == len(studies) else ", ".join(f"`{name}`" for name in names)
    listed = ", ".join(f"`{name}`" for name in untuned)
    return [
        "## By which method",
        f"{which} ran before tuning was repeated ([method](method.md) is today's): one search each, and cells compared "
        "over seeds. A claim is about the best configurations that this search found. With another study seed it may "
        "find others, and their order may be another one; only with several searches (`searches=4`) is a claim about "
        "the cells, however they are tuned." + (f" Nothing is tuned in {listed}." if untuned else ""),
        "Intervals are t intervals over seeds, for this validation set, the leader's without a correction for its "
        "choice. Comparisons are paired t tests with variances of their own, after 5 and 10 seeds where the replicates "
        "were a race; the p of effects are of F tests. A replicate that learnt nothing counts with its value. Of each "
        "study only the leader's best replicate was evaluated on the test set. The answers below are in the words of "
        "that version. Cells that aren't significantly different needn't be equal.",
    ]


def configuration(cell: Data) -> str:
    """A cell, or where the study compares none, what it was tuned to."""
    return cell["label"] if cell["scientific"] else tuned(cell)


def tuned(cell: Data) -> str:
    entries = [
        value if isinstance(value, str) else f"{key} {value:.2g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in (cell["nuisance"] or {}).items()
    ]
    return ", ".join(entries) or "as fixed"


def minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def made_with(studies: Data) -> list[str]:
    """Machine, versions and seeds: once where they are the same for all."""
    lines: dict[str, list[str]] = {}
    for name, of in studies.items():
        versions = ", ".join(f"{package} {version}" for package, version in sorted(of["versions"].items()))
        machine = of["machine"]
        text = (
            f"{machine['cores']} cores ({machine['cpu']}), no GPU; {versions}; "
            f"seed {of['seed']}, split seed {of['split_seed']}."
        )
        lines.setdefault(text, []).append(name)
    if len(lines) == 1:
        return [f"All on {next(iter(lines))} Times are those during which something was training."]
    return [f"{', '.join(f'`{name}`' for name in names)}: {text}" for text, names in lines.items()]


def beside(studies: Data) -> list[str]:
    """Published figures beside the replicates of their cells."""
    parts = ["## Published beside measured"]
    for name, of in studies.items():
        entries = of["published"]
        if not entries:
            continue
        rows = [
            (
                one["label"],
                named(one["metric"]),
                f"{'iteration' if one['metric'].startswith('step_') else 'epoch'} {one['step']}",
                shown(one["published"], one["metric"]),
                shown(one["mean"], one["metric"]),
                interval(one["low"], one["high"], one["metric"]),
                interval(one["predicted_low"], one["predicted_high"], one["metric"]),
                {True: "inside", False: "**outside**", None: one["reason"]}[one["inside"]],
            )
            for one in entries
        ]
        said = [one for one in entries if one["inside"] is not None]
        parts += [
            f"### `{name}`",
            f"Source: {'; '.join(dict.fromkeys(one['source'] for one in entries))}. "
            f"{sum(one['inside'] for one in said)} of {len(said)} published figures lie inside the interval in which "
            f"95 % of further seeds fall (n = {entries[0]['n']} seeds).",
            table(
                (
                    "cell",
                    "metric",
                    "after",
                    "published",
                    "ours, mean",
                    "95 % interval",
                    "further seeds, 95 %",
                    "published is",
                ),
                rows,
            ),
            *remarks(entries),
            *why_outside(name, studies),
        ]
    return parts


def cells(studies: Data) -> list[str]:
    """Each study's cells, where there are few enough to print."""
    parts = ["## All cells"]
    for name, of in studies.items():
        if not 1 < len(of["cells"]) <= 40:
            continue
        rows = [
            (
                cell["label"],
                shown(cell["mean"], of["metric"]),
                interval(cell["low"], cell["high"], of["metric"]),
                str(cell["n"]),
                shown(cell["search_best"], of["metric"]),
                tuned(cell),
            )
            for cell in of["cells"]
        ]  # fmt: skip
        parts += [
            f"### `{name}`",
            of["answer"],
            *([of["method"]] if "method" in of else []),
            table(("cell", "mean of fresh seeds", "95 % interval", "seeds", "best in search", "tuned to"), rows),
        ]
    return parts


def remarks(entries: Sequence[Data]) -> list[str]:
    """The notes on published figures, each with the metric that it is about, unless that is all of them."""
    parts = []
    for note in dict.fromkeys(one["note"] for one in entries if one["note"]):
        metrics = {one["metric"] for one in entries if one["note"] == note}
        about = "" if all(one["metric"] in metrics for one in entries) else f" {named(sorted(metrics)[0])}"
        parts.append(f"Published{about}: {note}.")
    return parts


def named(metric: str) -> str:
    return metric.removeprefix("step_").replace("val_", "validation ").replace("train_", "training ").replace("_", " ")


def why_outside(name: str, studies: Data) -> list[str]:
    """What explains the figures that lie outside."""
    if name == "deep_learning_wizard":
        entries = [one for one in studies[name]["published"] if one["inside"] is not None]
        outside = [one for one in entries if not one["inside"]]
        beyond = [max(o["published"] - o["predicted_high"], o["predicted_low"] - o["published"]) for o in outside]
        wide = sum(abs(one["published"] - one["mean"]) <= with_images(one) for one in entries)
        above = sum(one["published"] > one["mean"] for one in entries)
        return [
            f"Of {len(entries)} figures {0.05 * len(entries):.1f} are expected outside by chance; {len(outside)} are, "
            f"by at most {100 * max(beyond, default=0.0):.2f} points. The interval counts seeds alone. The published "
            "figures are of other images, though: 10,000 test images have a standard error of 0.15 points at 97.6 %, "
            f"as do our 10,000 validation images; with both counted, {wide} of {len(entries)} lie inside. {above} of "
            f"{len(entries)} are above our means, as they should be with a fifth more images to train on."
        ]
    if name == "ee541_fashion" and "ee541_fashion_all" in studies:
        others = studies["ee541_fashion_all"]["published"]
        inside = sum(one["inside"] for one in others)
        return [
            "With pixels in [0, 1] all training accuracies are somewhat below the published ones, most in the first "
            "epoch, as if the published epochs had more steps. They had, it seems: with nearly all 60,000 images, 590 "
            f"steps an epoch instead of 500, {inside} of {len(others)} lie inside (`ee541_fashion_all`). The published "
            "test accuracy, above what training reaches at this learning rate, belongs to other settings: see "
            "`ee541_fashion_tuned`."
        ]
    return []


def with_images(one: Data, count: int = 10_000) -> float:
    """Half the 95 % prediction interval of a figure of another seed on other images, as many as ours."""
    seeds = (one["predicted_high"] - one["predicted_low"]) / 2
    return math.hypot(seeds, 1.96 * math.sqrt(2 * one["mean"] * (1 - one["mean"]) / count))


Claims = list[tuple[str, str, str]]  # said, held, measured


def claims(studies: Data) -> list[str]:
    """What the texts say, and whether it held here."""
    makers = {
        "deep_learning_wizard": of_wizard,
        "ee541_fashion_tuned": of_tuning,
        "ee541_initializers": of_initializers,
        "universal_approximation": of_width,
        "universal_approximation_dropout": of_dropout,
        "bias_initialization": of_biases,
        "vanishing_gradient": of_depth,
    }
    rows = [(f"`{name}`", *row) for name, make in makers.items() if name in studies for row in make(studies)]
    parts = ["## What held, and what didn't", table(("study", "said", "held", "measured"), rows)]
    return [*parts, *depths(studies)] if rows else []


def cell_of(of: Data, **scientific: Any) -> Data:
    """The cell with these scientific values."""
    wanted = scientific.items()
    return next(cell for cell in of["cells"] if all(cell["scientific"].get(key) == value for key, value in wanted))


def gain(better: Data, worse: Data) -> tuple[float, float, float]:
    """Mean paired difference of two cells over their common seeds, and its 95 % t interval."""
    from searchlib.analysis.statistics import mean_interval

    common = sorted(set(better["values"]) & set(worse["values"]), key=int)
    mean, _, low, high = mean_interval([better["values"][seed] - worse["values"][seed] for seed in common])
    assert low is not None
    assert high is not None
    return mean, low, high


def points(difference: tuple[float, float, float]) -> str:
    mean, low, high = difference
    return f"{100 * mean:+.2f} points ({100 * low:+.2f} to {100 * high:+.2f})"


def verdict(holds: bool) -> str:
    return "yes" if holds else "no"


def of_wizard(studies: Data) -> Claims:
    of = studies["deep_learning_wizard"]

    def at(initializer: str, activation: str) -> Data:
        return cell_of(of, initializer=initializer, activation=activation)

    normal, xavier = at("normal", "tanh"), at("xavier_normal", "tanh")
    lost = gain(normal, xavier)
    pairs = (
        ("pytorch_default", "tanh"),
        ("xavier_normal", "tanh"),
        ("xavier_normal", "relu"),
        ("kaiming_normal", "relu"),
    )
    four = {cell["label"]: cell for cell in (at(*pair) for pair in pairs)}
    seeds = sorted(set.intersection(*(set(cell["values"]) for cell in four.values())), key=int)
    first = [max(four, key=lambda label: four[label]["values"][seed]) for seed in seeds]
    counts = ", ".join(f"{label} {first.count(label)}" for label in four if label in first)
    zeros = {activation: at("zeros", activation)["mean"] for activation in ("tanh", "relu", "sigmoid", "leaky_relu")}
    silent = ""  # without those biases
    if "ee541_initializers" in studies:
        silent = (
            f"; with biases of 0 it holds: {shown(cell_of(studies['ee541_initializers'], initializer='zeros')['mean'])}"
        )
        silent += " % (`ee541_initializers`, ReLU)"
    squash = gain(at("xavier_normal", "sigmoid"), xavier)
    leak = gain(at("kaiming_normal", "leaky_relu"), at("kaiming_normal", "relu"))
    return [
        (
            "a normal law of deviation 1 is clearly worse",
            verdict(lost[2] < 0),
            f"tanh: {shown(normal['mean'])} % against {shown(xavier['mean'])} % with xavier_normal: {points(lost)}",
        ),
        (
            "among the other four pairs the order changes with the seed",
            verdict(len(set(first)) > 1),
            f"first place over {len(seeds)} seeds: {counts}",
        ),
        (
            "with zeros no unit differs from another, and the network can't learn",
            verdict(all(value < 0.2 for value in zeros.values())),
            ", ".join(f"{activation} {shown(value)} %" for activation, value in zeros.items())
            + ": the biases, which the page leaves as PyTorch draws them, tell the units apart"
            + silent,
        ),
        (
            "sigmoid trains worse than tanh, its gradient being at most 1/4",
            verdict(squash[2] < 0),
            f"xavier_normal, sigmoid against tanh: {points(squash)}",
        ),
        (
            "leaky ReLU mends ReLU's dead units",
            "no gain seen" if leak[1] <= 0 else "yes",
            f"kaiming_normal, leaky_relu against relu: {points(leak)}",
        ),
    ]


def of_tuning(studies: Data) -> Claims:
    leader = studies["ee541_fashion_tuned"]["cells"][0]
    before = cell_of(studies["ee541_fashion"], input_scaling="unit") if "ee541_fashion" in studies else None
    if before is None:
        return []
    return [
        (
            "learning rate and batch size, chosen on validation, matter",
            verdict(leader["low"] > before["high"]),
            f"{shown(before['mean'])} % at 0.0001 and 100; {shown(leader['mean'])} % with {leader['label']} and a "
            f"learning rate of {leader['nuisance']['learning_rate']:.2g}, after four epochs each",
        )
    ]


def of_initializers(studies: Data) -> Claims:
    of = studies["ee541_initializers"]
    leader, last = of["cells"][0], min((cell for cell in of["cells"] if cell["n"]), key=lambda cell: cell["mean"])
    return [
        (
            "the choice of the initializer matters",
            f"for {len(of['cells']) - 1 - of['not_told_apart']} of {len(of['cells']) - 1}",
            f"{leader['label']} {shown(leader['mean'])} %, not significantly different from {of['not_told_apart']} of "
            f"{len(of['cells']) - 1} others at their own best learning rates; worst is {last['label']}, "
            f"{shown(last['mean'])} %",
        )
    ]


def of_width(studies: Data) -> Claims:
    of = studies["universal_approximation"]
    three = cell_of(of, hidden="64-64-64", activation="relu")
    single = [cell for cell in of["cells"] if "-" not in str(cell["scientific"]["hidden"])]
    relus = sorted(
        (cell for cell in single if cell["scientific"]["activation"] == "relu"),
        key=lambda cell: int(cell["scientific"]["hidden"]),
    )
    tanh = min((cell for cell in single if cell["scientific"]["activation"] == "tanh"), key=lambda cell: cell["mean"])

    def both(cell: Data) -> str:
        return f"{cell['mean']:.2g} ({min(cell['values'].values()):.2g})"

    enough = next((cell["scientific"]["hidden"] for cell in relus if cell["mean"] <= three["mean"]), None)
    best = min(value for cell in relus for value in cell["values"].values())
    reached = best <= min(three["values"].values())
    widths = ", ".join(f"{cell['scientific']['hidden']}: {both(cell)}" for cell in relus)
    return [
        (
            "one hidden layer approximates any function, if it is wide enough",
            (
                f"in the mean it matches 64-64-64 from {enough} units on"
                if enough
                else "in the mean no width matches 64-64-64"
            )
            + ("" if reached else "; its best seeds none does"),
            f"mean squared error with ReLU, mean (best) of {three['n']} seeds: 64-64-64 {both(three)}; one layer of "
            f"{widths}; the best of one tanh layer {both(tanh)}, with {tanh['scientific']['hidden']}",
        )
    ]


def of_dropout(studies: Data) -> Claims:
    of = studies["universal_approximation_dropout"]
    without = cell_of(of, dropout=0.0)
    with_any = sorted((c for c in of["cells"] if c["scientific"]["dropout"]), key=lambda c: c["scientific"]["dropout"])
    listed = ", ".join(f"{cell['scientific']['dropout']:g}: {cell['mean']:.2g}" for cell in with_any if cell["n"])
    helps = any(cell["n"] and cell["mean"] < without["mean"] for cell in with_any)
    return [
        (
            "dropout helps to generalize",
            "yes" if helps else "no, it hurts: data without noise leave nothing to regularize",
            f"mean squared error without {without['mean']:.2g}; with probability {listed}",
        )
    ]


def of_biases(studies: Data) -> Claims:
    of = studies["bias_initialization"]
    rows: Claims = []
    for depth in (2, 10):
        kept = {
            name: cell_of(of, depth=depth, **scientific)
            for name, scientific in (
                ("zeros", {"bias_init": "zeros"}),
                ("0.01", {"bias_init": "constant", "bias_value": 0.01}),
                ("0.1", {"bias_init": "constant", "bias_value": 0.1}),
                ("1", {"bias_init": "constant", "bias_value": 1.0}),
                ("pytorch_default", {"bias_init": "pytorch_default"}),
            )
        }
        dead = {
            name: [100 * statistics.mean(of["layers"][cell["label"]][when]) for when in ("before", "after")]
            for name, cell in kept.items()
        }
        gains = {name: gain(kept[name], kept["zeros"]) for name in ("0.01", "0.1", "1")}
        alive = min(dead[name][1] for name in gains) < dead["zeros"][1] / 2
        helps = any(low > 0 for _, low, _ in gains.values())
        rows.append(
            (
                f"a small positive bias keeps ReLU units alive, and helps ({depth} hidden layers)",
                f"alive: {verdict(alive)}; helps: {'yes' if helps else 'no gain seen'}",
                "dead units before and after training: "
                + "; ".join(f"{name} {before:.0f} and {after:.0f} %" for name, (before, after) in dead.items())
                + "; accuracy against zeros: "
                + "; ".join(f"{name} {points(difference)}" for name, difference in gains.items()),
            )
        )
    return rows


def of_depth(studies: Data) -> Claims:
    of = studies["vanishing_gradient"]
    ratios = [
        (layers["before"][0] / layers["before"][-2], of["predicted"].get(label))
        for label, layers in of["layers"].items()
        if len(layers["before"]) > 2 and layers["before"][-2] > 0 and layers["before"][0] > 0
    ]
    both = [(math.log10(measured), math.log10(expected)) for measured, expected in ratios if expected]
    error = statistics.median(abs(measured - expected) for measured, expected in both)

    def deepest(activation: str) -> int:
        trained = [c for c in of["cells"] if c["scientific"]["activation"] == activation and (c["mean"] or 0.0) >= 0.9]
        return max((int(cell["scientific"]["depth"]) for cell in trained), default=0)

    reached = {activation: deepest(activation) for activation in ("sigmoid", "tanh", "relu")}
    return [
        (
            "squashing activations vanish with depth, ReLU doesn't",
            f"sigmoid: {verdict(reached['sigmoid'] < 30)}; tanh: {verdict(reached['tanh'] < 30)}",
            "deepest of 1, 2, 5, 10, 20, 30 hidden layers that reaches 90 % with its best initializer: "
            + ", ".join(f"{activation} {depth}" for activation, depth in reached.items()),
        ),
        (
            "mean field foretells the gradient",
            verdict(error < 0.5),
            f"norm of the first layer's gradient over the last hidden one's, at initialization: the median error is a "
            f"factor of {10**error:.2g} over {len(both)} cells, while the ratios span a factor of "
            f"10^{max(m for m, _ in both) - min(m for m, _ in both):.0f}",
        ),
    ]


def depths(studies: Data) -> list[str]:
    """Accuracy, and the gradient at initialization beside mean field, by depth."""
    of = studies.get("vanishing_gradient")
    if of is None:
        return []
    by_depth = sorted({int(cell["scientific"]["depth"]) for cell in of["cells"]})
    kinds = list(dict.fromkeys((c["scientific"]["activation"], c["scientific"]["initializer"]) for c in of["cells"]))
    rows = []
    for activation, initializer in sorted(kinds):
        row = [f"{activation}, {initializer}"]
        for depth in by_depth:
            cell = cell_of(of, depth=depth, activation=activation, initializer=initializer)
            before = of["layers"].get(cell["label"], {}).get("before", [])
            ratio = before[0] / before[-2] if len(before) > 2 and before[-2] > 0 else None
            expected = of["predicted"].get(cell["label"])
            gradient = f"; {power(ratio)} ({power(expected)})" if depth > 1 else ""
            row.append(f"{shown(cell['mean'])}{gradient}")
        rows.append(row)
    return [
        "### Depth, accuracy and gradient",
        "`vanishing_gradient`: mean accuracy of five fresh seeds in percent; then, as a power of ten, the norm of the "
        "first layer's gradient over that of the last hidden layer at initialization, in brackets by mean field.",
        table(("activation, initializer", *(f"depth {depth}" for depth in by_depth)), rows),
    ]


def power(value: float | None) -> str:
    return "-" if not value else f"{round(math.log10(value), 1) + 0.0:+.1f}"


def errors(studies: Data, measured: Mapping[str, float]) -> list[str]:
    """What the published texts have wrong, with the right value and a measurement."""
    fan_in, fan_out = 784, 100
    both = fan_in + fan_out
    rows = [
        (
            '"PyTorch initializes with LeCun by default"',
            f"it draws from U(±1/√fan_in): a variance of 1/(3 fan_in) = {1 / (3 * fan_in):.3g}, a third of LeCun's "
            f"1/fan_in = {1 / fan_in:.3g}",
            f"`torch.nn.Linear(784, 100)`: variance {measured['default_variance']:.3g}, largest weight "
            f"{measured['default_bound']:.4f} (1/√784 = {fan_in**-0.5:.4f})",
        ),
        (
            '"Xavier\'s variance is 1/(fan_in + fan_out)"',
            f"it is 2/(fan_in + fan_out) = {2 / both:.3g}, not {1 / both:.3g}",
            f"`torch.nn.init.xavier_normal_`, 784 to 100: variance {measured['xavier_normal_variance']:.3g}",
        ),
        (
            "Xavier's uniform bound is √(2/(fan_in + fan_out))",
            f"it is √(6/(fan_in + fan_out)) = {math.sqrt(6 / both):.4f}, not {math.sqrt(2 / both):.4f}",
            f"`torch.nn.init.xavier_uniform_`, 784 to 100: largest weight {measured['xavier_uniform_bound']:.4f}",
        ),
        (
            "tables that pick the best setting by test accuracy",
            "the figure that picked is too good: pick on validation, then open the test set once",
            optimism(studies),
        ),
    ]
    return [
        "## Errors in the published texts",
        "Each with the right value, and what is measured: 20 layers drawn by PyTorch itself, 1,568,000 weights.",
        table(("said", "right", "measured"), rows),
    ]


def optimism(studies: Data) -> str:
    """How much better the figure that makes a configuration the best is than the same configuration on fresh seeds."""
    found = []
    for of in studies.values():
        again = [cell for cell in of["cells"] if cell["n"] > 1]
        if of["metric"] == "val_accuracy" and of["trials"]["total"] >= 10 and again:
            first = max(again, key=lambda cell: cell["search_best"])
            found.append((first["search_best"], first["mean"]))
    if not found:
        return "-"
    worse = sum(best > mean for best, mean in found)
    return (
        f"in {worse} of {len(found)} studies here that chose among 10 trials or more, the configuration with the best "
        "figure does worse on fresh seeds, judged on the same images: by "
        f"{100 * statistics.mean(best - mean for best, mean in found):.2f} points on average"
    )


if __name__ == "__main__":
    match sys.argv[1:]:
        case []:
            pass
        case ["collect", *folders] if folders:
            collect(map(Path, folders))
        case _:
            sys.exit(f"expected no argument, or collect FOLDER...; got {' '.join(sys.argv[1:])}")
    PAGE.write_text(page(json.loads(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
