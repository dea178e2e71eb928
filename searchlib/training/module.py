"""Networks that a study brings itself: any ``torch.nn.Module``, trained by the plain loop.

Such modules can't be stacked, so their members train one after another on each batch: the same batches, records
and results as in a ``Stack``, at the speed of a single network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from searchlib.networks import OPTIMIZERS
from searchlib.seeds import derive_seed, kept_generators, seeded
from searchlib.study import TrialConfig
from searchlib.training.filling import fill
from searchlib.training.losses import is_right, losses, predicted
from searchlib.training.network import check_outputs
from searchlib.training.stack import Member
from searchlib.training.tally import accumulator_dtype


class ModuleStack:
    """Members with modules of their own, behind the same few methods as ``Stack``.

    build: makes the (CPU) module of a configuration. Whatever it draws from the global generators of torch, NumPy and
    Python follows from the trial's own seed. The trial's initializer then fills its layers (``filling.fill``).
    outputs: how many values each module gives for an example.
    """

    def __init__(
        self,
        members: Sequence[Member],
        *,
        build: Callable[[TrialConfig], nn.Module],
        outputs: int,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.members = list(members)
        self.orders = list({member.order_seed for member in self.members})
        if len(self.orders) > 1:
            raise ValueError("modules of a study's own train on one order of examples, got several")
        self.outputs, self.device, self.dtype = outputs, torch.device(device), dtype
        self.modules = [self._make(member, build) for member in self.members]
        self.optimizers = [
            OPTIMIZERS[member.config.optimizer].build(module.parameters(), member.config)
            for member, module in zip(self.members, self.modules, strict=True)
        ]
        self.noise = [derive_seed(member.seed, "noise") for member in self.members]

    def _make(self, member: Member, build: Callable[[TrialConfig], nn.Module]) -> nn.Module:
        with seeded(member.seed):
            module = build(member.config).to(self.dtype)
        fill(module, member.config, torch.Generator().manual_seed(member.seed))
        return module.to(self.device)

    def step(self, inputs: Tensor, targets: Tensor, learning_rate: Tensor) -> tuple[Tensor, Tensor | None]:
        found, right = [], []
        rates = learning_rate.tolist()
        for position, (module, optimizer) in enumerate(zip(self.modules, self.optimizers, strict=True)):
            for group in optimizer.param_groups:
                group["lr"] = rates[position]
            module.train()
            optimizer.zero_grad()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(self.noise[position])
                outputs = self._outputs(module, inputs)
                loss = losses(outputs, targets)
                self.noise[position] += 1
            loss.mean().backward()
            optimizer.step()
            found.append(loss.detach())
            if not targets.is_floating_point():
                right.append(predicted(outputs.detach()) == targets)
        return torch.cat(found), torch.cat(right) if right else None

    @torch.no_grad()
    def evaluate(self, inputs: Tensor, targets: Tensor, *, batch_size: int = 1000) -> tuple[Tensor, Tensor | None]:
        loss = torch.zeros(len(self.members), dtype=accumulator_dtype(self.device), device=self.device)
        right: list[Tensor] = []
        for position, module in enumerate(self.modules):
            module.eval()
            for x, y in zip(inputs.split(batch_size), targets.split(batch_size), strict=True):
                with kept_generators():  # a module may work in place, and x is a view of the data
                    outputs = self._outputs(module, x.clone())
                loss[position] += losses(outputs, y).sum()
                if not y.is_floating_point():
                    right.append(is_right(outputs, y)[0])
        return loss / len(inputs), torch.cat(right).view(len(self.members), -1) if right else None

    def _outputs(self, module: nn.Module, inputs: Tensor) -> Tensor:
        """What the module gives for *inputs*, ``[1, outputs, B]``."""
        found: Tensor = module(inputs)
        check_outputs(found, len(inputs), self.outputs)
        return found.T[None]

    def keep(self, kept: Sequence[bool]) -> None:
        for name in ("members", "modules", "optimizers", "noise"):
            setattr(self, name, [item for item, stays in zip(getattr(self, name), kept, strict=True) if stays])

    def training_state(self) -> dict[str, Tensor]:
        """All that training changes, by name, as far as modules keep it in their state dicts."""
        state = {"noise": torch.tensor(self.noise)}
        for position, (module, optimizer) in enumerate(zip(self.modules, self.optimizers, strict=True)):
            state |= {f"{position}.module.{name}": value.clone() for name, value in module.state_dict().items()}
            for index, slots in optimizer.state_dict()["state"].items():
                state |= {
                    f"{position}.optimizer.{index}.{name}": value for name, value in slots.items() if value is not None
                }
        return state

    def resume(self, state: Mapping[str, Tensor]) -> None:
        """Restore what the modules of the same members gave as their ``training_state``."""
        self.noise = state["noise"].tolist()
        for position, (module, optimizer) in enumerate(zip(self.modules, self.optimizers, strict=True)):
            weights, slots = f"{position}.module.", f"{position}.optimizer."
            module.load_state_dict(
                {name.removeprefix(weights): value for name, value in state.items() if name.startswith(weights)}
            )
            found: dict[int, dict[str, Tensor]] = {}
            for name, value in state.items():
                if name.startswith(slots):
                    index, slot = name.removeprefix(slots).split(".", 1)
                    found.setdefault(int(index), {})[slot] = value
            optimizer.load_state_dict({**optimizer.state_dict(), "state": found})

    def state(self, position: int) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.modules[position].state_dict().items()}
