"""What the initializer does to each layer of a study's own module."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from searchlib import StudyError
from searchlib.networks import Layer
from searchlib.study import TrialConfig
from searchlib.training.filling import fill, matrices, targets, used

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")


def filled(layer: nn.Module, initializer: object = "kaiming_normal", seed: int = 0, **fields: object) -> nn.Module:
    config = TrialConfig(initializer=initializer, **fields)  # type: ignore[arg-type]
    fill(layer, config, torch.Generator().manual_seed(seed))
    return layer


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "Linear": lambda: nn.Linear(300, 200),
    "Conv1d": lambda: nn.Conv1d(40, 200, 5),
    "Conv1d, dilated": lambda: nn.Conv1d(40, 50, 5, stride=2, dilation=3),
    "Conv2d": lambda: nn.Conv2d(16, 16, 3),
    "Conv2d, not square": lambda: nn.Conv2d(16, 200, (3, 5)),
    "Conv2d in groups": lambda: nn.Conv2d(60, 200, 3, groups=4),
    "Conv2d by channel": lambda: nn.Conv2d(300, 300, 5, groups=300),
    "Conv2d by channel, two of each": lambda: nn.Conv2d(300, 600, 3, groups=300),
    "Conv3d": lambda: nn.Conv3d(8, 200, 3),
    "ConvTranspose1d": lambda: nn.ConvTranspose1d(40, 200, 5),
    "ConvTranspose2d": lambda: nn.ConvTranspose2d(80, 40, 3),
    "ConvTranspose2d, small": lambda: nn.ConvTranspose2d(8, 4, 3),
    "ConvTranspose2d in groups": lambda: nn.ConvTranspose2d(64, 48, 5, groups=2),
    "ConvTranspose2d by channel": lambda: nn.ConvTranspose2d(300, 300, 5, groups=300),
    "ConvTranspose3d": lambda: nn.ConvTranspose3d(20, 12, 3),
}


def kaiming_by_fan_out(weight: torch.Tensor, layer: Layer) -> None:
    """He's law for the way back, which a study may bring itself."""
    weight.normal_(0.0, math.sqrt(2.0 / layer.fan_out), generator=layer.generator)


BY_TORCH: dict[str, tuple[object, Callable[..., object]]] = {
    "xavier_normal": ("xavier_normal", nn.init.xavier_normal_),
    "xavier_uniform": ("xavier_uniform", nn.init.xavier_uniform_),
    "kaiming_normal": ("kaiming_normal", functools.partial(nn.init.kaiming_normal_, nonlinearity="relu")),
    "kaiming_uniform": ("kaiming_uniform", functools.partial(nn.init.kaiming_uniform_, nonlinearity="relu")),
    "kaiming_normal by fan_out": (
        kaiming_by_fan_out,
        functools.partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu"),
    ),
    "lecun_normal": ("lecun_normal", functools.partial(nn.init.kaiming_normal_, nonlinearity="linear")),
    "lecun_uniform": ("lecun_uniform", functools.partial(nn.init.kaiming_uniform_, nonlinearity="linear")),
    "orthogonal": ("orthogonal", nn.init.orthogonal_),
    "pytorch_default": ("pytorch_default", functools.partial(nn.init.kaiming_uniform_, a=math.sqrt(5))),
}


@pytest.mark.parametrize("law", BY_TORCH)
@pytest.mark.parametrize("name", LAYERS)
def test_a_law_is_that_of_torch(name: str, law: str) -> None:
    """The same numbers from the same seed, for every kind of layer, as ``torch.nn.init`` writes into its weight."""
    ours, theirs = BY_TORCH[law]
    layer = filled(LAYERS[name](), ours, bias_init="zeros")  # with its own bias, torch's default leaves the layer alone
    expected = torch.empty_like(layer.weight)
    theirs(expected, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=1e-6, atol=0.0)


@pytest.mark.parametrize("name", LAYERS)
def test_a_law_is_told_the_fans_of_torch(name: str) -> None:
    told = []

    def ones(weight: torch.Tensor, layer: Layer) -> None:
        told.append((layer.fan_in, layer.fan_out))
        assert weight.shape[1] == layer.fan_in
        weight.fill_(1.0)

    layer = filled(LAYERS[name](), ones)
    assert told == [nn.init._calculate_fan_in_and_fan_out(layer.weight)]


@pytest.mark.parametrize("name", LAYERS)
def test_torchs_bias_is_within_torchs_bound(name: str) -> None:
    layer = filled(LAYERS[name](), "ones", bias_init="pytorch_default")
    bound = 1.0 / math.sqrt(nn.init._calculate_fan_in_and_fan_out(layer.weight)[0])
    bias = layer.bias.abs()
    assert 0.8 * bound * (1 - 2 / len(bias)) <= bias.max() <= bound
    assert LAYERS[name]().bias.abs().max() <= bound, "torch's own"


def test_xavier_counts_the_kernel_on_both_sides() -> None:
    """2 / (16 x 9 + 16 x 9) for a convolution from 16 to 16 channels with a kernel of 3 x 3, over many draws."""
    draws = [filled(nn.Conv2d(16, 16, 3), "xavier_normal", seed).weight.detach() for seed in range(100)]
    assert float(torch.stack(draws).square().mean()) == pytest.approx(2 / 288, rel=0.02)


@pytest.mark.parametrize("kdim", [None, 100])
def test_an_attention_layer_is_filled_by_the_fans_of_its_maps(kdim: int | None) -> None:
    layer = filled(nn.MultiheadAttention(100, 4, kdim=kdim, vdim=kdim), "xavier_normal", bias_init="pytorch_default")
    weights = matrices(layer)
    assert sum(weight.numel() for weight in weights.values()) == 4 * 100 * 100
    for weight in weights.values():
        assert float(weight.square().mean()) == pytest.approx(2 / 200, rel=5 * math.sqrt(2 / weight.numel()))
    for bias in (layer.in_proj_bias, layer.out_proj.bias):
        assert 0.08 <= bias.abs().max() <= 0.1


@pytest.mark.parametrize("make", [lambda: nn.Conv2d(4, 6, 5, groups=2), lambda: nn.ConvTranspose2d(4, 6, 5, groups=2)])
def test_a_convolution_is_a_matrix_in_torchs_layout(make: Callable[[], nn.Module]) -> None:
    """Row i of the matrix is ``weight[i]``; of a transposed convolution that is what leaves input i."""

    def numbered(weight: torch.Tensor, layer: object) -> torch.Tensor:
        return torch.arange(weight.numel()).view_as(weight).float()

    weight = filled(make(), numbered).weight
    assert weight.flatten().tolist() == list(range(weight.numel()))


def test_the_maps_of_an_attention_layer_are_drawn_one_by_one() -> None:
    layer = filled(nn.MultiheadAttention(8, 2), "orthogonal")
    for part in (*layer.in_proj_weight.chunk(3), layer.out_proj.weight):
        torch.testing.assert_close(part @ part.T, torch.eye(8), atol=1e-5, rtol=0.0)
    query, key, _ = layer.in_proj_weight.chunk(3)
    assert not torch.allclose(query, key)
    assert (layer.in_proj_bias == 0.0).all()


LEFT: dict[str, Callable[[], nn.Module]] = {
    "Embedding": lambda: nn.Embedding(9, 4),
    "EmbeddingBag": lambda: nn.EmbeddingBag(9, 4),
    "Bilinear": lambda: nn.Bilinear(3, 4, 5),
    "RNN": lambda: nn.RNN(3, 4),
    "GRU": lambda: nn.GRU(3, 4),
    "LSTM": lambda: nn.LSTM(3, 4),
    "BatchNorm2d": lambda: nn.BatchNorm2d(3),
    "LayerNorm": lambda: nn.LayerNorm(4),
    "PReLU": lambda: nn.PReLU(3),
    "frozen": lambda: nn.Linear(3, 4).requires_grad_(False),
    "frozen, normalized": lambda: parametrizations.weight_norm(nn.Linear(3, 4)).requires_grad_(False),
    "complex": lambda: nn.Linear(3, 4, dtype=torch.complex64),
}


@pytest.mark.parametrize("name", LEFT)
def test_other_layers_stay_as_the_module_made_them(name: str) -> None:
    module = nn.Sequential(LEFT[name](), nn.Linear(4, 4))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    filled(module, "ones", bias_init="constant", bias_value=0.5)
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key]) == key.startswith("0."), key
    with pytest.raises(StudyError, match="no linear, convolution or attention layer"):
        filled(LEFT[name](), "ones")


def test_nothing_is_filled_with_torchs_defaults() -> None:
    module = nn.Sequential(nn.ConvTranspose2d(8, 4, 3), nn.Linear(3, 2))
    before = {key: value.clone() for key, value in module.state_dict().items()}
    filled(module, "pytorch_default")
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_tied_weights_are_filled_once() -> None:
    module = nn.Sequential(nn.Embedding(6, 4), nn.Linear(4, 6, bias=False), nn.Linear(4, 6, bias=False))
    module[1].weight = module[2].weight = module[0].weight
    assert [target.name for target in targets(module)] == ["1.weight"]
    alone = filled(nn.Linear(4, 6, bias=False), "xavier_normal")
    filled(module, "xavier_normal")
    assert torch.equal(module[0].weight, alone.weight)


def test_a_shared_layer_is_filled_once() -> None:
    layer = nn.Linear(4, 4)
    assert [target.name for target in targets(nn.Sequential(layer, nn.Tanh(), layer))] == ["0.weight"]


# ------------------------------------------------------------------------------- weights that are computed

EXACT: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight_norm": parametrizations.weight_norm,
    "weight_norm, dim 1": lambda layer: parametrizations.weight_norm(layer, dim=1),
    "weight_norm of the whole": lambda layer: parametrizations.weight_norm(layer, dim=None),
    "hook": nn.utils.weight_norm,
    "hook, dim 1": lambda layer: nn.utils.weight_norm(layer, dim=1),
    "hook, whole": lambda layer: nn.utils.weight_norm(layer, dim=None),
}
SPECTRAL = {"spectral_norm": parametrizations.spectral_norm, "spectral_norm by a hook": nn.utils.spectral_norm}

COMPUTED = {**EXACT, **SPECTRAL}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("make", [lambda: nn.Linear(8, 6), lambda: nn.ConvTranspose1d(8, 6, 3)], ids=["linear", "conv"])
def test_a_normalized_layer_computes_with_what_is_drawn(name: str, make: Callable[[], nn.Module]) -> None:
    plain, layer = filled(make()), filled(EXACT[name](make()))
    torch.testing.assert_close(used(layer), plain.weight.detach())
    assert torch.equal(layer.bias, plain.bias)
    layer(torch.rand(3, 8, 4) if "Conv" in type(plain).__name__ else torch.rand(3, 8)).sum().backward()
    torch.testing.assert_close(used(layer), plain.weight.detach())


@pytest.mark.parametrize("name", SPECTRAL)
def test_a_spectral_norm_divides_what_is_drawn_by_its_own_largest_singular_value(name: str) -> None:
    plain, layer = filled(nn.Linear(8, 6)), filled(SPECTRAL[name](nn.Linear(8, 6)))
    weight = plain.weight.detach()
    largest = torch.linalg.svdvals(weight)[0]
    torch.testing.assert_close(used(layer), weight / largest, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(used(layer.eval()), weight / largest, rtol=1e-2, atol=1e-3)


def test_an_orthogonal_parametrization_stays_orthogonal() -> None:
    layer = filled(parametrizations.orthogonal(nn.Linear(8, 6)), "orthogonal")
    torch.testing.assert_close(used(layer), filled(nn.Linear(8, 6), "orthogonal").weight.detach(), atol=1e-5, rtol=0.0)
    weight = used(filled(parametrizations.orthogonal(nn.Linear(8, 6)), "normal"))
    torch.testing.assert_close(weight @ weight.T, torch.eye(6), atol=1e-5, rtol=0.0)


def test_a_pruned_layer_keeps_its_mask() -> None:
    layer = prune.random_unstructured(nn.Linear(8, 6), "weight", amount=0.5)
    filled(layer, "ones")
    assert torch.equal(used(layer), layer.weight_mask)


@pytest.mark.parametrize("name", [*EXACT, *SPECTRAL])
def test_zeros_cannot_be_normalized(name: str) -> None:
    with pytest.raises(ValueError, match="weight is normalized, and not finite after the initializer.*take another"):
        filled(COMPUTED[name](nn.Linear(8, 6)), "zeros")


@pytest.mark.parametrize("name", [*EXACT, *SPECTRAL])
def test_the_weights_of_a_report_are_those_that_the_layer_computes_with(name: str) -> None:
    layer = filled(COMPUTED[name](nn.Linear(8, 6))).eval()
    found = matrices(nn.Sequential(nn.Embedding(3, 2), layer))
    assert [*found] == ["0.weight", "1.weight"]
    assert torch.equal(found["1.weight"] @ torch.ones(8) + layer.bias, layer(torch.ones(8)))
