"""Functions of a study's own as activations: whether one is element-wise, and what makes one unfit.

An element-wise function gives each number its own, whatever stands beside it: one call serves all trials of a stack,
and its values on a grid say what it does. Any other function is called on one network's ``[batch, units]`` only, as in
a plain ``torch.nn`` network.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import random
import sys
import types
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

ROWS = 6
UNITS = (1, 5, 16)
TRIED = (  # scale of the inputs, and of the gradient that comes in; whether special numbers are among the inputs
    (1e-2, 1e-3, False),
    (1.0, 1.0, True),
    (100.0, 1e3, False),
)
FOREIGN = {"numpy", "searchlib", "torch", *sys.stdlib_module_names}  # whose functions keep nothing that matters
SPECIAL = (0.0, -0.0, float("inf"), float("-inf"), float("nan"))


# ------------------------------------------------------------------------------------------------------ element-wise


@functools.lru_cache(maxsize=1024)
def is_elementwise(function: Callable[..., Any], widths: tuple[int, ...] = (), **fields: Any) -> bool:
    """Whether a function and its gradient are element-wise and draw no random numbers of torch, by trying it out.

    The values of tensors of several shapes, with and without autograd, are compared with those of the same numbers in
    other places and shapes, and of parts of them. Any doubt, such as an exception, counts as no.

    widths: units of the layers in which it stands; these shapes are tried too. fields: passed to it by keyword.
    """
    import torch

    def phi(x: torch.Tensor) -> torch.Tensor:
        given: torch.Tensor = function(x.clone(), **fields)  # it may work in place
        return given

    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        before = torch.get_rng_state()
        try:
            same = all(
                _agrees_everywhere(phi, units, *tried, generator)
                for units in dict.fromkeys((*UNITS, *widths))
                for tried in TRIED
            )
        except Exception:
            return False
        return same and torch.equal(before, torch.get_rng_state())  # it may draw, and seldom use what it drew


def _agrees_everywhere(
    phi: Callable[[torch.Tensor], torch.Tensor],
    units: int,
    scale: float,
    gradient_scale: float,
    special: bool,
    generator: torch.Generator,
) -> bool:
    """Whether ROWS times *units* numbers have the same values and gradients wherever they stand."""
    import torch

    inputs, gradient = torch.randn(2, ROWS * units, generator=generator, dtype=torch.float64)
    inputs, gradient = scale * inputs, gradient_scale * gradient
    if special:
        some = inputs[::3]
        some.copy_(torch.tensor(SPECIAL, dtype=torch.float64).repeat(len(some))[: len(some)])
    whole = _tried(phi, inputs.view(ROWS, units), gradient.view(ROWS, units)).flatten(1)
    least = 1e-12 * max(scale, gradient_scale)
    for number, places in enumerate(_places(ROWS, units, generator)):
        given, back = inputs[places], gradient[places]
        if number % 2 and places.dim() > 1:  # in a memory layout as a stack's signal has it
            given = given.transpose(-1, -2).contiguous().transpose(-1, -2)
        if not torch.allclose(_tried(phi, given, back), whole[:, places], rtol=1e-9, atol=least, equal_nan=True):
            return False
    return True


def _tried(phi: Callable[[torch.Tensor], torch.Tensor], inputs: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """phi's values with autograd, its gradient, and its values without autograd.

    ValueError where they have another shape or dtype.
    """
    import torch

    with torch.no_grad():
        plain = phi(inputs)
    with torch.enable_grad():
        start = inputs.clone().requires_grad_()
        values = phi(start)
        slope = torch.zeros_like(inputs)
        if values.requires_grad:
            (slope,) = torch.autograd.grad(values, start, gradient, materialize_grads=True)
    for found in (plain, values):
        if found.shape != inputs.shape or found.dtype != inputs.dtype:
            raise ValueError
    return torch.stack([values.detach(), slope, plain])


def _places(rows: int, units: int, generator: torch.Generator) -> Iterator[torch.Tensor]:
    """Places in a tensor of *rows* times *units* numbers: all in other shapes and orders, and some of them."""
    import torch

    count = rows * units
    ordered, mixed = torch.arange(count).view(rows, units), torch.randperm(count, generator=generator)
    yield mixed
    yield mixed.view(rows, units)
    yield ordered.reshape(units, rows)
    yield ordered[None]
    yield torch.randint(count, (3, rows, units), generator=generator)  # as in a stack of three
    yield torch.randint(count, (2, 3 * rows, units), generator=generator)
    yield ordered[:1]
    yield ordered[1:3]
    yield ordered[:, -1:]
    yield mixed[: count // 2]
    yield mixed[:1]
    yield mixed[0]


def _other_random_states() -> list[Any]:
    """The states of the global generators of Python and, if it is in use, NumPy, as values to compare."""
    numpy = sys.modules.get("numpy")
    return [random.getstate(), content_of(numpy.random.get_state()) if numpy else None]


# ------------------------------------------------------------------------------------------------------------ unfit


def where(function: Callable[..., Any]) -> str:
    """``file:line`` of a function that was written in Python, "" otherwise."""
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else ""


def unfit(function: Callable[..., Any], inputs: torch.Tensor) -> str:
    """What keeps a function from training as an activation as it would in a plain network; "" where nothing is found.

    inputs: a batch of signals, ``[batch, units]``. An exception of the function is passed on.
    """
    import torch

    def call() -> tuple[Any, torch.Tensor]:
        torch.manual_seed(0)
        start = inputs.detach().clone().requires_grad_()
        return function(start.clone()), start

    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        others = _other_random_states()
        values, start = call()
        if not isinstance(values, torch.Tensor):
            return f"returns {_kind(values)}; expected a tensor, of its input's shape"
        if values.shape != inputs.shape:
            return f"returns shape {[*values.shape]} for {[*inputs.shape]}; expected its input's shape"
        if values.dtype != inputs.dtype or values.device != inputs.device:
            return (
                f"returns {values.dtype} on {values.device} for {inputs.dtype} on {inputs.device}; expected its "
                "input's dtype and device"
            )
        drawn = torch.get_rng_state()
        slope = None
        if values.requires_grad:
            (slope,) = torch.autograd.grad(values.sum(), start, allow_unused=True)
        if slope is None:
            return (
                "loses the gradient, so that the layers before it never learn; expected differentiable operations of "
                "torch on its input (no detach, numpy, comparison or no_grad alone)"
            )
        if not torch.equal(drawn, torch.get_rng_state()):
            return "draws random numbers in its backward pass; expected it to draw in its forward pass only"
        kept = _kept(function)
        again, _ = call()
        if _other_random_states() != others:
            return "draws from numpy's or Python's random numbers; expected torch's, which follow from a trial's seed"
        if not torch.allclose(again, values, rtol=1e-4, atol=1e-6, equal_nan=True):
            return (
                "gives another result for the same input and seed; expected no state and no generator of its own, "
                "which the trials of a stack would share"
            )
        changed = [name for name, content in _kept(function).items() if kept.get(name) != content]
        if changed:
            return f"changes {changed[0]} in each call; expected no state, which the trials of a stack would share"
    return ""


def _kind(value: Any) -> str:
    return "None" if value is None else f"a {type(value).__name__}"


def _kept(function: Callable[..., Any]) -> dict[str, bytes]:
    """What a function may change beyond its result, by name, as hashes: the variables outside that it uses."""
    kept: dict[str, bytes] = {}
    waiting: list[Any] = [function]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        for name, value in _used(one):
            if isinstance(value, types.FunctionType):
                if value.__module__.split(".")[0] not in FOREIGN:
                    waiting.append(value)
            elif not isinstance(value, (types.ModuleType, type)):
                kept[name] = content_of(value)
    return kept


def content_of(value: Any, within: frozenset[int] = frozenset()) -> bytes:
    """A hash of what a value holds: of numbers, text, arrays, tensors, containers, and objects with attributes.

    What else there is, such as a file or an object of a C extension, has no content here.
    """
    import numpy as np
    import torch

    if id(value) in within:  # it holds itself
        return b""
    inside = within | {id(value)}
    parts: list[Any] = [type(value).__qualname__]
    if isinstance(value, np.ndarray):
        parts += [value.dtype.str, value.shape, value.tobytes()]
    elif isinstance(value, torch.Tensor):
        numbers = value.detach().cpu().contiguous().view(-1).view(torch.uint8)
        parts += [value.dtype, value.shape, numbers.numpy().tobytes()]
    elif isinstance(value, (str, bytes, bool, int, float, complex, type(None))):
        parts.append(value)
    elif isinstance(value, dict):
        parts += [(content_of(key, inside), content_of(item, inside)) for key, item in value.items()]
    elif isinstance(value, (list, tuple)):
        parts += [content_of(item, inside) for item in value]
    elif isinstance(value, (set, frozenset)):
        parts += sorted(content_of(item, inside) for item in value)
    elif not isinstance(value, (types.FunctionType, types.ModuleType, type)):
        parts.append(content_of(getattr(value, "__dict__", None), inside))
    return hashlib.sha256(repr(parts).encode()).digest()


def _used(function: Any) -> Iterator[tuple[str, Any]]:
    """The variables outside that a function names: global ones, those of functions around it, attributes, defaults."""
    code = getattr(function, "__code__", None)
    if isinstance(code, types.CodeType):
        for name in _names(code):
            if name in function.__globals__:
                yield name, function.__globals__[name]
        yield from inspect.getclosurevars(function).nonlocals.items()
        yield "its defaults", [function.__defaults__, function.__kwdefaults__]
    yield "its attributes", getattr(function, "__dict__", None)
    yield "its object", getattr(function, "__self__", None)


def _names(code: types.CodeType) -> Sequence[str]:
    inner = [name for part in code.co_consts if isinstance(part, types.CodeType) for name in _names(part)]
    return [*code.co_names, *inner]
