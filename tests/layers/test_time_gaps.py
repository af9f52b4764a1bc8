"""Gaps between interactions: what is read of them, and mixers whose steps they scale, against plain loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from packed_cases import borders, randn, randomise, slices

from recbole_ssm.layers import LRU, Hydra, Mamba, Mamba2, TimeGaps
from recbole_ssm.layers.time_gaps import gaps_after

WIDTH = 12
LENGTHS = (7, 1, 9, 2)
TIMES = [
    1.7e9 + place * 100.0 + (place * place % 7) * 10**power
    for power, length in enumerate(LENGTHS)
    for place in range(length)
]

MIXERS = {
    "Mamba": lambda: Mamba(WIDTH, d_state=5, time_gaps=1),
    "Mamba2": lambda: Mamba2(WIDTH, d_state=5, headdim=6, ngroups=2, time_gaps=1),
    "Hydra": lambda: Hydra(WIDTH, d_state=5, headdim=6, ngroups=2, time_gaps=1),
    "LRU": lambda: LRU(WIDTH, time_gaps=1),
}

each_mixer = pytest.mark.parametrize("name", MIXERS)


def make(name, seed=0):
    torch.manual_seed(seed)
    return randomise(MIXERS[name]()).double().eval()


def features(scale=50.0, times=TIMES):
    return TimeGaps(scale).double()(torch.tensor(times, dtype=torch.float64), borders(LENGTHS))


def test_gaps_are_those_of_a_plain_loop():
    found = features().squeeze(1).tolist()
    for tokens in slices(LENGTHS):
        before = TIMES[tokens.start]
        for token in range(tokens.start, tokens.stop):
            assert found[token] == pytest.approx(math.log1p(max(TIMES[token] - before, 0) / 50), rel=1e-12)
            before = TIMES[token]


def test_a_gap_after_a_token_is_the_one_before_the_next():
    gaps = features()
    after = gaps_after(gaps, borders(LENGTHS))
    for tokens in slices(LENGTHS):
        assert torch.equal(after[tokens][:-1], gaps[tokens][1:])
        assert not after[tokens][-1].any()


def test_seconds_count_in_unix_time():
    """In float32 these times are equal."""
    gaps = TimeGaps(1.0)
    found = gaps(torch.tensor([1.7e9, 1.7e9 + 1], dtype=torch.float64), borders((2,)))
    assert found.dtype == torch.float32 and found[1].item() == pytest.approx(math.log(2))


@each_mixer
def test_with_weights_of_zero_a_mixer_is_the_one_without_gaps(name):
    mixer, hidden = make(name), randn(sum(LENGTHS), WIDTH)
    before = mixer(hidden, borders(LENGTHS))
    assert not torch.allclose(mixer(hidden, borders(LENGTHS), gaps=features()), before)
    torch.nn.init.zeros_(mixer.gap_weight)
    torch.testing.assert_close(mixer(hidden, borders(LENGTHS), gaps=features()), before)


@each_mixer
def test_a_change_of_scale_of_times_changes_nothing(name):
    """Times and scale in another unit: only their ratio is read."""
    mixer, hidden = make(name), randn(sum(LENGTHS), WIDTH)
    milliseconds = features(50_000.0, [1000 * time for time in TIMES])
    found, expected = (mixer(hidden, borders(LENGTHS), gaps=gaps) for gaps in (milliseconds, features()))
    torch.testing.assert_close(found, expected)


@each_mixer
def test_a_causal_mixer_reads_no_later_gap(name):
    mixer, hidden, place = make(name), randn(9, WIDTH), 5
    times = torch.tensor(TIMES[8:17], dtype=torch.float64)
    later = times.clone()
    later[place:] += 12_345.0
    before, after = (
        mixer(hidden, borders((9,)), gaps=TimeGaps(50.0).double()(each, borders((9,)))) for each in (times, later)
    )
    if name == "Hydra":  # both ways, and shifted by a token
        assert not torch.allclose(before[place + 1], after[place + 1]), "the gap is not read"
    else:
        torch.testing.assert_close(before[:place], after[:place], rtol=1e-12, atol=1e-12)
        assert not torch.allclose(before[place], after[place]), "the gap is not read"


@pytest.mark.parametrize("reverse", [False, True])
def test_mamba2_is_a_plain_loop_with_scaled_steps(reverse):
    mixer, hidden, gaps = make("Mamba2"), randn(sum(LENGTHS), WIDTH), features()
    with torch.no_grad():
        projected = mixer.in_proj(hidden)
        found = mixer.mix(projected, borders(LENGTHS), reverse=reverse, gaps=gaps)
        for tokens in slices(LENGTHS):
            length = tokens.stop - tokens.start
            order = list(range(length))[:: -1 if reverse else 1]
            rows = projected[tokens][order]
            log_gaps = gaps[tokens].squeeze(1)
            if reverse:
                log_gaps = torch.cat([log_gaps.new_zeros(1), log_gaps[1:].flip(0)])
            expected = mamba2_loop(mixer, rows, log_gaps)
            torch.testing.assert_close(found[tokens][order], expected)


def mamba2_loop(mixer, rows, log_gaps):
    """Mamba-2 token by token, in the order of reading."""
    z, xBC, raw = rows.split([mixer.d_inner, mixer.d_inner + 4 * mixer.d_state, mixer.nheads], dim=-1)
    taps, h, outputs = mixer.conv1d.weight.squeeze(1), 0.0, []
    for t in range(len(rows)):
        window = F.pad(xBC, (0, 0, taps.shape[1] - 1, 0))[t : t + taps.shape[1]]
        mixed = F.silu((window * taps.T).sum(0) + mixer.conv1d.bias)
        x, B, C = mixed.split([mixer.d_inner, 2 * mixer.d_state, 2 * mixer.d_state])
        x = x.view(mixer.nheads, -1)
        B, C = (each.view(2, -1).repeat_interleave(mixer.nheads // 2, 0) for each in (B, C))
        dt = F.softplus(raw[t] + mixer.dt_bias + mixer.gap_weight[0] * log_gaps[t])
        decay = torch.exp(-dt * mixer.A_log.exp())
        h = decay[:, None, None] * h + dt[:, None, None] * x[:, :, None] * B[:, None, :]
        y = (h * C[:, None, :]).sum(-1) + mixer.D[:, None] * x
        outputs.append(y.flatten())
    return mixer.out_proj(mixer.norm(torch.stack(outputs), z))


def test_lru_is_a_plain_loop_with_scaled_forgetting():
    mixer, hidden, gaps = make("LRU"), randn(sum(LENGTHS), WIDTH), features()
    with torch.no_grad():
        found = mixer(hidden, borders(LENGTHS), gaps=gaps)
        inputs = mixer.in_proj(hidden).unflatten(-1, (2, -1)) * mixer.gamma_log.exp()
        for tokens in slices(LENGTHS):
            h = 0.0
            for token in range(tokens.start, tokens.stop):
                elapsed = F.softplus(math.log(math.e - 1) + mixer.gap_weight[0] * gaps[token, 0])
                decay = torch.exp(torch.complex(-mixer.nu_log.exp() * elapsed, mixer.theta_log.exp()))
                h = decay * h + torch.complex(*inputs[token])
                expected = mixer.out_proj(torch.cat([h.real, h.imag]))
                torch.testing.assert_close(found[token], expected)
