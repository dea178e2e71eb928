"""Mean-field theory of wide random networks: gains, moments under a Gaussian signal, critical points.

An activation is given by its name or as a function, and by the values of its ``fields`` (``negative_slope``). Sources:
Poole et al. 2016; Schoenholz et al. 2017.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from searchlib.errors import StudyError
from searchlib.networks.activations import get_activation
from searchlib.text import encode_for_message

# sigma_b² of the critical initializer, in the order in which they are tried (Schoenholz 2017 draw their maps at 0.05)
BIAS_VARIANCES = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
SIGNALS = tuple(0.01 * math.exp(0.1 * step) for step in range(140))  # q between which chi = 1 is looked for, to 11,000
STEEPEST = 0.99  # V' of a stable point: at 1 exactly, as softshrink's always is, signals come back from one side only
DEPTH = 30  # layers after which chi must be near 1, ...
DRIFT = 0.02  # ... as near as this, also for a signal that enters with half or twice the fixed point's q

Moments = Callable[[float], tuple[float, float]]  # q to (E[phi²], E[phi'²])


def recommended_gain(activation: str | Callable[..., Any], **fields: Any) -> float:
    """The gain for an activation.

    sqrt(2/(1+a²)) for a positively homogeneous one of slope a left of 0 (He et al. 2015, equation 15); the entry's own
    ``gain`` where it has one; otherwise 1/sqrt(E[phi(z)²]) with z standard normal, which keeps a unit second moment as
    the first does. ``torch.nn.init.calculate_gain`` gives the same where it knows the activation, but for SELU.
    StudyError where that isn't a number above 0, or the activation isn't element-wise.
    """
    entry = get_activation(activation)
    if entry.gain is not None:
        return entry.gain
    slope = entry.left_slope(**fields)
    if slope is not None:
        return math.sqrt(2.0 / (1.0 + slope**2))
    second_moment, _ = gaussian_moments(activation, 1.0, **fields)
    if not 0.0 < second_moment < math.inf:
        raise StudyError(
            f"init_gain='recommended': activation {encode_for_message(activation)} has second moment {second_moment:g} "
            "under a standard normal signal, from which no gain follows; give init_gain a number"
        )
    return 1.0 / math.sqrt(second_moment)


def critical_point(activation: str | Callable[..., Any], **fields: Any) -> tuple[float, float]:
    """(sigma_w², sigma_b²) where chi = sigma_w² E[phi'(sqrt(q) z)²] is 1 at a stable fixed point q of the variance map.

    The variance map is V(q) = sigma_w² E[phi(sqrt(q) z)²] + sigma_b² (Poole et al. 2016, equation 3), with q the second
    moment of a layer's pre-activations and z standard normal; chi multiplies the squared gradient in each layer
    (Schoenholz et al. 2017). Stable: |V'(q)| is at most ``STEEPEST``, and chi is within ``DRIFT`` of 1 after ``DEPTH``
    layers, also for a signal that enters with q/2 or 2q. From other fixed points signals go away, and chi with them.

    A positively homogeneous activation (ReLU and its leaky forms, identity) is critical at sigma_b = 0 only, for any q:
    V(q) = q, and sigma_w² = 2/(1+a²). For the others sigma_b² is the first of ``BIAS_VARIANCES`` with such a point.
    StudyError where there is none.
    """
    slope = get_activation(activation).left_slope(**fields)
    if slope is not None:
        return 2.0 / (1.0 + slope**2), 0.0
    return _critical_point(activation, **fields)


@functools.lru_cache(maxsize=256)
def _critical_point(activation: str | Callable[..., Any], **fields: Any) -> tuple[float, float]:
    moments = functools.cache(functools.partial(gaussian_moments, activation, **fields))
    if all(abs(_chi(q, 0.0, moments) - 1.0) < 1e-9 for q in SIGNALS):  # a homogeneous function of the study's own
        return 1.0 / moments(1.0)[1], 0.0
    for bias_variance in BIAS_VARIANCES:
        for q in _fixed_points(moments, bias_variance):
            weight_variance = (q - bias_variance) / moments(q)[0]
            if _is_stable(q, moments, weight_variance, bias_variance):
                return weight_variance, bias_variance
    raise StudyError(
        f"initializer 'critical': activation {encode_for_message(activation)} has no stable critical point at a "
        f"sigma_b² from {BIAS_VARIANCES[0]:g} to {BIAS_VARIANCES[-1]:g}; leave this pair out of the study, or use "
        "'orthogonal' with init_gain='recommended', or 'lsuv' in an MLP"
    )


def _chi(q: float, bias_variance: float, moments: Moments) -> float:
    """chi at q, with the sigma_w² that makes q a fixed point; NaN where none does."""
    second_moment, slope_moment = moments(q)
    return (q - bias_variance) / second_moment * slope_moment if second_moment > 0.0 else math.nan


def _fixed_points(moments: Moments, bias_variance: float) -> Iterator[float]:
    """All q at which chi = 1 with the sigma_w² that makes q a fixed point, from the smallest on."""
    from scipy.optimize import brentq

    def excess(q: float) -> float:
        return _chi(q, bias_variance, moments) - 1.0

    tried = [bias_variance * (1.0 + 1e-9), *(q for q in SIGNALS if q > bias_variance)]
    for left, right in pairwise(tried):
        if excess(left) * excess(right) < 0.0:
            yield float(brentq(excess, left, right, xtol=1e-12, rtol=1e-10))


def _is_stable(q: float, moments: Moments, weight_variance: float, bias_variance: float) -> bool:
    """Whether the variance map comes back to its fixed point q, with chi near 1 on the way: see ``critical_point``."""
    step = 1e-3 * q
    slope = weight_variance * (moments(q + step)[0] - moments(q - step)[0]) / (2.0 * step)
    return abs(slope) <= STEEPEST and all(
        abs(_chi_at_depth(start, moments, weight_variance, bias_variance) - 1.0) <= DRIFT for start in (q, q / 2, 2 * q)
    )


def _chi_at_depth(q: float, moments: Moments, weight_variance: float, bias_variance: float) -> float:
    """chi in layer ``DEPTH`` + 1, where q is the second moment of the first layer's pre-activations."""
    for _ in range(DEPTH):
        q = weight_variance * moments(q)[0] + bias_variance
    return weight_variance * moments(q)[1]


def gaussian_moments(activation: str | Callable[..., Any], q: float, **fields: Any) -> tuple[float, float]:
    """(E[phi(sqrt(q) z)²], E[phi'(sqrt(q) z)²]) for z standard normal, on a fine grid in float64.

    StudyError where the activation isn't element-wise: then they depend on what stands beside z.
    """
    import torch

    entry = get_activation(activation)
    if not entry.is_elementwise(**fields):
        raise StudyError(
            f"activation {encode_for_message(activation)} isn't element-wise, so it has no recommended gain and no "
            "critical point; give init_gain a number, and take another initializer than 'critical'"
        )
    z = torch.linspace(-12.0, 12.0, 16_000, dtype=torch.float64)  # 0 lies midway: a jump of phi' there is met exactly
    density = torch.exp(-0.5 * z**2) / math.sqrt(2.0 * math.pi) * (z[1] - z[0])
    y, slope = entry.curve(math.sqrt(q) * z, **fields)
    return float((y**2 * density).sum()), float((slope**2 * density).sum())
