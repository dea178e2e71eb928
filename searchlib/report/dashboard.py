"""The study's page in the Optuna Dashboard: the answer as its note, and the report's main figures beside Optuna's."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from searchlib.stores import StoredStudy

__all__ = ["note", "show"]

WRITTEN = "searchlib:dashboard"  # study system attribute: hashes of what was last written, by part


def show(stored: StoredStudy, data: Mapping[str, Any], figures: Mapping[str, tuple[str, Figure]]) -> list[str]:
    """Put note and figures on the page of a study; the names of the parts that were written.

    data: what ``analysis.analyze`` returns. figures: name -> (title, figure). What is there already isn't written
    again, as a journal keeps every version; a note that somebody has edited in the dashboard since is left alone.
    """
    import optuna_dashboard

    optuna_study = stored.search
    if optuna_study is None:
        return []
    storage, number = optuna_study._storage, optuna_study._study_id
    known = dict(storage.get_study_system_attrs(number).get(WRITTEN, {}))
    before = dict(known)
    text = note(data)
    current = optuna_dashboard.get_note(optuna_study)
    ours = not current or _hash(current) in (known.get("note"), _hash(text))  # a kill may have come before the hash
    if ours and _hash(text) != known.get("note"):
        optuna_dashboard.save_note(optuna_study, text)
        known["note"] = _hash(text)
    for name, (title, figure) in figures.items():
        titled = type(figure)(figure).update_layout(title_text=title, margin_t=70)
        digest = _hash(json.dumps(titled.to_plotly_json(), sort_keys=True, default=str))
        if digest != known.get(name):
            optuna_dashboard.save_plotly_graph_object(optuna_study, titled, graph_object_id=f"searchlib-{name}")
            known[name] = digest
    if known != before:
        storage.set_study_system_attr(number, WRITTEN, known)
    return [name for name in known if known[name] != before.get(name)]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def note(data: Mapping[str, Any]) -> str:
    """Question, answer, winner, test result and where the rest is, as Markdown."""
    lines = [f"## {_escaped(data['question'])}", "", _escaped(data["answer"]), ""]
    if data["winner"]:
        settings = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in data["winner"]["nuisance"].items()
        )
        lines.append(
            f"- **Winner**: {_escaped(data['winner']['label'])}{f' ({_escaped(settings)})' if settings else ''}, "
            f"trial {data['winner']['trial']}"
        )
    if data["test"] and data["test"]["accuracy"] is not None:
        test = data["test"]
        lines.append(
            f"- **Test set**: accuracy {test['accuracy']:.4f} (95 % interval {test['low']:.4f} to {test['high']:.4f}), "
            f"opened once, {test['evaluated_at']}"
        )
    elif data["test"]:
        lines.append(f"- **Test set**: loss {data['test']['loss']:.3g}, opened once, {data['test']['evaluated_at']}")
    else:
        lines.append("- **Test set**: sealed" if not data["test_ledger"] else "- **Test set**: claimed, no result yet")
    if data["replicates"] and data["replicates"]["runs"]:
        lines.append(f"- **Replicates**: {data['replicates']['runs']} runs, in study `{data['study']}.replicates`")
    lines += [
        f"- **Report**: `searchlib report --study {data['study']}`; also an artifact of the parent run in MLflow",
        f"- **Curves and diagnostics of each trial**: MLflow, experiment `{data['study']}`; a trial's user attribute "
        "`mlflow_run_id` names its run",
        "",
    ]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Plain text inside Markdown that may hold HTML."""
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", text.replace("&", "&amp;"))
