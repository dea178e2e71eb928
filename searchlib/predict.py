"""The champion of a study on one image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from searchlib.data import get_dataset, load_train, split
from searchlib.errors import StudyError
from searchlib.registry import predict as champion_decides
from searchlib.tracking import Tracker

if TYPE_CHECKING:
    from searchlib.study import Study

__all__ = ["Decision", "predict"]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Soft decisions by class, most likely first, and the true class."""

    index: int
    truth: str
    soft: tuple[tuple[str, float], ...]

    def lines(self) -> Iterator[str]:
        """The decision for a terminal."""
        chosen = self.soft[0][0]
        yield f"validation image {self.index}: {chosen} ({'right' if chosen == self.truth else f'it is {self.truth}'})"
        for name, probability in self.soft:
            yield f"  {name:12} {probability:7.4f} {'#' * round(40 * probability)}"


def predict(study: Study, index: int, *, tracking_uri: str | None, data_root: Path) -> Decision:
    """The registered champion on example *index* of the validation split (the test set stays sealed).

    Fetches and creates nothing: DataError where the training data aren't there, TrackingError without a champion.
    """
    dataset = get_dataset(study.dataset)
    if dataset.task != "classification":
        raise StudyError(f"study {study.name!r} is a regression: predict shows the classes of a classification")
    examples = split(
        load_train(dataset, data_root, fetch=False), seed=study.split_seed, fraction=study.validation_fraction
    ).validation
    if index >= len(examples):
        raise StudyError(
            f"--index {index}: the validation split has {len(examples):,} images, 0 to {len(examples) - 1}"
        )
    with Tracker(study, tracking_uri) as tracker:
        soft = champion_decides(tracker, examples.inputs[index : index + 1].numpy())[0]
    ranked = sorted(zip(dataset.classes, map(float, soft), strict=True), key=lambda item: -item[1])
    return Decision(index=index, truth=dataset.classes[int(examples.targets[index])], soft=tuple(ranked))
