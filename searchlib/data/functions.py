"""A function as a data set: a regression of inputs drawn at random."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from searchlib.data.dataset import Dataset, Examples, Part, is_finite
from searchlib.errors import DataError, StudyError
from searchlib.seeds import derive_seed

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class FunctionPart:
    """The training or the test part of ``function_dataset``, drawn anew at each call; always the same."""

    function: Callable[[torch.Tensor], torch.Tensor]
    count: int
    low: float
    high: float
    noise: float
    seed: int  # of this part
    inputs: int
    outputs: int

    def __call__(self, root: Path) -> Examples:
        import torch

        generator = torch.Generator().manual_seed(self.seed)
        unit = torch.rand(self.count, self.inputs, generator=generator, dtype=torch.float64)
        inputs = (self.low + (self.high - self.low) * unit).float()
        noise = self.noise * torch.randn(self.count, self.outputs, generator=generator, dtype=torch.float64)
        return Examples(inputs=inputs, targets=(self.values(inputs).double() + noise).float())

    def values(self, inputs: torch.Tensor) -> torch.Tensor:
        """The function without noise: float32 ``[N, inputs]`` to float32 ``[N, outputs]``."""
        import torch

        name, count = self.function.__name__, len(inputs)
        try:
            values = self.function(inputs.clone())
        except Exception as error:
            said = " ".join(str(error).split())
            raise DataError(
                f"function {name} failed: {type(error).__name__}: {said}; it gets {list(inputs.shape)}"
            ) from error
        shapes = [(count, self.outputs)] + [(count,)] * (self.outputs == 1)
        if not isinstance(values, torch.Tensor) or tuple(values.shape) not in shapes:
            found = list(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
            raise DataError(f"function {name} gave {found}, expected a tensor {[count, self.outputs]}")
        if not values.isfinite().all():
            raise DataError(f"function {name} gives NaN or infinity between {self.low:g} and {self.high:g}")
        return values.detach().float().view(count, self.outputs)


def function_dataset(
    name: str,
    function: Callable[[torch.Tensor], torch.Tensor],
    *,
    low: float = 0.0,
    high: float = 1.0,
    train: int = 6_000,
    test: int = 1_000,
    noise: float = 0.0,
    seed: int = 0,
    inputs: int = 1,
    outputs: int = 1,
) -> Dataset:
    """A regression: *function*, given in the study file, of inputs drawn uniformly from [low, high]^inputs.

    function: float32 ``[N, inputs]`` to ``[N]`` or ``[N, outputs]``, by torch; it is part of the study's identity, as
    are the other arguments. noise: deviation of the normal noise on the targets of both parts; no network's loss
    can be expected below its square. The *train* examples, from which the validation split is cut, and the *test*
    examples are independent draws. The input scalings 'unit' and 'symmetric' map low to 0 or -1 and high to 1.
    """
    if not callable(function) or not isinstance(getattr(function, "__name__", None), str):
        raise StudyError(f"{name}: function {function!r}; expected a function of the study file (def or lambda)")
    if around := getattr(getattr(function, "__code__", None), "co_freevars", ()):
        raise StudyError(
            f"{name}: function {function.__name__} reads {', '.join(around)} of the function around it, which isn't "
            "part of a study's identity; write a constant of the study file instead"
        )
    if not is_finite(low) or not is_finite(high) or not low < high:
        raise StudyError(f"{name}: low {low!r}, high {high!r}; expected low below high")
    if not is_finite(noise) or noise < 0:
        raise StudyError(f"{name}: noise {noise!r}; expected a standard deviation of 0 or more")
    counts = {"train": (train, 2), "test": (test, 1), "seed": (seed, 0), "inputs": (inputs, 1), "outputs": (outputs, 1)}
    for key, (value, least) in counts.items():
        if type(value) is not int or value < least:
            raise StudyError(f"{name}: {key} {value!r}; expected a whole number of {least} or more")

    def part(kind: Part, count: int) -> FunctionPart:
        return FunctionPart(
            function=function,
            count=count,
            low=low,
            high=high,
            noise=noise,
            seed=derive_seed(seed, "function", kind),
            inputs=inputs,
            outputs=outputs,
        )

    return Dataset(
        name=name,
        task="regression",
        outputs=outputs,
        shape=(inputs,),
        scale=float(high),
        low=float(low),
        train=part("train", train),
        test=part("test", test),
        settings={
            "function": function.__name__,
            "low": float(low),
            "high": float(high),
            "noise": float(noise),
            **{key: value for key, (value, _) in counts.items()},
        },
    )
