"""Steps of sessions as a GPU has them: recorded once, in memory that all sessions use in turn. The CPU calls them."""

import copy
from collections import Counter

import pytest
import torch
from atomic import small
from torch.testing import assert_close

from recbole_ssm import Recommender, run
from recbole_ssm.serving import stepping
from recbole_ssm.serving.forms import leaves, like
from recbole_ssm.serving.stepping import RecordedStepper

MODELS = {
    "Mamba4Rec": {"num_layers": 2},
    "2Mamba4Rec": {"repeat_bias": True, "item_bias": True, "transition_memory": True, "memory_items": 3},
    "LRURec": {"repeat_bias": True},
}
CLICKS = ["i3", "i7", "i3", "i11", "i5"]


@pytest.fixture(scope="module", params=MODELS)
def file(request, tiny, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    fixed = {"data_path": str(tiny), "checkpoint_dir": str(folder), "use_gpu": False, "show_progress": False}
    settings = {**fixed, "epochs": 1, **small(request.param), **MODELS[request.param]}
    return run(request.param, "tiny", config_dict=settings)["checkpoint"]


def as_on_a_gpu(file, **keys) -> Recommender:
    recommender = Recommender(file, **keys)
    recommender._cuda_graph = True
    return recommender


@pytest.mark.sampled(8)
@pytest.mark.parametrize("filter_seen", [False, True])
def test_sessions_in_turn_are_as_each_alone(file, filter_seen):
    recommender = as_on_a_gpu(file, filter_seen=filter_seen)
    plain = Recommender(file, filter_seen=filter_seen)
    begun, empty = recommender.session(CLICKS[:2]), recommender.session()
    assert isinstance(recommender._stepper(), RecordedStepper)
    for number, click in enumerate(CLICKS):
        begun.add(click)
        if number == 2:
            branch = copy.copy(begun)
        empty.add(click)
        if number > 2:
            branch.add("i20")
        for session in (begun, empty):
            for k in (3, 100):
                expected = plain.session(session.history).recommend(k)
                found = session.recommend(k)
                assert [name for name, _ in found] == [name for name, _ in expected]
                assert_close([score for _, score in found], [score for _, score in expected], rtol=1e-5, atol=1e-6)
                names = {name for name, _ in found}
                assert not filter_seen or not names & set(session.history)
    assert branch.history == [*CLICKS[:2], *CLICKS[:3], "i20", "i20"]
    expected = recommender.recommend([branch.history], 5)[0]
    assert [name for name, _ in branch.recommend(5)] == [name for name, _ in expected]


def test_what_is_recorded_uses_the_same_memory_in_each_call(file, monkeypatch):
    """A graph would read and write the memory that its function had when it was recorded."""
    recommender, recordings, places = as_on_a_gpu(file), [], Counter()

    def record(function, _device):
        recordings.append(function)
        return function

    monkeypatch.setattr(stepping, "recorded", record)
    step, score_all = recommender.model.stepper(), recommender.model.score_all

    def noted_step(items, state):
        places[("read", items.data_ptr(), *(each.data_ptr() for each in leaves(state)))] += 1
        return step(items, state)

    def noted_scores(hidden, added=()):
        places[("rank", hidden.data_ptr(), *(each[0].data_ptr() for each in added[:1]))] += 1
        return score_all(hidden, added)

    monkeypatch.setattr(recommender.model, "stepper", lambda: noted_step)
    monkeypatch.setattr(recommender.model, "score_all", noted_scores)
    sessions = [recommender.session(["i1"]), recommender.session(["i2"])]
    for click in CLICKS:
        for session in sessions:
            session.add(click)
            session.recommend(4)
    assert sorted(places.values()) == [10, 10]
    assert len(recordings) == 2  # to read, and to rank four
    sessions[0].recommend(5)
    assert len(recordings) == 3


def test_a_state_keeps_its_form():
    state = [(torch.ones(2), [torch.zeros(3)]), torch.ones(4)]
    found = list(leaves(state))
    assert [len(leaf) for leaf in found] == [2, 3, 4]
    again = like(state, iter(found))
    assert type(again[0]) is tuple
    assert again[0][1][0] is state[0][1][0]


def test_parts_of_a_memory_begin_where_kernels_like_it(file):
    recommender = as_on_a_gpu(file)
    session = recommender.session(["i1", "i2"])
    kept = recommender._stepper().kept(session._memory)
    start = session._memory.data_ptr()
    assert all((part.data_ptr() - start) % 16 == 0 for part in (kept.hidden, kept.seen, *leaves(kept.state)))
    assert kept.seen[0].nonzero()[:, 0].tolist() == sorted(recommender.items.index(item) for item in ("i1", "i2"))
