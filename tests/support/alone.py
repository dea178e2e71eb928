"""A trial alone: the network and the loop written out in plain torch.nn and torch.optim, for stacks to be equal to."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from searchlib.networks import OPTIMIZERS
from searchlib.seeds import derive_seed
from searchlib.study import TrialConfig
from searchlib.training.loop import Tensors, train
from searchlib.training.network import initialize
from searchlib.training.stack import Member, Stack
from searchlib.training.watch import Watch

INPUTS, CLASSES, TRAIN, VALIDATION = 12, 4, 50, 21


def make_data(
    *, dtype: torch.dtype = torch.float64, regression: bool = False, train: int = TRAIN, normal: bool = False
) -> Tensors:
    """Inputs from 0 to 1, or *normal* ones, whose largest of the first four is likely to be the class."""
    generator = torch.Generator().manual_seed(3)
    draw = torch.randn if normal else torch.rand
    inputs = draw(train + VALIDATION, INPUTS, generator=generator, dtype=torch.float64).to(dtype)
    labels = (inputs[:, :CLASSES] + 0.3 * torch.rand(len(inputs), CLASSES, generator=generator)).argmax(dim=1)
    targets = inputs[:, :2].sin().to(dtype) if regression else labels
    return Tensors(
        train_inputs=inputs[:train],
        train_targets=targets[:train],
        val_inputs=inputs[train:],
        val_targets=targets[train:],
        factor=1.0,
        offset=0.0,
    )


DATA = make_data()


def outputs_of(data: Tensors) -> int:
    return data.train_targets.shape[1] if data.train_targets.is_floating_point() else CLASSES


def make_members(activations: Iterable[Any], **fields: Any) -> list[Member]:
    """A trial of each activation; a field that is a function gives each trial the value of its number."""

    def member(k: int, activation: Any) -> Member:
        own = {name: value(k) if callable(value) else value for name, value in fields.items()}
        return Member(k, TrialConfig(activation=activation, **own), seed=k)

    return [member(k, activation) for k, activation in enumerate(activations)]


def in_orders(members: list[Member], *seeds: int) -> list[Member]:
    """The members, spread over as many orders of the examples."""
    return [replace(member, order_seed=seeds[k % len(seeds)]) for k, member in enumerate(members)]


def make_stack(members: list[Member], data: Tensors = DATA) -> Stack:
    return Stack(members, outputs=outputs_of(data), probe=data.probe, dtype=data.train_inputs.dtype)


def follow(stack: Stack, data: Tensors) -> list[list[dict[str, float]]]:
    """Train with a watch; the history of each member: at initialization and after each epoch."""
    watch = Watch(data.train_inputs, data.train_targets)
    rows = [watch.measure(stack), *(epoch.diagnostics for epoch in train(stack, data, watch=watch))]
    return [list(history) for history in zip(*rows, strict=True)]


def plain_network(member: Member, data: Tensors = DATA) -> nn.Sequential:
    """The network written out in torch.nn, by hand: only activations and first weights are searchlib's own."""
    config = member.config
    widths = list(config.hidden if config.depth is None else config.hidden[:1] * config.depth)
    sizes = [INPUTS, *widths, outputs_of(data)]
    generator, dtype = torch.Generator().manual_seed(member.seed), data.train_inputs.dtype
    drawn = initialize(config, tuple(sizes), generator=generator, probe=data.probe, dtype=dtype)
    layers: list[nn.Module] = []
    for position, (weight, bias) in enumerate(drawn):
        linear = nn.Linear(sizes[position], sizes[position + 1])
        linear.weight.data, linear.bias.data = weight.clone(), bias.clone()
        layers.append(linear)
        if position == len(widths):
            break
        if config.batch_norm:
            layers.append(nn.BatchNorm1d(widths[position]))
        layers.append(config.build_activation())
        if config.dropout:
            layers.append(nn.Dropout(config.dropout))
    return nn.Sequential(*layers).to(data.train_inputs.dtype)


def train_alone(
    member: Member, data: Tensors = DATA, eval_every: int = 0, network: nn.Module | None = None
) -> tuple[nn.Module, list[dict[str, float]]]:
    """The textbook loop on one trial, from the same weights, order of examples and random numbers.

    A validation after each epoch or, with *eval_every*, after each such step. ``unsure``: the share of the training
    examples for which two classes' outputs differ by round-off only, so that another order of sums prefers the other.
    """
    config = member.config
    regression = data.train_targets.is_floating_point()
    network = network or plain_network(member, data)
    optimizer = OPTIMIZERS[config.optimizer].build(network.parameters(), config)
    criterion = nn.MSELoss() if regression else nn.CrossEntropyLoss()
    history = []

    def validate(seen: list[tuple[float, int, int, int]], **entry: float) -> None:
        network.eval()
        with torch.no_grad():
            outputs = network(data.val_inputs)
        examples = sum(size for *_, size in seen)
        entry["train_loss"] = sum(loss * size for loss, *_, size in seen) / examples
        entry["val_loss"] = criterion(outputs, data.val_targets).item()
        if not regression:
            entry["train_accuracy"] = sum(right for _, right, _, _ in seen) / examples
            entry["unsure"] = sum(unsure for _, _, unsure, _ in seen) / examples
            entry["val_accuracy"] = (outputs.argmax(1) == data.val_targets).double().mean().item()
        history.append(entry)
        network.train()

    step = 0
    torch.manual_seed(derive_seed(member.seed, "noise"))  # dropout and RReLU draw from torch's global generator
    for epoch in range(1, config.epochs + 1):
        network.train()
        generator = torch.Generator().manual_seed(derive_seed(member.order_seed, "order", epoch))
        order = torch.randperm(len(data.train_inputs), generator=generator)
        seen: list[tuple[float, int, int, int]] = []
        optimizer.param_groups[0]["lr"] = config.learning_rate_at(epoch)
        for batch in order.split(config.batch_size):
            optimizer.zero_grad()
            outputs = network(data.train_inputs[batch])
            loss = criterion(outputs, data.train_targets[batch])
            loss.backward()
            optimizer.step()
            right = unsure = 0
            if not regression:
                right = int((outputs.argmax(1) == data.train_targets[batch]).sum())
                first, second = outputs.detach().topk(2, dim=1).values.T
                unsure = int((first - second <= 1e-9 * (first.abs() + second.abs())).sum())
            seen.append((loss.item(), right, unsure, len(batch)))
            step += 1
            if eval_every and step % eval_every == 0:
                validate(seen, step=step)
                seen = []
        if not eval_every:
            validate(seen)
    network.eval()
    return network, history
