"""What the initializer does to each layer of a study's own module."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from searchlib import StudyError
from searchlib.study import TrialConfig
from searchlib.training.filling import fill, matrices, targets, used

pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")


def filled(layer: nn.Module, initializer: object = "kaiming_normal", seed: int = 0, **fields: object) -> nn.Module:
    config = TrialConfig(initializer=initializer, **fields)  # type: ignore[arg-type]
    fill(layer, config, torch.Generator().manual_seed(seed))
    return layer


# layer, (outputs, fan_in), how many weights of this shape
LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, int], int]] = {
    "Linear": (lambda: nn.Linear(300, 200), (200, 300), 1),
    "Conv1d": (lambda: nn.Conv1d(40, 200, 5), (200, 40 * 5), 1),
    "Conv2d": (lambda: nn.Conv2d(16, 200, (3, 5)), (200, 16 * 15), 1),
    "Conv2d in groups": (lambda: nn.Conv2d(60, 200, 3, groups=4), (200, 15 * 9), 1),
    "Conv2d by channel": (lambda: nn.Conv2d(2000, 2000, 5, groups=2000), (2000, 25), 1),
    "Conv3d": (lambda: nn.Conv3d(8, 200, 3), (200, 8 * 27), 1),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(40, 200, 5), (200, 40 * 5), 1),
    "ConvTranspose2d": (lambda: nn.ConvTranspose2d(80, 40, 3), (40, 80 * 9), 1),
    "ConvTranspose2d, small": (lambda: nn.ConvTranspose2d(8, 4, 3), (4, 8 * 9), 1),
    "ConvTranspose2d in groups": (lambda: nn.ConvTranspose2d(64, 48, 5, groups=2), (48, 32 * 25), 1),
    "ConvTranspose3d": (lambda: nn.ConvTranspose3d(20, 12, 3), (12, 20 * 27), 1),
    "attention": (lambda: nn.MultiheadAttention(100, 4), (100, 100), 4),
    "attention to others": (lambda: nn.MultiheadAttention(100, 4, kdim=100, vdim=100), (100, 100), 4),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_is_filled_by_its_fan_in(name: str) -> None:
    """He's variance is 2 / fan_in, and torch's bias is within ±1 / sqrt(fan_in)."""
    make, (outputs, fan_in), count = LAYERS[name]
    layer = filled(make(), bias_init="pytorch_default")
    weights = [value.numel() for value in matrices(layer).values()]
    assert sum(weights) == count * outputs * fan_in
    for value in matrices(layer).values():
        spread = 5 * math.sqrt(2 / value.numel())
        assert float(value.var()) * fan_in / 2 == pytest.approx(1.0, abs=spread)
    for key, bias in layer.named_parameters():
        if key.endswith("bias"):
            assert bias.numel() in (outputs, 3 * outputs)
            assert 0.8 / math.sqrt(fan_in) * (1 - 2 / len(bias)) <= bias.abs().max() <= 1.0 / math.sqrt(fan_in)


@pytest.mark.parametrize("name", [name for name in LAYERS if name.startswith(("Linear", "Conv"))])
def test_fan_in_is_that_of_torch(name: str) -> None:
    """torch counts a transposed convolution's by the layout of its weight, as that of the convolution that it
    transposes: its fan_out is then what an output sums over, in each group."""
    make, (_, fan_in), _ = LAYERS[name]
    layer = make()
    by_torch = nn.init._calculate_fan_in_and_fan_out(layer.weight)
    assert fan_in == (by_torch[1] // layer.groups if "Transpose" in name else by_torch[0])


def test_a_transposed_convolution_has_its_matrix_in_torchs_layout() -> None:
    """Row o of the matrix is what output o sums over: channel by channel of its group, then the kernel."""

    def numbered(weight: torch.Tensor, layer: object) -> torch.Tensor:
        return torch.arange(weight.numel()).view_as(weight).float()

    layer = nn.ConvTranspose1d(4, 6, 5, groups=2, bias=False)
    filled(layer, numbered)
    for output in range(6):
        group, within = divmod(output, 3)
        row = layer.weight[2 * group : 2 * group + 2, within]  # [channels of the group, kernel]
        assert row.flatten().tolist() == list(range(10 * output, 10 * output + 10))


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
