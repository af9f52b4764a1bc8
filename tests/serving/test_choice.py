"""What may be recommended: candidates, exclusions and seen items, against a ranking of everything."""

import pytest
import torch

from recbole_ssm import InputError, Recommender
from recbole_ssm.serving import choice

HISTORIES = [["i1", "i7", "i1"], ["i3"], ["i12", "i5", "i9", "i2"]]
KEYS = {"repeat_bias": True, "transition_memory": True, "memory_items": 3}
CANDIDATES = {
    "all": None,
    "one_set": ["i2", "i5", "i1", "i20", "i5"],
    "each": [["i2", "i5", "i1"], {"i30"}, ["i12", "i9", "i8", "i7", "i6"]],
    "some": [["i2", "i5", "i1"], None, []],
    "none": [],
}
EXCLUDE = {"none": None, "one_set": ("i5", "i8"), "each": [["i2"], ["i30"], None]}


def of_row(given, row: int):
    """The names that a row of a case allows or excludes; None for no rule."""
    if given is None or all(isinstance(each, str) for each in given):
        return given
    return given[row]


@pytest.fixture(scope="module", params=[("2Mamba4Rec", KEYS), ("SSD4Rec", {}), ("PCTM", {})], ids=lambda each: each[0])
def recommender(request, trained) -> Recommender:
    name, keys = request.param
    return Recommender(trained(name, **keys))


@pytest.mark.sampled(6)
@pytest.mark.parametrize("few", [1, 10**6], ids=["scores_of_candidates", "scores_of_all"])
@pytest.mark.parametrize("filter_seen", [False, True])
def test_the_best_are_those_of_all_that_may_be(recommender, monkeypatch, few, filter_seen):
    monkeypatch.setattr(choice, "_FEW", few)
    everything = recommender.recommend(HISTORIES, 100)
    for candidates in CANDIDATES.values():
        for exclude in EXCLUDE.values():
            rules = {"candidates": candidates, "exclude": exclude, "filter_seen": filter_seen}
            found = recommender.recommend(HISTORIES, 4, **rules)
            for row, history in enumerate(HISTORIES):
                may, may_not = of_row(candidates, row), of_row(exclude, row)
                expected = [
                    (name, score)
                    for name, score in everything[row]
                    if (may is None or name in may)
                    and name not in (may_not or ())
                    and not (filter_seen and name in history)
                ][:4]
                assert [name for name, _ in found[row]] == [name for name, _ in expected]
                assert dict(found[row]) == pytest.approx(dict(expected), abs=1e-5)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SSD4Rec"])
def test_sessions_leave_out_the_same(trained, recorded, model):
    recommender = Recommender(trained(model, **(KEYS if model == "2Mamba4Rec" else {})))
    recommender._cuda_graph = recorded  # of functions that a CPU calls
    session = recommender.session(HISTORIES[0])
    for candidates in (None, ["i2", "i1", "i5"], [], torch.tensor([1, 4, 9])):
        for exclude in (None, ["i5"]):
            for filter_seen in (None, False, True):
                rules = {"candidates": candidates, "exclude": exclude, "filter_seen": filter_seen}
                expected = recommender.recommend(HISTORIES[:1], 5, **rules)[0]
                found = session.recommend(5, **rules)
                assert [name for name, _ in found] == [name for name, _ in expected]


def test_unknown_names_are_refused_or_passed_over(trained):
    recommender = Recommender(trained("SSD4Rec"))
    session, known = recommender.session(["i1"]), recommender.recommend([["i1"]], candidates=["i2"])
    for what in ("candidates", "exclude"):
        for ask in (session.recommend, lambda **rule: recommender.recommend([["i1"]], **rule)):
            with pytest.raises(InputError, match="knows no item 'new'"):
                ask(**{what: ["i2", "new"]})
    assert recommender.recommend([["i1"]], candidates=["new", "i2"], skip_unknown=True) == known
    assert session.recommend(candidates=["new", "i2"], exclude=["newer"], skip_unknown=True) == known[0]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"candidates": "i1"}, "candidates are names"),
        ({"exclude": 3}, "exclude are names"),
        ({"exclude": [["i1"]]}, "or 2 lists, but are 1"),
        ({"candidates": [["i1"], "i2"]}, "candidates is a list of names"),
        ({"candidates": [1, 2]}, "candidates is a list of names of items, and not 1"),
        ({"candidates": torch.tensor([0])}, "numbers of items are an int64 tensor"),
        ({"exclude": torch.tensor([1.0])}, "numbers of items are an int64 tensor"),
        ({"filter_seen": "no"}, "filter_seen must be"),
    ],
)
def test_what_cannot_be_a_rule_is_refused(trained, rule, words):
    with pytest.raises(InputError, match=words):
        Recommender(trained("SSD4Rec")).recommend([["i1"], ["i2"]], **rule)


def test_what_is_near_has_the_largest_cosine(trained):
    recommender = Recommender(trained("SSD4Rec"))
    table = torch.nn.functional.normalize(recommender.model.item_embedding.weight.detach())
    (first, second) = recommender.similar(["i1", "i4"], 5)
    for name, found in (("i1", first), ("i4", second)):
        cosine = table @ table[recommender.items.index(name)]
        assert [cosine[recommender.items.index(other)].item() for other, _ in found] == pytest.approx(
            sorted((cosine[i].item() for i, each in enumerate(recommender.items) if i and each != name))[::-1][:5]
        )
        assert [value for _, value in found] == sorted((value for _, value in found), reverse=True)
        assert name not in dict(found)
    assert len(recommender.similar(["i1"], 10**9)[0]) == len(recommender.items) - 2
    with pytest.raises(InputError, match="PCTM here has no embeddings"):
        Recommender(trained("PCTM")).similar(["i1"])


def test_an_item_is_explained_by_each_of_the_history(tiny, trained):
    histories = Recommender(trained("PCTM")).histories(command_line=[f"--data_path={tiny}"])
    history = next(iter(histories.values()))
    before, after = history[0], history[1]
    for model, keys, similar, counted in (
        ("2Mamba4Rec", KEYS, True, True),
        ("SSD4Rec", {}, True, False),
        ("PCTM", {}, False, True),
    ):
        recommender = Recommender(trained(model, **keys))
        found = recommender.explain([before, after, before], after)
        assert [part.item for part in found] == [before, after, before]
        assert found[0] == found[2]
        for part in found:
            assert (part.similarity is not None, part.transitions is not None) == (similar, counted)
        if similar:
            assert found[1].similarity == pytest.approx(1)
        if counted:
            assert found[0].transitions > 0
    with pytest.raises(InputError, match="knows no item"):
        recommender.explain(history, "new")
