"""What goes on inside networks: signals and gradients by layer, at initialization and after each epoch.

``Watch`` measures every network of a stack on a batch of training inputs. ``symptoms`` says what such a
history means, ``networks.meanfield`` what to expect of an initializer and an activation alone.

Statistics are named ``<statistic>/layer<l>``, l from 1; the output layer has the last l, and no activation.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from searchlib.seeds import kept_generators
from searchlib.training.loop import Trainable
from searchlib.training.losses import losses
from searchlib.training.module import ModuleStack
from searchlib.training.stack import Member, Stack
from searchlib.training.symptoms import SATURATED

PROBE = 256  # examples of the probe batch: shares of saturated units to about 0.1 %, at 1 % of an epoch's time
JACOBIAN_EXAMPLES = 8
JACOBIAN_OUTPUTS = 128  # one backward pass for each output: not for more than these
KEY_COLUMNS = 4  # weights of a unit that are compared first, to find equal units cheaply


class Watch:
    """Measures the networks of a stack on one probe batch, all of them at once; it changes nothing of their training.

    inputs: scaled training inputs ``[n, inputs]`` (for modules of a study's own: as they take them).
    targets: class indices ``[n]`` or real targets ``[n, outputs]``.

    Statistics of a network, by layer, over the probe batch and the layer's units (Glorot & Bengio 2010, sections 3
    and 4; Pennington et al. 2017 for the Jacobian):

    - ``preactivation_mean``, ``preactivation_variance``: of what enters the activation (after batch normalization);
      of the last layer, its outputs.
    - ``activation_mean``, ``activation_variance``, ``second_moment``: of what leaves the activation.
    - ``saturated``: share of (example, unit) pairs with |phi'| below ``SATURATED`` of its maximum.
    - ``dead``: share of units with phi' = 0 on the whole batch; for activations with an exactly flat part only.
    - ``gradient_norm``, ``gradient_variance``: Frobenius norm and variance of the entries of d(mean loss)/d(weight).
    - ``weight_std``: of the weight's entries. ``update_ratio``: norm of the last step's change of the weight over its
      norm before; not at initialization.
    - ``symmetric``: share of a hidden layer's units whose weights and bias equal those of another unit, exactly.
    - ``jacobian_condition`` (no layer; at initialization): largest over smallest singular value of the input-output
      Jacobian, the median over ``JACOBIAN_EXAMPLES`` examples.

    ``saturated``, ``dead`` and ``jacobian_condition`` are measured where the activation is element-wise. A function of
    a study's own that can't take the probe batch leaves all of its trial's out.

    Networks are in evaluation mode. At initialization batch normalization uses the batch's own statistics, since its
    running ones say nothing yet; either way they count as constants.
    """

    def __init__(self, inputs: torch.Tensor, targets: torch.Tensor) -> None:
        self.inputs, self.targets = inputs, targets
        self._before: tuple[list[Member], list[list[torch.Tensor]]] | None = None

    def remember(self, stack: Trainable) -> None:
        """Keep the weights as they are; called right before the last step of an epoch, for ``update_ratio``."""
        self._before = (list(stack.members), [[w.detach().clone() for w in ws] for ws in _weights(stack)])

    def measure(self, stack: Trainable) -> list[dict[str, float]]:
        """The statistics of each network, aligned with ``stack.members``; only finite ones.

        Without a ``remember`` since the last call it is the measure at initialization.
        """
        remembered, self._before = self._before, None
        initial = remembered is None
        before = remembered[1] if remembered is not None and remembered[0] == list(stack.members) else None
        # an activation or a module of the study's own may draw random numbers
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            if isinstance(stack, Stack):
                try:
                    return self._of_stack(stack, before[0] if before else None, initial)
                except Exception:  # a function of the study's own, whose training doesn't fail for that
                    if not stack.activations.own:
                        raise
            if isinstance(stack, ModuleStack):
                with kept_generators():
                    return self._of_modules(stack, before, initial)
        return [{} for _ in stack.members]

    def _of_stack(self, stack: Stack, before: list[torch.Tensor] | None, initial: bool) -> list[dict[str, float]]:
        statistics: dict[str, torch.Tensor] | None = {} if initial else None
        trace = stack.trace(self.inputs, statistics=statistics)
        table = _Table(len(stack.members))
        for layer, (signal, activation) in enumerate(
            zip(trace.preactivations, trace.activations, strict=True), start=1
        ):
            _put_slopes(table, layer, stack, signal, activation)
            table.put_moments(f"preactivation/layer{layer}", signal.detach())
            table.put_moments(f"activation/layer{layer}", activation.detach())
        table.put_moments(f"preactivation/layer{stack.depth + 1}", trace.outputs.detach())
        jacobian = self._jacobian_conditions(stack, statistics) if initial else []
        weights = [weight.detach() for weight in _weights(stack)[0]]
        for layer, gradient in enumerate(stack.weight_gradients(trace, self.targets), start=1):
            _put_weight(table, f"/layer{layer}", weights[layer - 1], gradient, before[layer - 1] if before else None)
        biases = [stack.parameters[f"linear{index}.bias"].detach() for index in range(stack.depth)]
        for layer, (weight, bias) in enumerate(zip(weights, biases, strict=False), start=1):
            table.put(f"alike/layer{layer}", _maybe_alike(weight, bias))
        rows = table.rows()
        for position, row in enumerate(rows):
            for layer in range(1, stack.depth + 1):
                alike = row.pop(f"alike/layer{layer}")
                if f"weight_std/layer{layer}" in row:
                    bias = biases[layer - 1][position]
                    row[f"symmetric/layer{layer}"] = _alike(weights[layer - 1][position], bias) if alike else 0.0
            if initial and stack.activations.elementwise[position] and math.isfinite(jacobian[position]):
                row["jacobian_condition"] = jacobian[position]
        return [{} if position in trace.failed else row for position, row in enumerate(rows)]

    def _jacobian_conditions(self, stack: Stack, statistics: dict[str, torch.Tensor] | None) -> list[float]:
        """The condition number of each member's Jacobian, NaN where it isn't defined."""
        trace = stack.trace(self.inputs[:JACOBIAN_EXAMPLES], statistics=statistics)
        trials, outputs, _ = trace.outputs.shape
        if min(outputs, trace.inputs.shape[1]) > JACOBIAN_OUTPUTS or outputs > JACOBIAN_OUTPUTS:
            return [math.nan] * trials
        by_output = [
            torch.autograd.grad(trace.outputs[:, c].sum(), trace.first, retain_graph=True, materialize_grads=True)[0]
            for c in range(outputs)
        ]
        back = torch.stack(by_output).permute(1, 3, 0, 2)  # [K, examples, outputs, width]
        conditions = []
        for position, weight in enumerate(_weights(stack)[0][0].detach()):
            jacobian = (back[position] @ weight).cpu().double()
            if not bool(jacobian.isfinite().all()):
                conditions.append(math.nan)
                continue
            values = torch.linalg.svdvals(jacobian)
            largest, smallest = values[:, 0], values[:, -1]
            # below this the smallest can't be told from 0 (the rule of matrix_rank, at the precision of the network)
            least = largest * max(jacobian.shape[1:]) * torch.finfo(weight.dtype).eps
            conditions.append(float(torch.where(smallest > least, largest / smallest, math.inf).median()))
        return conditions

    def _of_modules(
        self, stack: ModuleStack, before: list[list[torch.Tensor]] | None, initial: bool
    ) -> list[dict[str, float]]:
        found = []
        for position, module in enumerate(stack.modules):
            try:
                old = before[position] if before else None
                found.append(_of_module(module, self.inputs, self.targets, old, initial))
            except Exception:  # what can't be measured of a study's own module is no failure of its training
                found.append({})
        return found


def _weights(stack: Trainable) -> list[list[torch.Tensor]]:
    """A stack's weights ``[K, out, in]`` by layer, as the only entry; of modules, each one's own by layer."""
    if isinstance(stack, Stack):
        return [[stack.parameters[f"linear{index}.weight"] for index in range(stack.depth + 1)]]
    if isinstance(stack, ModuleStack):
        return [[layer.weight for _, layer in _layers(module)] for module in stack.modules]
    return []


class _Table:
    """Statistics ``[K]`` by name, collected on the device and brought to the CPU in one transfer."""

    def __init__(self, trials: int) -> None:
        self.trials = trials
        self.names: list[str] = []
        self.columns: list[torch.Tensor] = []
        self.sizes: dict[str, int] = {}

    def put(self, name: str, column: torch.Tensor) -> None:
        self.names.append(name)
        self.columns.append(column)

    def put_moments(self, name: str, values: torch.Tensor) -> None:
        """Moments of *values* ``[K, ...]`` by network, relative to the largest: squares can't over- or underflow."""
        rest = tuple(range(1, values.dim()))
        # several plain passes: torch's fused variance and maximum norm take ten times as long
        scale = torch.maximum(values.amax(dim=rest, keepdim=True), -values.amin(dim=rest, keepdim=True)).abs()
        scaled = values / torch.where(scale > 0.0, scale, 1.0)
        mean = scaled.mean(dim=rest, keepdim=True)
        variance = scaled.sub_(mean).square_().mean(dim=rest)
        mean = mean.view(-1)
        self.put(f"scale:{name}", scale.view(-1))
        self.put(f"mean:{name}", mean)
        self.put(f"variance:{name}", variance)
        self.sizes[name] = values[0].numel()

    def rows(self) -> list[dict[str, float]]:
        """The finite statistics of each network, under their final names."""
        if not self.columns:
            return [{} for _ in range(self.trials)]
        columns = torch.stack([column.to(self.columns[0].dtype) for column in self.columns]).cpu().double()
        rows = [dict(zip(self.names, values, strict=True)) for values in columns.T.tolist()]
        return [{name: v for name, v in self._named(row).items() if math.isfinite(v)} for row in rows]

    def _named(self, row: dict[str, float]) -> dict[str, float]:
        final: dict[str, float] = {}
        norms: dict[str, float] = {}
        for name, size in self.sizes.items():
            scale, mean, variance = (row[f"{kind}:{name}"] for kind in ("scale", "mean", "variance"))
            square = mean * mean + variance
            kind, layer = name.split("/")
            norms[name] = scale * math.sqrt(size * square) if square >= 0.0 else math.nan
            if kind in ("preactivation", "activation"):
                final[f"{kind}_mean/{layer}"] = scale * mean
                final[f"{kind}_variance/{layer}"] = scale * scale * variance
            if kind == "activation":
                final[f"second_moment/{layer}"] = scale * scale * square
            if kind == "gradient":
                final[f"gradient_norm/{layer}"] = norms[name]
                final[f"gradient_variance/{layer}"] = scale * scale * variance
            if kind == "weight":
                final[f"weight_std/{layer}"] = scale * math.sqrt(variance) if variance >= 0.0 else math.nan
        for name, value in row.items():
            kind, _, layer = name.partition("/")
            if kind in ("alike", "update_ratio") or (
                kind in ("saturated", "dead") and math.isfinite(final[f"preactivation_variance/{layer}"])
            ):
                final[name] = value
        return final


def _put_weight(
    table: _Table, suffix: str, weight: torch.Tensor, gradient: torch.Tensor, before: torch.Tensor | None
) -> None:
    table.put_moments(f"weight{suffix}", weight)
    table.put_moments(f"gradient{suffix}", gradient)
    if before is not None:
        rest = tuple(range(1, weight.dim()))
        size = before.square().sum(dim=rest).sqrt()
        table.put(f"update_ratio{suffix}", before.sub_(weight).square_().sum(dim=rest).sqrt() / size)


def _slope(output: torch.Tensor, inputs: torch.Tensor, *, retain: bool = False) -> torch.Tensor:
    if not output.requires_grad:  # a function of the study's own without a gradient
        return torch.zeros_like(inputs)
    (slope,) = torch.autograd.grad(output.sum(), inputs, retain_graph=retain, materialize_grads=True)
    return slope.abs()


def _put_slopes(table: _Table, layer: int, stack: Stack, signal: torch.Tensor, activation: torch.Tensor) -> None:
    """By |phi'| on the batch ``[K, width, n]`` and on a grid around 0 ``[K, 1, grid]`` (PReLU's differs by member)."""
    points = 2001
    places = torch.linspace(-10.0, 10.0, points, dtype=stack.dtype, device=stack.device)
    x = places.repeat(len(stack.members), 1, 1).requires_grad_()
    slope, grid = _slope(activation, signal, retain=True), _slope(stack.curves(x, layer - 1), x)
    known = torch.tensor(stack.activations.elementwise, device=stack.device)
    steepest = grid.amax(dim=(1, 2))
    middle = grid[:, 0, points // 4 : -(points // 4)]
    flat = (middle == 0.0).to(grid.dtype).mean(dim=1) > 0.01  # an interval: GELU's minimum is one point
    share = (slope < SATURATED * steepest[:, None, None]).to(grid.dtype).mean(dim=(1, 2))
    table.put(f"saturated/layer{layer}", torch.where(known & (steepest > 0.0), share, math.nan))
    dead = (slope.amax(dim=2) == 0.0).to(grid.dtype).mean(dim=1)
    table.put(f"dead/layer{layer}", torch.where(known & flat, dead, math.nan))


def _maybe_alike(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    """Whether two units of a layer have equal keys, made of a few of their weights, ``[K]``: then all are compared."""
    keys = bias
    columns = torch.linspace(0, weight.shape[2] - 1, KEY_COLUMNS).long().tolist()
    for factor, column in enumerate(columns, start=2):  # element by element: equal units get equal keys to the bit
        keys = keys + weight[:, :, column] * math.sqrt(factor)
    keys = keys.sort(dim=1).values
    return (keys[:, 1:] == keys[:, :-1]).any(dim=1).to(weight.dtype)


def _alike(weight: torch.Tensor, bias: torch.Tensor) -> float:
    """The share of units ``[units, inputs]`` that equal another."""
    units = torch.cat([weight, bias[:, None]], dim=1).cpu()
    _, group, counts = torch.unique(units, dim=0, return_inverse=True, return_counts=True)
    return float((counts[group] > 1).double().mean())


def _layers(module: torch.nn.Module) -> list[tuple[str, torch.nn.Linear | torch.nn.modules.conv._ConvNd]]:
    """The linear and convolution layers of a module with a plain weight, by name, in the order of ``modules()``."""
    own = dict(module.named_parameters(remove_duplicate=False))
    return [
        (f"{name}.weight".lstrip("."), layer)
        for name, layer in module.named_modules()
        if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)) and f"{name}.weight".lstrip(".") in own
    ]


def _of_module(
    module: torch.nn.Module,
    inputs: torch.Tensor,
    targets: torch.Tensor,
    before: list[torch.Tensor] | None,
    initial: bool,
) -> dict[str, float]:
    """One module of a study's own: its parameters and buffers stand aside, copies are measured."""
    layers = _layers(module)
    parameters = {
        name: value.detach().requires_grad_(value.is_floating_point()) for name, value in module.named_parameters()
    }
    buffers = {name: value.detach().clone() for name, value in module.named_buffers()}
    outputs: dict[str, list[torch.Tensor]] = {name: [] for name, _ in layers}
    modes = {part: part.training for part in module.modules()}
    hooks = [
        layer.register_forward_hook(
            lambda _module, _inputs, output, name=name: outputs[name].append(output.detach().clone())
        )
        for name, layer in layers
    ]
    try:
        for part in modes:
            part.training = initial and isinstance(part, nn.modules.batchnorm._BatchNorm)
        result = torch.func.functional_call(module, {**parameters, **buffers}, (inputs.clone(),))
    finally:
        for part, training in modes.items():
            part.training = training
        for hook in hooks:
            hook.remove()
    weights = [parameters[name] for name, _ in layers if name in parameters]
    table = _Table(1)
    if not weights or len(weights) != len(layers):  # nothing of the kind, or a weight under two names
        return {}
    mean = losses(result.T[None], targets).mean()
    gradients = torch.autograd.grad(mean, weights, materialize_grads=True)
    for layer, ((name, _), weight, gradient) in enumerate(zip(layers, weights, gradients, strict=True), start=1):
        if len(outputs[name]) == 1:  # a layer that runs more than once has no preactivation of its own
            table.put_moments(f"preactivation/layer{layer}", outputs[name][0][None])
        old = before[layer - 1][None] if before else None
        _put_weight(table, f"/layer{layer}", weight.detach()[None], gradient[None], old)
    return table.rows()[0]
