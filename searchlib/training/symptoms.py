"""What diagnostics mean: a history of snapshots in words.

The words judge by layers, as mean-field theory does: a factor a layer, for signals on the way in and for gradients on
the way back (Poole et al. 2016, Schoenholz et al. 2017).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

from searchlib.networks import get_activation
from searchlib.study import TrialConfig
from searchlib.text import encode_for_message

SATURATED = 0.05  # |phi'| below this share of its maximum counts as saturated (inactive, for ReLU and its kin)

# What counts as a finding, and why.
ALIKE = 0.1  # share of units equal to another: below, a few units that sparse weights made equal by chance
SHRINKS = 100.0  # gradient by layer: at one learning rate the slowest layer needs 100 epochs for another's one
SIGNAL_SHRINKS = 1e4  # second moment by layer: the same 100 times as an amplitude
OUTPUT_DEVIATION = 30.0  # outputs so far apart make softmax certain, and wrong, to e^-30
SQUASHED = 0.5  # share of saturated pairs of a squashing activation: for most examples most units pass no gradient
STUCK = 0.95  # the same after training: good networks use their tails (FashionMNIST: up to 0.85 at their best rates)
INACTIVE = 0.97  # share of inactive pairs where half is normal (ReLU and its kin)
DEAD = 0.6  # share of dead units; in a deep healthy ReLU network the share nears a half, as examples become alike
LARGE_UPDATE = 0.1  # a step that changes weights by a tenth; about a thousandth is usual
JUMP = 0.2  # rise since initialization of a saturated or dead share that a large step is blamed for
LEARNT = 0.1  # of the gradient at initialization: a tenth is left where an epoch has done its work
SMALL_UPDATE = 1e-5  # a thousand such steps change the weights by no more than one per cent


def diagnose_words(
    config: TrialConfig, history: list[dict[str, float]], *, diverged_step: int | None = None
) -> list[str]:
    """What the snapshots of one training say, in words, worst first; empty for a healthy network.

    history: as ``Watch.measure`` gave them, at initialization, then after each epoch; may be short.
    diverged_step: the step, from 1, at which the loss became infinite or NaN.
    """
    first = history[0] if history else {}
    exploding = _exploding(first)
    findings: list[str] = []
    if diverged_step is not None:
        reason = (
            "signals explode from initialization on"
            if exploding
            else f"learning rate {config.learning_rate:g} too large"
        )
        findings.append(f"diverged at step {diverged_step}: the loss became infinite or NaN; likely reason: {reason}")
    alike = _alike_words(config, history)
    if alike:  # what else is wrong follows from it
        return findings + alike
    findings += exploding
    vanishing = _vanishing(first)
    findings += vanishing
    saturated = _saturated(config, history)
    findings += saturated
    dead = _worst(history, "dead", DEAD)
    if dead:
        share, layer, when = dead
        findings.append(f"{share} of layer {layer}'s units dead {when}: no example of the probe batch reaches them")
    if diverged_step is None:
        findings += _learning_rate(config, history, stopped=bool(vanishing or saturated or dead))
    return findings


def _by_layer(snapshot: dict[str, float], statistic: str) -> dict[int, float]:
    found = {
        int(name.partition("/layer")[2]): value for name, value in snapshot.items() if name.startswith(f"{statistic}/")
    }
    return dict(sorted(found.items()))


def _alike_words(config: TrialConfig, history: list[dict[str, float]]) -> list[str]:
    """Units equal at initialization, and still equal in every later snapshot."""
    if not history:
        return []
    name = encode_for_message(config.initializer)
    for layer, share in _by_layer(history[0], "symmetric").items():
        lasting = min(snapshot.get(f"symmetric/layer{layer}", share) for snapshot in history)
        if lasting > ALIKE:
            units = config.widths[layer - 1]
            count = f"all {units}" if lasting == 1.0 else f"{round(lasting * units)} of {units}"
            return [f"{count} units of layer {layer} are equal: the initializer {name} doesn't break symmetry"]
    return []


def _exploding(snapshot: dict[str, float]) -> list[str]:
    gradients = _by_layer(snapshot, "gradient_norm")
    if _by_layer(snapshot, "weight_std") and not gradients:
        return ["signals overflow at initialization: exploding"]
    signals = _by_layer(snapshot, "preactivation_variance")
    last = max(signals, default=0)
    found = []
    if last and math.sqrt(signals[last]) > OUTPUT_DEVIATION:
        found.append(
            f"outputs have deviation {_count(math.sqrt(signals[last]))} at initialization, where about 1 is wanted: "
            "exploding"
        )
    grown, layers = _ratio(gradients)
    if SHRINKS < grown < math.inf:
        a_layer = grown ** (1 / (layers - 1))
        found.append(
            f"gradient grows {_count(grown)} times from layer {layers} to layer 1 at initialization, "
            f"{_count(a_layer)} times a layer: exploding"
        )
    return found


def _vanishing(snapshot: dict[str, float]) -> list[str]:
    gradients, signals = _by_layer(snapshot, "gradient_norm"), _by_layer(snapshot, "second_moment")
    for by_layer in (signals, gradients):
        grown, layers = _ratio(by_layer)
        if grown == math.inf:
            return [f"no signal reaches layer {layers} at initialization: vanishing"]
    grown, layers = _ratio(gradients)
    if layers > 1 and grown == 0.0:
        return ["no gradient reaches layer 1 at initialization: vanishing"]
    if layers > 1 and grown < 1 / SHRINKS:
        a_layer = grown ** (-1 / (layers - 1))
        return [
            f"gradient shrinks {_count(1 / grown)} times from layer {layers} to layer 1 at initialization, "
            f"{_count(a_layer)} times a layer: vanishing"
        ]
    grown, layers = _ratio(signals)
    if layers > 1 and grown > SIGNAL_SHRINKS:
        a_layer = grown ** (1 / (layers - 1))
        return [
            f"signal's second moment shrinks {_count(grown)} times from layer 1 to layer {layers} at initialization, "
            f"{_count(a_layer)} times a layer: vanishing"
        ]
    return []


def _ratio(by_layer: dict[int, float]) -> tuple[float, int]:
    """Value of layer 1 over that of the last one, and the last one's number; (1, 0) where there is no such pair."""
    last = max(by_layer, default=0)
    if last < 2 or 1 not in by_layer or (by_layer[last] == 0.0 == by_layer[1]):
        return 1.0, 0
    return (by_layer[1] / by_layer[last] if by_layer[last] > 0.0 else math.inf), last


def _saturated(config: TrialConfig, history: list[dict[str, float]]) -> list[str]:
    squashes = _squashes(config)
    if not squashes:
        found = _worst(history, "saturated", INACTIVE)
        dead = found and _by_layer(history[0], "dead")
        return [f"{found[0]} of layer {found[1]}'s activity cut off {found[2]}"] if found and not dead else []
    found = _worst(history[:1], "saturated", SQUASHED) or _worst(history[1:], "saturated", STUCK, start=1)
    if not found:
        return []
    share, layer, when = found
    name = encode_for_message(config.activation).strip("'")
    return [
        f"{share} of layer {layer}'s activations saturated {when} ({name}' below {_percent(SATURATED)} of its maximum)"
    ]


def _worst(
    history: list[dict[str, float]], statistic: str, threshold: float, *, start: int = 0
) -> tuple[str, int, str] | None:
    """(share, layer, when) at the first snapshot where the statistic of some layer is above *threshold*."""
    for epoch, snapshot in enumerate(history, start=start):
        found = _by_layer(snapshot, statistic)
        layer = max(found, key=lambda number: found[number], default=0)
        if layer and found[layer] > threshold:
            return (
                _percent(found[layer]),
                layer,
                f"after epoch {epoch}" if epoch else "at initialization",
            )
    return None


def _learning_rate(config: TrialConfig, history: list[dict[str, float]], *, stopped: bool) -> list[str]:
    if len(history) < 2:
        return []
    updates = _by_layer(history[1], "update_ratio")
    squashes = _squashes(config)
    for statistic, limit in (("dead", DEAD), ("saturated", STUCK if squashes else INACTIVE)):
        for snapshot in history[1:]:
            for layer, share in _by_layer(snapshot, statistic).items():
                start = _by_layer(history[0], statistic).get(layer, 1.0)
                if share > limit and share - start > JUMP:
                    kind = "inactive" if statistic == "saturated" and not squashes else statistic
                    return [
                        f"learning rate {config.learning_rate:g} likely too large: layer {layer}'s {kind} share rose "
                        f"from {_percent(start)} to {_percent(share)}"
                    ]
    layer = max(updates, key=lambda number: updates[number], default=0)
    if layer and updates[layer] > LARGE_UPDATE:
        return [
            f"learning rate {config.learning_rate:g} likely too large: the last step of epoch 1 changed layer "
            f"{layer}'s weights by {_percent(updates[layer])}"
        ]
    before, after = (sum(_by_layer(snapshot, "gradient_norm").values()) for snapshot in history[:2])
    learnt = after < LEARNT * before  # then small steps mean that little is left to learn
    if layer and updates[layer] < SMALL_UPDATE and not stopped and not learnt:
        return [
            f"learning rate {config.learning_rate:g} likely too small: a step changed weights by "
            f"{updates[layer]:.1g} of their size at most in epoch 1"
        ]
    return []


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _count(value: float) -> str:
    if value < 100.0:
        return f"{value:.2g}"
    return f"{value:,.0f}" if value < 1e6 else f"10^{math.log10(value):.0f}"


@functools.lru_cache(maxsize=256)
def _squashes_cached(activation: str | Callable[..., Any], **fields: Any) -> bool:
    import torch

    entry = get_activation(activation)
    if not entry.is_elementwise(**fields):
        return False
    x = torch.tensor([*torch.linspace(-5.0, 5.0, 1001).tolist(), -30.0, 30.0], dtype=torch.float64)
    slope = entry.curve(x, **fields)[1].abs()
    flat = slope < SATURATED * slope.max()
    centre = x.abs() < 0.7  # half of a standard normal signal
    return bool(flat[-2:].all() and not flat[centre].any())


def _squashes(config: TrialConfig) -> bool:
    """Whether an activation is flat on both sides and steep between: then saturation is a state, not its nature."""
    return _squashes_cached(config.activation, **config.activation_fields)
