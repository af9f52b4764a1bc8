"""A model that keeps a state; that its steps give what whole histories give is in tests/testing."""

import pytest
import torch
from atomic import WITHOUT_TEXTS, interactions, make_config, make_loaders, write_dataset
from hypothesis import given
from hypothesis import strategies as st
from model_cases import build
from torch.testing import assert_close

from recbole_ssm.layers import LRU, Mamba, Mamba2

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


@pytest.mark.parametrize("name", WITHOUT_TEXTS)
def test_these_models_keep_a_state(name):
    assert build(name).streams == (name in STREAMING)


@pytest.mark.parametrize(
    "model", [("2Mamba4Rec", {"repeat_bias": True, "item_bias": True})], indirect=True, ids=["2Mamba4Rec"]
)
@torch.no_grad()
def test_scores_after_a_step_are_those_of_full_ranking(model):
    recommender, test = model
    batch = test.collate_fn([0, 1, 2, 3])[0]
    tokens, cu_seqlens = recommender.packed(batch)
    ends = cu_seqlens[1:].long() - 1
    added = recommender.added(tokens, cu_seqlens, ends)
    hidden = []
    for first, end in zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True):
        state = None
        for token in tokens[first:end]:
            last, state = recommender.step(token[None], state)
        hidden.append(last)
    assert_close(recommender.score_all(torch.cat(hidden), added), recommender.full_sort_predict(batch))
    with pytest.raises(ValueError, match="repeat_bias"):
        recommender.score_all(torch.cat(hidden))


@pytest.mark.slow
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


@pytest.mark.sampled(4)
@pytest.mark.parametrize("model", [(name, {}) for name in sorted(STREAMING)], indirect=True, ids=lambda value: value[0])
@pytest.mark.parametrize("items", [[-1], [1, 10**9], [1.0], [[1], [2]], 3])
def test_a_step_by_what_is_no_item_is_refused(model, items):
    recommender, _ = model
    with pytest.raises(ValueError, match=r"item_id must|items must have shape"):
        recommender.step(torch.tensor(items))
    with pytest.raises(ValueError, match="item_id must be from 0 to "):
        recommender.step(torch.tensor([recommender.n_items]))
    recommender.step(torch.tensor([recommender.n_items - 1], dtype=torch.int32))
