"""Mean-field theory of wide random networks: gains, moments under a Gaussian signal, critical points.

An activation is given by its name or as a function, and by the values of its ``fields`` (``negative_slope``). Sources:
Poole et al. 2016; Schoenholz et al. 2017.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from searchlib.errors import StudyError
from searchlib.networks.activations import get_activation
from searchlib.text import encode_for_message

CRITICAL_BIAS_VARIANCE = 0.05  # sigma_b^2 of the critical initializer (Schoenholz 2017 draw their maps at this value)


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
    """(sigma_w², sigma_b²) at which chi = sigma_w² E[phi'(sqrt(q) z)²] = 1 at the fixed point q of the variance map.

    A positively homogeneous activation (ReLU and its leaky forms, identity) is critical at sigma_b = 0 only, where
    sigma_w² = 2/(1+a²). For the others sigma_b² is ``CRITICAL_BIAS_VARIANCE``. StudyError where no point is found.
    """
    slope = get_activation(activation).left_slope(**fields)
    if slope is not None:
        return 2.0 / (1.0 + slope**2), 0.0
    return _critical_point(activation, **fields)


@functools.lru_cache(maxsize=256)
def _critical_point(activation: str | Callable[..., Any], **fields: Any) -> tuple[float, float]:
    from scipy.optimize import brentq

    def excess(log_q: float) -> float:
        q = math.exp(log_q)
        second_moment, slope_moment = gaussian_moments(activation, q, **fields)
        if second_moment <= 0.0:
            return math.nan
        return (q - CRITICAL_BIAS_VARIANCE) / second_moment * slope_moment - 1.0

    grid = [math.log(CRITICAL_BIAS_VARIANCE) + 0.1 * step for step in range(1, 120)]
    values = [excess(log_q) for log_q in grid]
    for (left, right), (below, above) in zip(pairwise(grid), pairwise(values), strict=True):
        if below < 0.0 <= above:
            q = math.exp(brentq(excess, left, right, xtol=1e-10))
            return (q - CRITICAL_BIAS_VARIANCE) / gaussian_moments(activation, q, **fields)[0], CRITICAL_BIAS_VARIANCE
    raise StudyError(
        f"initializer 'critical': activation {encode_for_message(activation)} has no critical point at sigma_b² = "
        f"{CRITICAL_BIAS_VARIANCE}; "
        "leave this pair out of the study, or use 'lsuv'"
    )


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
