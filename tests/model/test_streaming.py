"""A model that keeps a state says after each item what it says of the whole history."""

import pytest
import torch
from atomic import interactions, make_config, make_loaders, write_dataset
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from recbole_ssm.layers import LRU, Mamba, Mamba2
from recbole_ssm.ops.packing import cumulative_lengths

STREAMING = {"Mamba4Rec", "2Mamba4Rec", "LRURec"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streaming")
    write_dataset(folder, interactions(n_users=20, n_items=40))
    return folder


@pytest.fixture
def model(folder, request):
    name, keys = request.param
    config = make_config(folder, name, **keys)
    _, (train, _, test) = make_loaders(config)
    torch.manual_seed(0)
    model = config.model_class(config, train._dataset).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model, test


@pytest.mark.parametrize(
    "model",
    [(name, {"num_layers": layers}) for name in sorted(STREAMING) for layers in (1, 2)],
    indirect=True,
    ids=lambda value: f"{value[0]}-{value[1]['num_layers']}",
)
@torch.no_grad()
def test_steps_give_what_the_whole_history_gives(model):
    recommender, _ = model
    assert recommender.streams
    length, rows = 9, 3
    histories = torch.randint(1, recommender.n_items, (rows, length), generator=torch.Generator().manual_seed(1))
    cu_seqlens = torch.arange(0, rows * length + 1, length, dtype=torch.int32)
    whole = recommender.encode(histories.flatten(), cu_seqlens).view(rows, length, -1)
    state = None
    for place in range(length):
        hidden, state = recommender.step(histories[:, place], state)
        assert_close(hidden, whole[:, place])

    some = torch.tensor([5, 1, 8])  # shorter than the convolution, too
    begun = torch.cat([history[:end] for history, end in zip(histories, some.tolist(), strict=True)])
    hidden, state = recommender.prefill(begun, cumulative_lengths(some))
    assert_close(hidden, whole[torch.arange(rows), some - 1])
    hidden, _ = recommender.step(histories[torch.arange(rows), some], state)
    assert_close(hidden, whole[torch.arange(rows), some])


@pytest.mark.parametrize(
    "model", [("2Mamba4Rec", {"repeat_bias": True, "item_bias": True})], indirect=True, ids=["2Mamba4Rec"]
)
@torch.no_grad()
def test_scores_after_a_step_are_those_of_full_ranking(model):
    recommender, test = model
    batch = test.collate_fn([0, 1, 2, 3])[0]
    tokens, cu_seqlens = recommender.packed(batch)
    ends = cu_seqlens[1:].long() - 1
    seen = recommender.items_seen(tokens, cu_seqlens, ends)
    hidden = []
    for first, end in zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True):
        state = None
        for token in tokens[first:end]:
            last, state = recommender.step(token[None], state)
        hidden.append(last)
    assert_close(recommender.score_all(torch.cat(hidden), seen), recommender.full_sort_predict(batch))
    with pytest.raises(ValueError, match="repeat_bias"):
        recommender.score_all(torch.cat(hidden))


@pytest.mark.parametrize(
    "model",
    [(name, {}) for name in ("SSD4Rec", "Hydra4Rec", "PackedSASRec")],
    indirect=True,
    ids=lambda value: value[0],
)
def test_models_that_keep_no_state_say_so(model):
    recommender, _ = model
    assert not recommender.streams
    with pytest.raises(NotImplementedError, match="keeps no state"):
        recommender.step(torch.tensor([1]))
    with pytest.raises(NotImplementedError, match="keeps no state"):
        recommender.prefill(torch.tensor([1]), torch.tensor([0, 1], dtype=torch.int32))


@given(st.integers(0, 2**31), st.integers(1, 12), st.sampled_from([1, 3, 4]), st.sampled_from([1, 2]))
@torch.no_grad()
def test_steps_of_mixers_over_random_shapes(seed, length, d_conv, ngroups):
    torch.manual_seed(seed)
    hidden = torch.randn(2 * length, 8, dtype=torch.float64)
    cu_seqlens = torch.tensor([0, length, 2 * length], dtype=torch.int32)
    for mixer in (Mamba(8, 4, d_conv), Mamba2(8, 4, d_conv, headdim=4, ngroups=ngroups), LRU(8)):
        mixer.double()
        whole = mixer(hidden, cu_seqlens).view(2, length, 8)
        state = None
        for place, given_ in enumerate(hidden.view(2, length, 8).unbind(1)):
            out, state = mixer.step(given_, state)
            assert_close(out, whole[:, place])
        out, at_once = mixer.prefill(hidden, cu_seqlens)
        assert_close(out.view(2, length, 8), whole)
        assert_close(at_once, state)


@pytest.mark.parametrize("model", [(name, {}) for name in sorted(STREAMING)], indirect=True, ids=lambda value: value[0])
@pytest.mark.parametrize("items", [[-1], [1, 10**9], [1.0], [[1], [2]], 3])
def test_a_step_by_what_is_no_item_is_refused(model, items):
    recommender, _ = model
    with pytest.raises(ValueError, match=r"item_id must|items must have shape"):
        recommender.step(torch.tensor(items))
    with pytest.raises(ValueError, match="item_id must be from 0 to "):
        recommender.step(torch.tensor([recommender.n_items]))
    recommender.step(torch.tensor([recommender.n_items - 1], dtype=torch.int32))
