"""What stands between the linear layers of a stack: activations, which trials share or have alone, and noise by trial.

A function of the study's own is called as plain torch would call it, on one trial's ``[batch, units]``, unless it is
element-wise (``networks.functions``): then, as for a library activation, one call serves all trials that share it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from searchlib.networks import Activation, Kernel, get_activation
from searchlib.study import TrialConfig, encode

EVALUATION_SEED = 0  # of what own functions draw outside training


def activation_key(config: TrialConfig) -> tuple[str, ...]:
    """Trials with equal keys share one call of their activation."""
    fields = get_activation(config.activation).fields
    return (str(encode(config.activation)), *(repr(getattr(config, name)) for name in fields))


@dataclass(frozen=True)
class Shared:
    """Neighbours in a stack, *trials*, that share an activation.

    elementwise: one call of *module* serves all of them; otherwise each needs its own.
    """

    trials: slice
    activation: Activation
    module: nn.Module
    elementwise: bool


def shared_activations(configs: Sequence[TrialConfig]) -> Iterator[Shared]:
    """The trials of a stack by activation, in their order."""
    start = 0
    for stop in range(1, len(configs) + 1):
        if stop == len(configs) or activation_key(configs[stop]) != activation_key(configs[start]):
            config = configs[start]
            activation = get_activation(config.activation)
            elementwise = activation.is_elementwise(config.widths, **config.activation_fields)
            yield Shared(slice(start, stop), activation, config.build_activation().eval(), elementwise)
            start = stop


class HiddenActivations:
    """The activations of a stack's trials, the same in each hidden layer.

    elementwise: by trial, whether its activation is. own: whether any is a function of the study's own.
    """

    def __init__(self, configs: Sequence[TrialConfig]) -> None:
        self.shared = list(shared_activations(configs))
        self.elementwise = [one.elementwise for one in self.shared for _ in configs[one.trials]]
        self.own = any(one.activation.function is not None for one in self.shared)

    def apply(
        self,
        signal: Tensor,
        slopes: Tensor | None,
        noise: Sequence[torch.Generator],
        *,
        training: bool,
        failed: set[int] | None,
    ) -> Tensor:
        """Each trial's activation on ``[K, width, B]``.

        slopes: PReLU's, ``[K, 1]``. noise: of what each trial's function draws. failed: gets the trials whose own
        function raises an exception, whose output is then NaN; without it the exception is passed on.
        """
        parts = []
        for one in self.shared:
            part = signal[one.trials]
            if one.activation.noisy and training:
                parts.append(rrelu(part, noise[one.trials]))
            elif one.elementwise:
                parts.append(_by_element(part, one, slopes))
            else:
                parts.append(one_by_one(part, one.module, noise[one.trials], one.trials.start, failed))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def curves(self, x: Tensor, slopes: Tensor | None) -> Tensor:
        """Each trial's phi(x) at numbers x ``[K, any, n]``; x itself where phi isn't element-wise."""
        parts = [_by_element(x[one.trials], one, slopes) if one.elementwise else x[one.trials] for one in self.shared]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def kernels(self) -> list[tuple[int, int, Kernel, nn.Module]] | None:
        """(start, stop, kernel, module) by activation; None where one has no kernel."""
        found = [(one.trials.start, one.trials.stop, one.activation.build_kernel(), one.module) for one in self.shared]
        slices = [(start, stop, kernel, module) for start, stop, kernel, module in found if kernel]
        return slices if len(slices) == len(found) else None

    def evaluation_noise(self, device: torch.device) -> list[torch.Generator]:
        """What own functions draw from in an evaluation or a trace: the same numbers in each, for every trial."""
        alone = not all(self.elementwise)
        return [torch.Generator(device).manual_seed(EVALUATION_SEED) for _ in self.elementwise if alone]


def _by_element(signal: Tensor, one: Shared, slopes: Tensor | None) -> Tensor:
    if one.activation.trained:
        assert slopes is not None
        return F.prelu(signal.transpose(0, 1), slopes[one.trials].view(-1)).transpose(0, 1)
    output: Tensor = one.module(signal)
    return output


@contextlib.contextmanager
def drawing_from(generator: torch.Generator) -> Iterator[None]:
    """torch's global generator continues *generator*, which in turn is left where the global one stops."""
    device = generator.device
    standard = torch.default_generator
    if device.type == "cuda":
        standard = torch.cuda.default_generators[device.index or 0]
    elif device.type == "mps":
        standard = torch.mps._get_default_mps_generator()
    before = standard.get_state()
    standard.set_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(standard.get_state())
        standard.set_state(before)


@contextlib.contextmanager
def drawing_in_evaluation() -> Iterator[None]:
    """Functions that draw from torch's global generator draw as in each evaluation of a stack."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(EVALUATION_SEED)
        yield


def one_by_one(
    signal: Tensor, function: nn.Module, generators: Sequence[torch.Generator], first: int, failed: set[int] | None
) -> Tensor:
    """An own function on ``[K, width, B]``, called on each trial's ``[B, width]`` as a plain network calls it.

    generators: one a trial, of what it draws from torch's global generator. first: the number of the first trial.
    """
    outputs = []
    for trial, (one, generator) in enumerate(zip(signal, generators, strict=True), start=first):
        try:
            with drawing_from(generator):
                outputs.append(function(one.T.contiguous()).T)
        except Exception:
            if failed is None:
                raise
            failed.add(trial)
            outputs.append(torch.full_like(one, torch.nan))
    return torch.stack(outputs)


def rrelu(signal: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """torch.nn.RReLU in training on ``[K, width, B]``, each trial's noise drawn as the module would alone.

    generators: one a trial; the module itself has only torch's global one.
    """
    return torch.stack([_rrelu(one.T, generator).T for one, generator in zip(signal, generators, strict=True)])


def _rrelu(signal: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.empty_like(signal, memory_format=torch.contiguous_format)
    result: Tensor = torch.ops.aten.rrelu_with_noise(signal.contiguous(), noise, 1 / 8, 1 / 3, True, generator)
    return result


def dropout(signal: Tensor, probabilities: Sequence[float], generators: Sequence[torch.Generator]) -> Tensor:
    """torch.nn.Dropout in training on ``[K, width, B]``, each trial's mask drawn as the module would alone."""
    masks = [
        torch.empty_like(one.T, memory_format=torch.contiguous_format)
        .bernoulli_(1.0 - probability, generator=generator)
        .div_(1.0 - probability)
        for one, probability, generator in zip(signal, probabilities, generators, strict=True)
    ]
    return signal * torch.stack(masks).transpose(1, 2)
