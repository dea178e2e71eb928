"""The champion of a study on one example of the validation split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from searchlib.analysis import drawn_split, split_number
from searchlib.data import get_dataset, picture
from searchlib.errors import StudyError
from searchlib.results.champion import predict as champion_decides
from searchlib.results.champion import registered_champion
from searchlib.stores import Stores, Tracker
from searchlib.study import Study

SHADES = " .:-=+*#%@"  # of a picture, from the smallest raw value to the largest
COLUMNS = 78  # for a picture
FEW = 8  # inputs of a regression that are shown


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Soft decisions by class, most likely first, and the true class; image: its rows, from 0 to 1, if it is one."""

    index: int
    truth: str
    soft: tuple[tuple[str, float], ...]
    image: Sequence[Sequence[float]] = ()

    def lines(self) -> Iterator[str]:
        """The decision for a terminal."""
        chosen = self.soft[0][0]
        what = "image" if self.image else "example"
        yield f"validation {what} {self.index}: {chosen} ({'right' if chosen == self.truth else f'it is {self.truth}'})"
        for row in self.image:
            shades = (SHADES[min(int(value * len(SHADES)), len(SHADES) - 1)] for value in row)
            yield f"  {''.join(2 * shade for shade in shades)}".rstrip()
        for name, probability in self.soft:
            yield f"  {name:12} {probability:7.4f} {'#' * round(40 * probability)}"


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What the champion of a regression gives, beside the target; inputs: the raw ones, if they are few."""

    index: int
    inputs: tuple[float, ...]
    target: tuple[float, ...]
    prediction: tuple[float, ...]

    def lines(self) -> Iterator[str]:
        """The estimate for a terminal."""
        yield f"validation example {self.index}"
        rows = (("input", self.inputs), ("target", self.target), ("prediction", self.prediction))
        for name, values in rows:
            if values:
                yield f"  {name:12} {', '.join(f'{value:.6g}' for value in values)}"
        squares = [(one - other) ** 2 for one, other in zip(self.prediction, self.target, strict=True)]
        yield f"  {'squared error':12} {sum(squares) / len(squares):.3g}"


def predict(study: Study, stores: Stores, index: int) -> Decision | Estimate:
    """The registered champion on example *index* of the validation split (the test set stays sealed).

    Fetches and creates nothing: DataError where the training data aren't there, TrackingError without a champion.
    """
    dataset = get_dataset(study.dataset)
    examples = stores.examples(study, fetch=False)
    with Tracker(study, stores) as tracker:
        champion = registered_champion(tracker) if study.replicate_split or study.search_split else None
        if champion:  # it was trained on some of the study's validation examples
            number = split_number(study, search=champion.search, replicate=champion.replicate)
            examples = drawn_split(study, examples, number)
        validation = examples.validation
        if index >= len(validation):
            raise StudyError(
                f"--index {index}: the validation split has {len(validation):,} examples, 0 to {len(validation) - 1}"
            )
        inputs, target = validation.inputs[index : index + 1], validation.targets[index]
        outputs = [float(value) for value in champion_decides(tracker, inputs.numpy())[0]]
    if len(outputs) != dataset.outputs:  # registered before outputs were checked
        raise StudyError(f"the champion has {len(outputs)} outputs for {dataset.outputs} of the data set")
    if dataset.task == "regression":
        shown = tuple(inputs.flatten().tolist()) if dataset.inputs <= FEW else ()
        return Estimate(index=index, inputs=shown, target=tuple(target.tolist()), prediction=tuple(outputs))
    ranked = sorted(zip(dataset.classes, outputs, strict=True), key=lambda item: -item[1])
    return Decision(
        index=index,
        truth=dataset.classes[int(target)],
        soft=tuple(ranked),
        image=picture(dataset, inputs[0], most=COLUMNS // 2),
    )
