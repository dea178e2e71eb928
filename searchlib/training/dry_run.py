"""A trial run of a study's own modules and initializers on a few examples, before anything of the study is stored."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from searchlib.errors import SearchlibError, StudyError
from searchlib.networks import is_own
from searchlib.seeds import seeded, trial_seed
from searchlib.study import MLP, Choice, Primitive, Study, TrialConfig, own_line
from searchlib.text import encode_for_message
from searchlib.training.checkpoints import restore, try_network
from searchlib.training.engine import Engine, size_with_single
from searchlib.training.laws import check_laws
from searchlib.training.module import ModuleStack
from searchlib.training.network import build_module, initialize, layer_sizes
from searchlib.training.own_activations import check_activations
from searchlib.training.stack import Member
from searchlib.training.stack_run import first_line

if TYPE_CHECKING:
    from searchlib.training.loop import Tensors

EXAMPLES = 5  # of the first batch; the second has three


def dry_run(engine: Engine) -> None:
    """Train the study's own modules for two small batches of different sizes, draw its own initializers' weights, and
    call its own activations. Of every study, see that its initializers have what they need of the activations.

    One configuration for each value of each scientific dimension and for each own function. StudyError, with what is
    wrong and where, for code that raises an exception, whose outputs have another shape than the targets need, that
    trains nothing, that draws numbers which no seed controls, or that a checkpoint doesn't hold; and for an activation
    without the gain or the critical point that an initializer asks for.
    """
    study = engine.study
    if engine.has_own_code:
        check_activations(study, engine.device)
    check_laws(study)
    if not engine.has_own_code:
        return
    for number, config in enumerate(configurations(study)):
        if isinstance(study.model, MLP):
            if is_own(config.initializer):
                _test_initializer(engine, config)
        else:
            _ModuleTest(engine, config).run(thorough=number == 0)


def configurations(study: Study) -> Iterator[TrialConfig]:
    """Configurations in which each value of a scientific Choice, and of a Choice of functions, occurs."""
    listed = {
        name: dimension.values() or ()
        for name, dimension in study.dimensions.items()
        if isinstance(dimension, Choice) and (name in study.scientific or name in ("initializer", "activation"))
    }
    for number in range(max(map(len, listed.values()), default=1)):
        params: dict[str, Primitive] = {}
        for name, dimension in study.dimensions.items():
            if dimension.active({**study.fixed, **params}):
                values = listed.get(name)
                params[name] = values[number % len(values)] if values else dimension.at(0.0)
        yield study.config(params)


def _test_initializer(engine: Engine, config: TrialConfig) -> None:
    what = f"initializer {encode_for_message(config.initializer)}"
    sizes = layer_sizes(config, engine.dataset.inputs, engine.dataset.outputs)
    probe = engine.data(config.input_scaling).probe

    def draw() -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(trial_seed(engine.study.seed, 0))
        layers = initialize(config, sizes, generator=generator, probe=probe, dtype=torch.float32)
        return {str(index): weight for index, (weight, _) in enumerate(layers)}

    with _told(what):
        first, again = draw(), draw()
    _check_same(what, first, again)


def _check_same(what: str, first: Mapping[str, torch.Tensor], again: Mapping[str, torch.Tensor]) -> None:
    """Refuse what one seed makes twice in two ways."""
    for name, value in first.items():
        floating = value.is_floating_point()
        if not (torch.allclose(value, again[name], equal_nan=True) if floating else torch.equal(value, again[name])):
            raise StudyError(
                f"{what} gave other weights when it was called again with the same seed; draw from layer.generator, or "
                "from the global generators of torch, NumPy (np.random.normal, not default_rng()) or random, which "
                "searchlib seeds for each trial"
            )


class _ModuleTest:
    """One configuration of a study's own module."""

    def __init__(self, engine: Engine, config: TrialConfig) -> None:
        self.engine, self.study, self.config = engine, engine.study, config
        self.data: Tensors = engine.data(config.input_scaling)
        self.count = min(EXAMPLES, len(self.data.train_inputs))
        self.what = f"model {getattr(self.study.model, '__name__', 'model')!r}"

    def run(self, *, thorough: bool) -> None:
        """thorough: also make the module several times, to see that a seed and a checkpoint give it again."""
        module = self._make().to(self.engine.device)
        for training in (True, False):
            self._check_outputs(module.train(training))
        stack = self._build()
        if thorough or is_own(self.config.initializer):
            self._check_repeated(stack, self._build())
        with _told(self.what):
            for count in (self.count, min(self.count, 3)):
                self._step(stack, count)
            stack.evaluate(self.data.val_inputs[: self.count], self.data.val_targets[: self.count])
        self._check_single()
        if thorough:
            self._check_restored(stack)

    def _check_repeated(self, stack: ModuleStack, again: ModuleStack) -> None:
        """A second call gives equal parameters, but not the same."""
        first, second = (
            {*map(id, module.buffers()), *(id(value) for value in module.parameters() if value.requires_grad)}
            for module in (*stack.modules, *again.modules)
        )
        if first & second:
            raise StudyError(
                f"{self.what} returned the same parameters twice, and trials would train each other's network; make a "
                "new module in each call"
            )
        _check_same(self.what, stack.state(0), again.state(0))

    def _make(self) -> torch.nn.Module:
        """What the factory makes: it lets searchlib seed it, and has something to train, in float32."""
        assert not isinstance(self.study.model, MLP)
        with _told(self.what), seeded(1):
            module = build_module(self.study.model, self.config, self.engine.dataset)
            seeds_itself = torch.initial_seed() != 1
        if seeds_itself:
            raise StudyError(
                f"{self.what} calls torch.manual_seed, so that replicates would start from the same weights; remove "
                "the call: searchlib seeds each trial"
            )
        for name, value in module.state_dict(keep_vars=True).items():
            if (value.is_floating_point() or value.is_complex()) and value.dtype != torch.float32:
                raise StudyError(
                    f"{self.what}: {name} is {value.dtype}; modules are trained in torch.float32: make it so"
                )
        if not any(value.requires_grad for value in module.parameters()):
            raise StudyError(f"{self.what}: its module has no parameter to train; expected one that requires_grad")
        return module

    def _build(self) -> ModuleStack:
        member = Member(0, self.config, seed=trial_seed(self.study.seed, 0))
        with _told(self.what):
            stack = self.engine.build([member], self.data)
        assert isinstance(stack, ModuleStack)
        return stack

    def _step(self, stack: ModuleStack, count: int) -> None:
        rate = torch.tensor([self.config.learning_rate])
        stack.step(self.data.train_inputs[:count].clone(), self.data.train_targets[:count], rate)

    def _check_outputs(self, module: torch.nn.Module) -> None:
        with _told(self.what), torch.no_grad():
            outputs: Any = module(self.data.train_inputs[: self.count].clone())
        shape = list(getattr(outputs, "shape", ()))
        expected = [self.count, self.engine.dataset.outputs]
        if isinstance(outputs, torch.Tensor) and outputs.is_floating_point() and shape == expected:
            return
        kind = f"{outputs.dtype}, shape {shape}" if isinstance(outputs, torch.Tensor) else type(outputs).__name__
        raise StudyError(
            f"{self.what}: its module returned {kind} for {self.count} examples in "
            f"{'training' if module.training else 'evaluation'}; data set {self.engine.dataset.name!r} needs a tensor "
            f"of real numbers of shape {expected}"
        )

    def _check_single(self) -> None:
        """A last batch of one example, which batch normalization can't train on."""
        count = len(self.data.train_inputs)
        if (size := size_with_single(self.study, count)) is None:
            return
        stack = self._build()
        try:
            self._step(stack, 1)
        except Exception as error:
            raise StudyError(
                f"batch_size={size} leaves a last batch of one example of {count:,}, on which {self.what} can't train "
                f"({first_line(error)}); choose another batch size"
            ) from error

    def _check_restored(self, stack: ModuleStack) -> None:
        """A module made anew and loaded from a checkpoint gives the outputs of the trained one."""
        from safetensors.torch import save

        assert not isinstance(self.study.model, MLP)
        inputs = self.engine.examples.train.inputs[: self.count]
        with _told(self.what), torch.no_grad():
            content = save(
                {name: value.contiguous() for name, value in stack.state(0).items()},
                {"factor": repr(self.data.factor), "offset": repr(self.data.offset)},
            )
            restored = restore(content, self.study.model, self.config, self.engine.dataset, classify=False)
            try_network(restored, inputs, self.engine.dataset, single=True)
            with seeded(0):
                found = restored(inputs)
            with seeded(0):
                trained = stack.modules[0].eval()(self.data.train_inputs[: self.count].clone()).cpu()
        if not torch.allclose(found, trained.float(), rtol=1e-2, atol=1e-3, equal_nan=True):
            raise StudyError(
                f"{self.what}: its module gives other outputs once it is restored from its state dict; keep all "
                "that it draws or learns in parameters or buffers (self.register_buffer)"
            )


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """An exception of the study's own code as a StudyError that says where it was raised."""
    try:
        yield
    except SearchlibError:
        raise
    except Exception as error:
        place = f" at {line}" if (line := own_line(error)) else ""
        raise StudyError(
            f"{what} was tried on {EXAMPLES} training examples and raised {type(error).__name__}{place}: "
            f"{first_line(error)}; nothing was stored: correct the study file"
        ) from error
