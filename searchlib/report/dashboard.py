"""The study's page in the Optuna Dashboard: the answer as its note, and the report's main figures beside Optuna's."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

from searchlib.analysis import Findings
from searchlib.report.exhibits import Shown
from searchlib.stores import StoredStudy

WRITTEN = "searchlib:dashboard"  # study system attribute: hashes of what was last written, by part


def show(stored: StoredStudy, findings: Findings, exhibits: Sequence[Shown]) -> list[str]:
    """Put the note and the exhibits meant for it on the page of a study; the names of the parts that were written.

    What is there already isn't written again, as a journal keeps every version. A note that was edited in the
    dashboard since is left alone.
    """
    import optuna_dashboard

    optuna_study = stored.search
    if optuna_study is None:
        return []
    storage, number = optuna_study._storage, optuna_study._study_id
    known = dict(storage.get_study_system_attrs(number).get(WRITTEN, {}))
    before = dict(known)
    text = note(findings)
    current = optuna_dashboard.get_note(optuna_study)
    ours = not current or _hash(current) in (known.get("note"), _hash(text))  # a kill may have come before the hash
    if ours and _hash(text) != known.get("note"):
        optuna_dashboard.save_note(optuna_study, text)
        known["note"] = _hash(text)
    for one in exhibits:
        if one.drawn is None or not one.exhibit.dashboard:
            continue
        figure = one.drawn.plot.figure().update_layout(title_text=one.title, margin_t=70)
        digest = _hash(json.dumps(figure.to_plotly_json(), sort_keys=True, default=str))
        if digest != known.get(one.name):
            optuna_dashboard.save_plotly_graph_object(optuna_study, figure, graph_object_id=f"searchlib-{one.name}")
            known[one.name] = digest
    if known != before:
        storage.set_study_system_attr(number, WRITTEN, known)
    return [name for name in known if known[name] != before.get(name)]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def note(findings: Findings) -> str:
    """Question, answer, winner, test result and where the rest is, as Markdown."""
    study, winner, test = findings.study, findings.winner, findings.test_result
    lines = [f"## {_escaped(findings.question)}", "", _escaped(findings.answer), ""]
    if winner:
        best = winner.pick or winner
        settings = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in best.nuisance.items()
        )
        lines.append(
            f"- **Winner**: {_escaped(winner.label)}{f' ({_escaped(settings)})' if settings else ''}, "
            f"trial {best.trial}"
        )
    if test and test.accuracy is not None:
        lines.append(
            f"- **Test set**: accuracy {test.accuracy:.4f} (95 % interval {test.low:.4f} to {test.high:.4f}), "
            f"opened once, {test.evaluated_at}"
        )
    elif test:
        lines.append(f"- **Test set**: loss {test.loss:.3g}, opened once, {test.evaluated_at}")
    else:
        lines.append("- **Test set**: claimed, no result yet" if findings.test_ledger else "- **Test set**: sealed")
    if findings.replicates and findings.replicates.runs:
        lines.append(f"- **Replicates**: {findings.replicates.runs} runs, in study `{study}.replicates`")
    lines += [
        f"- **Report**: `searchlib report --study {study}`; also an artifact of the parent run in MLflow",
        f"- **Curves and diagnostics of each trial**: MLflow, experiment `{study}`; a trial's user attribute "
        "`mlflow_run_id` names its run",
        "",
    ]
    return "\n".join(lines)


def _escaped(text: str) -> str:
    """Plain text inside Markdown that may hold HTML."""
    return re.sub(r"([\\`*_\[\]<>|#~$])", r"\\\1", text.replace("&", "&amp;"))
