"""Layers that the C library computes as a whole: as in PyTorch, in every form, their dropout included."""

import pytest
import torch
from packed_cases import randn, relative_error

from recbole_ssm.layers import FeedForward
from recbole_ssm.layers.norm import GatedRMSNorm
from recbole_ssm.ops import use_backend
from recbole_ssm.ops.backends import choose
from recbole_ssm.ops.backends.native.loading import library

pytestmark = pytest.mark.skipif(library() is None, reason="the C library is not built")

FORMS = [(1, 2), (3, 2), (2, 1), (1, 0)]
"""Threads, and the kind of machine: 2 AVX-512, 1 AVX2, 0 any."""


@pytest.fixture(params=FORMS, ids=lambda form: "{} threads, kind {}".format(*form))
def form(request):
    threads, kind = request.param
    torch.set_num_threads(threads)  # the fixture torch_for_tests sets it back
    library().recbole_ssm_use(kind)
    with use_backend("native"):
        yield
    library().recbole_ssm_use(2)


def randomised(layer: torch.nn.Module) -> torch.nn.Module:
    for number, parameter in enumerate(layer.parameters()):
        parameter.data = 0.4 * randn(*parameter.shape, seed=number).to(parameter.dtype)
    return layer


def evaluate(layer, *inputs) -> list[torch.Tensor]:
    """The output, and the gradients of inputs and parameters under uneven gradients from above."""
    leaves = [tensor.to(next(layer.parameters()).dtype).requires_grad_() for tensor in inputs]
    y = layer(*leaves)
    (y * torch.arange(y.numel()).view_as(y).sin()).sum().backward()
    return [y.detach(), *(leaf.grad for leaf in leaves), *(parameter.grad for parameter in layer.parameters())]


def agree(make, *inputs) -> None:
    """The layer in C against itself in PyTorch and float64."""
    found = evaluate(randomised(make()), *(tensor.clone() for tensor in inputs))
    with use_backend("torch"):
        want = evaluate(randomised(make()).double(), *(tensor.clone() for tensor in inputs))
    for actual, expected in zip(found, want, strict=True):
        assert actual.dtype == torch.float32
        assert relative_error(actual, expected) < 1e-5


@pytest.mark.sampled(5)
@pytest.mark.parametrize("norm_before_gate", [False, True])
@pytest.mark.parametrize(("rows", "size"), [(1, 3), (65, 16), (200, 70), (300, 128)])
def test_gated_norm(form, rows, size, norm_before_gate):
    inputs = 3 * randn(rows, size, seed=1), 3 * randn(rows, size, seed=2)
    agree(lambda: GatedRMSNorm(size, norm_before_gate=norm_before_gate), *inputs)


def test_gated_norm_takes_parts_of_rows_and_zeros():
    wide = randn(20, 50, seed=1).float()
    layer = randomised(GatedRMSNorm(16))
    found = layer(wide[:, 3:19], wide[:, 20:36])
    with use_backend("torch"):
        assert relative_error(found, layer(wide[:, 3:19], wide[:, 20:36])) < 1e-5
    assert not layer(torch.zeros(2, 16), torch.zeros(2, 16)).any()


@pytest.mark.sampled(5)
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(("rows", "width", "inner"), [(1, 16, 16), (95, 32, 48), (300, 48, 80), (100, 256, 1024)])
def test_feed_forward(form, rows, width, inner, after):
    """The last size is one whose matrices are multiplied by blocks."""
    agree(lambda: FeedForward(width, inner, 0.3, dropout_after_norm=after).eval(), 2 * randn(rows, width, seed=1))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("after", [False, True])
def test_the_gradient_is_of_what_dropout_left(form, after):
    """Along a random direction of the input and of each parameter, against differences under the same seed."""
    layer = randomised(FeedForward(32, 64, 0.4, dropout_after_norm=after))
    x = randn(130, 32, seed=1).float().requires_grad_()
    weights = randn(130, 32, seed=99)

    def loss() -> torch.Tensor:
        torch.manual_seed(7)
        return (layer(x).double() * weights).sum()

    def moved(leaf: torch.Tensor, by: torch.Tensor) -> float:
        leaf.data += by
        value = loss().item()
        leaf.data -= by
        return value

    leaves = [x, *layer.parameters()]
    for number, (leaf, gradient) in enumerate(zip(leaves, torch.autograd.grad(loss(), leaves), strict=True)):
        direction = randn(*leaf.shape, seed=50 + number).float()
        difference = (moved(leaf, 3e-3 * direction) - moved(leaf, -3e-3 * direction)) / 6e-3
        assert abs((gradient.double() * direction).sum().item() - difference) < 5e-3 * abs(difference) + 5e-3


def test_dropouts_keep_the_mean(form):
    """Where the norm is nearly linear, since its input hardly varies."""
    layer = randomised(FeedForward(16, 64, 0.25))
    layer.w_1.weight.data.zero_()
    x = torch.tensor([100.0, -100.0]).repeat(8).expand(20_000, -1)
    torch.manual_seed(0)
    with torch.no_grad():
        first, second, plain = layer(x), layer(x), layer.eval()(x)
        layer.w_2.weight.zero_()
        without = layer(x)
    assert not torch.equal(first, second)
    assert (first.mean(0) - plain.mean(0)).norm() < 0.05 * (plain.mean(0) - without.mean(0)).norm()


def test_second_dropout_keeps_values_and_scales_them(form):
    layer = randomised(FeedForward(16, 64, 0.25, dropout_after_norm=True))
    layer.w_2.weight.data.zero_()
    x = randn(20_000, 16, seed=1).float()
    with torch.no_grad():
        y, plain = layer(x), layer.eval()(x)
    kept = y != 0
    assert abs(kept.double().mean() - 0.75) < 5 * (0.25 * 0.75 / y.numel()) ** 0.5
    torch.testing.assert_close(y[kept], plain[kept] / 0.75)


def test_what_does_not_fit_is_computed_in_pytorch():
    """Widths that fill no vector, and dropout of everything."""
    for layer in (FeedForward(6, 24, 0.0), FeedForward(16, 64, 1.0)):
        y = layer(torch.ones(2, layer.norm.normalized_shape[0]))
        assert y.shape == (2, layer.norm.normalized_shape[0])
    assert choose("feed_forward", torch.empty(1, dtype=torch.float64)) == "torch"


def test_no_gradients_wanted_nothing_is_kept():
    layer = randomised(FeedForward(16, 64, 0.0)).requires_grad_(False)
    x = randn(5, 16, seed=1).float()
    assert not layer(x).requires_grad
    x.requires_grad_()
    layer(x).sum().backward()
    assert x.grad is not None
    assert all(parameter.grad is None for parameter in layer.parameters())
