"""The mixers: against transformers, against explicit matrices, and within borders."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from packed_cases import (
    alone,
    assert_same_bits,
    borders,
    compiled,
    randn,
    randomise,
    relative_error,
    sequence_lengths,
    slices,
)
from torch import nn

from recbole_ssm.layers import FeedForward, Hydra, Mamba, Mamba2
from recbole_ssm.layers.initialisation import inverse_softplus_dt
from recbole_ssm.layers.norm import GatedRMSNorm
from recbole_ssm.model.ssd4rec import BiSSDLayer
from recbole_ssm.ops import use_backend

WIDTH = 12
LENGTHS = (7, 1, 20, 2)


class Backward(Mamba2):
    """Mamba-2 from the end of each sequence."""

    def forward(self, hidden, cu_seqlens):
        return self.mix(self.in_proj(hidden), cu_seqlens, reverse=True)


def bi_ssd(**keys):
    return BiSSDLayer(
        {"hidden_size": WIDTH, "d_state": 5, "d_conv": 4, "expand": 2, "headdim": 6, "dropout_prob": 0.0}
        | {"beta": 0.7, "align_backward": False, "dropout_after_norm": True}
        | keys
    )


LAYERS = {
    "Mamba": lambda: Mamba(WIDTH, d_state=5),
    "Mamba2": lambda: Mamba2(WIDTH, d_state=5, headdim=6, ngroups=2),
    "Mamba2 backward": lambda: Backward(WIDTH, d_state=5, headdim=6),
    "Hydra": lambda: Hydra(WIDTH, d_state=5, headdim=6, ngroups=2),
    "BiSSDLayer": bi_ssd,
    "BiSSDLayer aligned": lambda: bi_ssd(align_backward=True),
}

each_layer = pytest.mark.parametrize("name", LAYERS)
in_float32 = pytest.mark.parametrize("dtype", ["float32", "float32-compiled"], indirect=True)
"""As transformers computes."""


def make(name, dtype=torch.float64):
    torch.manual_seed(0)
    return randomise(LAYERS[name]()).to(dtype).eval()


def evaluate(layer, hidden, cu_seqlens):
    """Output, and the gradient of the input for a fixed random gradient of the output."""
    hidden = hidden.clone().requires_grad_()
    output = layer(hidden, cu_seqlens)
    output.backward(randn(*output.shape, seed=1).to(output.dtype))
    return {"output": output.detach(), "gradient": hidden.grad}


@pytest.mark.sampled(5)
@each_layer
def test_no_token_sees_another_sequence(name, dtype):
    """Not a bit of the outputs and gradients of the others moves when one sequence changes.

    But for Mamba-2 in PyTorch, whose scan lets rounding move: see ``scan_contract.check_isolation``.
    """
    layer = make(name, dtype)
    hidden = randn(sum(LENGTHS), WIDTH).to(dtype)
    before = evaluate(layer, hidden, borders(LENGTHS))
    for tokens in slices(LENGTHS):
        changed = hidden.clone()
        changed[tokens] = randn(*changed[tokens].shape, seed=7).to(dtype)
        after = evaluate(layer, changed, borders(LENGTHS))
        assert not torch.equal(before["output"], after["output"])
        kept, same = (
            {key: torch.cat([value[: tokens.start], value[tokens.stop :]]) for key, value in found.items()}
            for found in (before, after)
        )
        if name != "Mamba" and not compiled(dtype):
            for key in kept:
                assert relative_error(same[key], kept[key]) < (1e-13 if dtype == torch.float64 else 1e-5)
        else:
            assert_same_bits(same, kept)


@pytest.mark.sampled(5)
@each_layer
def test_no_gradient_crosses_a_border(name, dtype):
    """An output that one sequence gives has a gradient of exactly zero at all others."""
    layer = make(name, dtype)
    for tokens in slices(LENGTHS):
        hidden = randn(sum(LENGTHS), WIDTH).to(dtype).requires_grad_()
        layer(hidden, borders(LENGTHS))[tokens].sum().backward()
        assert hidden.grad[tokens].all()
        assert not hidden.grad[: tokens.start].any()
        assert not hidden.grad[tokens.stop :].any()


@pytest.mark.sampled(3)
@each_layer
@given(lengths=sequence_lengths())
def test_packed_equals_one_sequence_at_a_time(name, lengths):
    layer = make(name)
    hidden = randn(sum(lengths), WIDTH)
    packed = layer(hidden, borders(lengths))
    for tokens, length in zip(slices(lengths), lengths, strict=True):
        torch.testing.assert_close(packed[tokens], layer(hidden[tokens], alone(length)))


@each_layer
def test_every_parameter_is_trained(name):
    layer = make(name)
    layer(randn(sum(LENGTHS), WIDTH), borders(LENGTHS)).square().sum().backward()
    assert not [
        key for key, parameter in layer.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]


@pytest.mark.parametrize("name", ["Mamba", "Mamba2"])
def test_causal_mixers_see_nothing_after_a_token(name):
    layer = make(name)
    hidden = randn(20, WIDTH)
    before = layer(hidden, alone(20))
    for t in (1, 7, 19):
        changed = hidden.clone()
        changed[t] += 1.0
        after = layer(changed, alone(20))
        torch.testing.assert_close(after[:t], before[:t])
        assert (after[t:] != before[t:]).any(1).all()


@pytest.mark.slow
@in_float32
@pytest.mark.parametrize("length", [1, 3, 4, 29])
def test_mamba_equals_that_of_transformers(length, dtype):
    modeling = pytest.importorskip("transformers.models.mamba.modeling_mamba", reason="transformers is not installed")
    config = modeling.MambaConfig(hidden_size=32, state_size=7, conv_kernel=4, expand=2, time_step_rank=2)
    theirs = randomise(modeling.MambaMixer(config, 0))
    ours = Mamba(32, d_state=7)
    ours.load_state_dict(theirs.state_dict())
    hidden = randn(length, 32).float()
    with torch.no_grad():
        expected = theirs(hidden[None])[0]
        assert relative_error(ours(hidden, alone(length)), expected) < 1e-5


@pytest.mark.slow
@in_float32
@pytest.mark.parametrize("ngroups", [1, 2])
@pytest.mark.parametrize("length", [1, 3, 4, 29])
def test_mamba2_equals_that_of_transformers(length, ngroups, dtype):
    modeling = pytest.importorskip("transformers.models.mamba2.modeling_mamba2", reason="transformers is not installed")
    config = modeling.Mamba2Config(
        hidden_size=32, state_size=7, conv_kernel=4, expand=2, num_heads=8, head_dim=8, n_groups=ngroups, chunk_size=16
    )
    theirs = randomise(modeling.Mamba2Mixer(config, 0))
    if ngroups > 1 and hasattr(theirs.norm, "group_size"):
        pytest.skip("from transformers 5 on each group is normalised by itself")
    ours = Mamba2(32, d_state=7, headdim=8, ngroups=ngroups)
    ours.load_state_dict(theirs.state_dict())
    hidden = randn(length, 32).float()
    with torch.no_grad():
        expected = theirs(hidden[None])[0]
        assert relative_error(ours(hidden, alone(length)), expected) < 1e-5


def test_mamba2_in_reverse_is_mamba2_of_the_reversed_sequence(dtype):
    layer = make("Mamba2", dtype)
    hidden = randn(sum(LENGTHS), WIDTH).to(dtype)
    reverse = layer.mix(layer.in_proj(hidden), borders(LENGTHS), reverse=True)
    for tokens, length in zip(slices(LENGTHS), LENGTHS, strict=True):
        expected = layer(hidden[tokens].flip(0), alone(length)).flip(0)
        assert relative_error(reverse[tokens], expected) < (1e-12 if dtype == torch.float64 else 1e-5)


def quasiseparable(dt_forward, dt_backward, A, BC_forward, BC_backward, diagonal):
    """The (L, L) matrix of one head (arXiv 2407.09941): strictly lower, strictly upper, and the diagonal.

    The lower part is that of a causal scan whose output is handed on by one token, so at (i, j) it is
    ``C[i-1] . B[j] exp(A (dt[j+1] + ... + dt[i-1])) dt[j]``; the upper one mirrors it.
    """
    length = len(diagonal)
    matrix = torch.zeros(length, length, dtype=torch.float64)
    (B_f, C_f), (B_b, C_b) = BC_forward, BC_backward
    for i in range(length):
        matrix[i, i] = diagonal[i]
        for j in range(i):
            decay = math.exp(A * sum(dt_forward[k].item() for k in range(j + 1, i)))
            matrix[i, j] = C_f[i - 1].dot(B_f[j]) * decay * dt_forward[j]
        for j in range(i + 1, length):
            decay = math.exp(A * sum(dt_backward[k].item() for k in range(i + 1, j)))
            matrix[i, j] = C_b[i + 1].dot(B_b[j]) * decay * dt_backward[j]
    return matrix


@pytest.mark.parametrize("ngroups", [1, 2])
@pytest.mark.parametrize("length", [1, 2, 3, 11, 23])
@torch.no_grad()
def test_hydra_equals_its_matrix(length, ngroups):
    d_state, headdim = 3, 6
    layer = randomise(Hydra(WIDTH, d_state=d_state, headdim=headdim, ngroups=ngroups)).double()
    d_inner, H, GN = layer.d_inner, layer.nheads, ngroups * d_state
    hidden = randn(length, WIDTH)

    projected = hidden @ layer.in_proj.weight.T
    z, mixed, dt = projected[:, :d_inner], projected[:, d_inner : -2 * H], projected[:, -2 * H :]
    weight, bias = layer.conv1d.weight, layer.conv1d.bias
    mixed = F.silu(F.conv1d(mixed.T, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))).T
    x, BC = mixed[:, :d_inner], mixed[:, d_inner:].reshape(length, 2, 2, ngroups, d_state)
    assert BC[0].numel() == 4 * GN
    dt_forward, dt_backward = F.softplus(dt[:, :H] + layer.dt_bias), F.softplus(dt[:, H:] + layer.dt_bias)
    diagonal = x @ layer.fc_D.weight.T + layer.D
    y = torch.empty(length, d_inner, dtype=torch.float64)
    for h in range(H):
        group, columns = h // (H // ngroups), slice(h * headdim, (h + 1) * headdim)
        matrix = quasiseparable(
            dt_forward[:, h],
            dt_backward[:, h],
            -math.exp(layer.A_log[h]),
            (BC[:, 0, 0, group], BC[:, 0, 1, group]),
            (BC[:, 1, 0, group], BC[:, 1, 1, group]),
            diagonal[:, h],
        )
        y[:, columns] = matrix @ x[:, columns]
    y = y / (y.square().mean(1, keepdim=True) + 1e-5).sqrt() * layer.norm.weight * F.silu(z)
    assert relative_error(layer(hidden, alone(length)), y @ layer.out_proj.weight.T) < 1e-10


@pytest.mark.parametrize("align", [False, True])
@torch.no_grad()
def test_bi_ssd_layer_runs_its_mixer_over_the_sequence_and_its_reversal(align):
    """``align_backward`` decides whether the second output is turned round again before the sum."""
    layer = randomise(bi_ssd(align_backward=align)).double().eval()
    x = randn(sum(LENGTHS), WIDTH)
    found = layer(x, borders(LENGTHS))
    for tokens, length in zip(slices(LENGTHS), LENGTHS, strict=True):
        f = layer.mixer(x[tokens], alone(length))
        b = layer.mixer(x[tokens].flip(0), alone(length))
        h = layer.norm(f + 0.7 * (b.flip(0) if align else b) + x[tokens])
        inner = F.gelu(h @ layer.ffn.w_1.weight.T + layer.ffn.w_1.bias)
        y = inner @ layer.ffn.w_2.weight.T + layer.ffn.w_2.bias
        torch.testing.assert_close(found[tokens], layer.ffn.norm(y + h))


@torch.no_grad()
def test_unaligned_backward_output_is_the_aligned_one_of_the_mirrored_position():
    """Seen from outside: where a norm and a network of identity leave the sum alone, and without beta they agree."""
    layers = {False: make("BiSSDLayer"), True: make("BiSSDLayer aligned")}
    x = randn(9, WIDTH)
    b = {}
    for align, layer in layers.items():
        layer.norm = layer.ffn = nn.Identity()
        total = layer(x, alone(9))
        layer.beta = 0.0
        b[align] = (total - layer(x, alone(9))) / 0.7
    torch.testing.assert_close(b[False], b[True].flip(0))
    assert not torch.allclose(b[False], b[True])
    torch.testing.assert_close(layers[False](x, alone(9)), layers[True](x, alone(9)))


def test_feed_forward_is_its_formula():
    layer = randomise(FeedForward(5, 20, 0.0)).double()
    x = randn(7, 5)
    y = F.gelu(x @ layer.w_1.weight.T + layer.w_1.bias) @ layer.w_2.weight.T + layer.w_2.bias + x
    y = (y - y.mean(1, keepdim=True)) / y.var(1, correction=0, keepdim=True).sqrt()
    torch.testing.assert_close(layer(x), y * layer.norm.weight + layer.norm.bias)


def test_feed_forward_drops_before_the_norm_or_after_it():
    """With everything dropped, the residual is left in the one order and nothing in the other."""
    x = randn(7, 5).float()
    before = FeedForward(5, 20, 1.0).train()
    torch.testing.assert_close(before(x), F.layer_norm(x, (5,), eps=1e-12))
    assert not FeedForward(5, 20, 1.0, dropout_after_norm=True).train()(x).any()


@pytest.mark.parametrize("after", [False, True])
def test_bi_ssd_layer_drops_what_it_adds_or_all_that_follows_a_norm(after):
    x = randn(7, WIDTH).float()
    layer = bi_ssd(dropout_prob=1.0, dropout_after_norm=after).train()
    left = torch.zeros_like(x) if after else F.layer_norm(F.layer_norm(x, (WIDTH,), eps=1e-12), (WIDTH,), eps=1e-12)
    torch.testing.assert_close(layer(x, alone(7)), left)


@pytest.mark.parametrize("norm_before_gate", [False, True])
def test_gated_norm_is_its_formula(norm_before_gate):
    layer = randomise(GatedRMSNorm(6, norm_before_gate=norm_before_gate)).double()
    y, z = randn(4, 6), randn(4, 6, seed=1)
    gate = z / (1 + torch.exp(-z))

    def norm(value):
        return value / (value.square().mean(1, keepdim=True) + 1e-5).sqrt() * layer.weight

    torch.testing.assert_close(layer(y, z), norm(y) * gate if norm_before_gate else norm(y * gate))


def test_initial_steps_are_log_uniform():
    torch.manual_seed(0)
    steps = F.softplus(inverse_softplus_dt(20_000).double())
    assert steps.min() > 0.99e-3
    assert steps.max() < 1.01e-1
    shares = torch.histc(steps.log(), 4, math.log(1e-3), math.log(1e-1)) / len(steps)
    torch.testing.assert_close(shares, torch.full((4,), 0.25, dtype=torch.float64), rtol=0.0, atol=0.02)


@pytest.mark.parametrize("mixer", [Mamba2, Hydra])
@pytest.mark.parametrize("sizes", [{"headdim": 7}, {"headdim": 8, "ngroups": 2}])
def test_heads_that_do_not_come_out_even_are_refused(mixer, sizes):
    with pytest.raises(ValueError, match=r"headdim \d must divide expand \* d_model = 24"):
        mixer(12, **sizes)


def test_hydra_refuses_an_even_width():
    with pytest.raises(ValueError, match=r"d_conv must be odd.*4"):
        Hydra(12, d_conv=4, headdim=6)


@pytest.mark.parametrize("backend", ["auto", "torch"])
@pytest.mark.parametrize("layer", [FeedForward(16, 64, 0.0), GatedRMSNorm(16)], ids=["ffn", "norm"])
def test_inputs_of_another_width_are_refused(layer, backend):
    given = [torch.zeros(9, 32)] if isinstance(layer, FeedForward) else [torch.zeros(9, 16), torch.zeros(4, 16)]
    with use_backend(backend), pytest.raises(ValueError, match="must have shape"):
        layer(*given)
