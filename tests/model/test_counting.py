"""Models that count: their scores by loops in float64 over the raw sequences, and what is kept of them."""

import math

import pytest
import torch
from atomic import histories, make_config, make_loaders, read_interactions
from recbole.data.interaction import Interaction

from recbole_ssm import InputError, Recommender, run
from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.errors import CheckpointError
from recbole_ssm.ops.packing import cumulative_lengths


class Sequences:
    """What a model that counts asks of a dataset."""

    def __init__(self, sequences, n_items):
        self.sequences, self.item_num = sequences, n_items

    def num(self, field):
        return self.item_num

    def whole_sequences(self):
        return packed(self.sequences)


def packed(sequences):
    tokens = torch.tensor([item for sequence in sequences for item in sequence])
    return tokens, cumulative_lengths(torch.tensor([len(sequence) for sequence in sequences]))


def draw(seed, n_items=12, sequences=20, longest=15):
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, longest + 1, (sequences,), generator=generator).tolist()
    return [torch.randint(1, n_items, (length,), generator=generator).tolist() for length in lengths]


def build(name, tiny, seed=0, **keys):
    config = make_config(tiny, name, **keys)
    return config.model_class(config, Sequences(draw(seed), 12)).eval()


def scores_of(model, histories):
    tokens, cu_seqlens = packed(histories)
    return model.full_sort_predict(Interaction({"item_id_list": tokens, "cu_seqlens": cu_seqlens})).double()


def counts(sequences, n_items, weight, window):
    found = torch.zeros(n_items, n_items, dtype=torch.float64)
    for sequence in sequences:
        for place, a in enumerate(sequence):
            for distance in range(1, min(window, place) + 1):
                found[sequence[place - distance], a] += weight(distance)
    return found


def test_pctm_is_the_formula_of_the_paper(tiny):
    power, base, s, decay, recent, share, popularity = 0.7, 0.9, 0.3, 0.6, 3, 0.8, -0.4
    keys = {"window": 4, "distance_power": power, "distance_base": base, "smoothing": s, "history_base": decay}
    keys |= {"recent_items": recent, "recent_share": share, "popularity_weight": popularity}
    model = build("PCTM", tiny, **keys)
    sequences, n = draw(0), 12
    C = counts(sequences, n, lambda d: d**-power * base ** (d - 1), 4)
    P = (C + s) / (C.sum(1, keepdim=True) + n * s)
    frequency = torch.tensor([sum(sequence.count(item) for sequence in sequences) for item in range(n)])
    for history in draw(1):
        newest_first = history[::-1]
        weights = [decay**j for j in range(min(recent, len(history)))]
        whole = share if len(history) > recent else 1.0
        weights = [whole * weight / sum(weights) for weight in weights]
        weights += [(1 - share) / max(len(history) - recent, 1)] * (len(history) - len(weights))
        assert sum(weights) == pytest.approx(1)
        expected = sum(w * P[b].log() for w, b in zip(weights, newest_first, strict=True))
        expected = expected + popularity * frequency.clamp(min=1).log()
        difference = scores_of(model, [history])[0] - expected
        torch.testing.assert_close(difference, difference[:1].expand(n), atol=1e-5, rtol=0.0)  # the same for all items


@pytest.mark.sampled(4)
@pytest.mark.parametrize("idf", [True, False])
@pytest.mark.parametrize(("recent", "most"), [(None, None), (3, 2), (1, 5)])
def test_seq_rules_by_loops(tiny, idf, recent, most):
    keys = {"distance_decay": "log", "history_decay": "quadratic", "idf": idf, "recent_items": recent}
    model = build("SeqRules", tiny, window=5, max_rules=most, **keys)
    sequences, n = draw(0), 12
    R = counts(sequences, n, lambda d: 1 / math.log10(d + 1.7), 5)
    if idf:
        having = [sum(item in sequence for sequence in sequences) for item in range(n)]
        values = [math.log(len(sequences) / count) if count else None for count in having]
        known = [value for value in values if value is not None]
        for item, value in enumerate(values):
            R[item] *= 0 if value is None else (value - min(known)) / (max(known) - min(known))
    if most is not None:
        R = torch.where(R.sort(1, descending=True).values[:, most - 1 : most] <= R, R, 0)
    for history in draw(1):
        newest = history[::-1][: recent or len(history)]
        expected = sum(R[b] / j**2 for j, b in enumerate(newest, 1))
        torch.testing.assert_close(scores_of(model, [history])[0], expected, atol=1e-5, rtol=1e-5)


def test_a_markov_chain_knows_shares_of_what_came_next(tiny):
    model = build("MarkovChain", tiny)
    C = counts(draw(0), 12, lambda d: 1.0, 1)
    P = C / C.sum(1, keepdim=True).clamp(min=1)
    for history in draw(1):
        torch.testing.assert_close(scores_of(model, [history])[0], P[history[-1]], atol=1e-5, rtol=0.0)


NAMES = ["PCTM", "SeqRules", "MarkovChain"]


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_changes_nothing(tiny, name):
    model = build(name, tiny, recent_items=4) if name != "MarkovChain" else build(name, tiny)
    some = draw(1)
    together = scores_of(model, some)
    lengths = torch.tensor([len(history) for history in some])
    rows = torch.nn.utils.rnn.pad_sequence([torch.tensor(history) for history in some], batch_first=True)
    padded = Interaction({"item_id_list": rows, "item_length": lengths})
    torch.testing.assert_close(model.full_sort_predict(padded).double(), together)
    for history, row in zip(some, together, strict=True):
        torch.testing.assert_close(scores_of(model, [history])[0], row)
    tokens, cu_seqlens = packed(some)
    candidates, of = torch.tensor([3, 1, 11, 3]), torch.tensor([0, 0, 2, 19])
    batch = {"item_id_list": tokens, "cu_seqlens": cu_seqlens, "item_id": candidates, "candidate_seq_idx": of}
    torch.testing.assert_close(model.predict(Interaction(batch)).double(), together[of, candidates])


@pytest.mark.parametrize("name", NAMES)
def test_items_without_evidence_are_in_a_fixed_order_of_chance(tiny, name):
    one, same = build(name, tiny), build(name, tiny)
    empty = type(one)(make_config(tiny, name), Sequences([[1, 2]], 12))
    scores = scores_of(empty, [[5]])[0]
    assert len(scores.unique()) == 12 and scores.argsort().tolist() != list(range(12))
    assert scores.max() - scores.min() < 1e-5
    assert torch.equal(scores_of(one, [[5]]), scores_of(same, [[5]]))


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_trained_on_is_counted(tiny, name):
    config = make_config(tiny, name)
    dataset, (train, _, _) = make_loaders(config)
    model = config.model_class(config, train._dataset)
    names, users = (dataset.field2id_token[field] for field in ("item_id", "user_id"))
    every = histories(read_interactions(tiny / "tiny" / "tiny.inter"))
    tokens, cu_seqlens = train._dataset.whole_sequences()
    numbers = train._dataset.inter_feat["user_id"][train._dataset.last_samples()].tolist()
    borders = zip(cu_seqlens[:-1].tolist(), cu_seqlens[1:].tolist(), strict=True)
    found = {users[u]: names[tokens[a:b].numpy()].tolist() for u, (a, b) in zip(numbers, borders, strict=True)}
    assert found == {user: items[:-2] for user, items in every.items()}
    assert int(model.frequency.sum()) == sum(map(len, found.values()))


@pytest.mark.parametrize(
    ("name", "keys"),
    [("PCTM", {"popularity_weight": -0.4}), ("SeqRules", {"idf": True, "max_rules": 3}), ("MarkovChain", {})],
)
def test_a_model_that_is_brought_up_to_date_is_one_that_counted_all(tiny, name, keys):
    """In two steps: items are added to sequences, and whole sequences."""
    everything = draw(0)
    config = make_config(tiny, name, **keys)
    expected = config.model_class(config, Sequences(everything, 12)).eval()
    begun = [sequence[: 1 + len(sequence) // 2] for sequence in everything[:12]]
    model = config.model_class(config, Sequences(begun, 12)).eval()
    tokens, cu_seqlens = packed(everything[:12])
    new = torch.tensor([k >= 1 + len(one) // 2 for one in everything[:12] for k in range(len(one))])
    model.update(tokens, cu_seqlens, new)
    tokens, cu_seqlens = packed(everything[12:])
    model.update(tokens, cu_seqlens, torch.ones_like(tokens, dtype=torch.bool))
    assert torch.equal(model.frequency, expected.frequency)
    assert torch.equal(model.holders, expected.holders)
    assert model.n_sequences == expected.n_sequences
    torch.testing.assert_close(scores_of(model, draw(5)), scores_of(expected, draw(5)), atol=2e-6, rtol=1e-5)


@pytest.fixture(scope="module")
def counted(tiny, tmp_path_factory):
    settings = {"data_path": str(tiny), "use_gpu": False, "show_progress": False}
    settings |= {"checkpoint_dir": str(tmp_path_factory.mktemp("counted")), "epochs": 7, "learning_rate": 0.1}
    return run("PCTM", "tiny", config_dict=settings)


def test_a_run_counts_once_and_says_which_keys_do_nothing(counted, tiny):
    assert (counted["epochs"], counted["parameters"]) == (1, 0)
    assert [epoch["train_loss"] for epoch in counted["history"]] == [0.0]
    assert torch.load(counted["checkpoint"])["state_dict"]["nothing"].tolist() == [0.0]
    config = make_config(tiny, "PCTM", learning_rate=0.1, teacher="none.pth", hidden_size=8, epochs=9)
    assert {"epochs", "learning_rate", "teacher", "hidden_size"} <= config.passed_over.keys()
    with pytest.raises(InputError, match="smoothing must be a number"):
        make_config(tiny, "PCTM", smoothing=0)


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    "change",
    [
        lambda kept: kept.clear(),
        lambda kept: kept.update(counts_items=kept["counts_items"] + 1000),
        lambda kept: kept.update(counts_items=-kept["counts_items"]),
        lambda kept: kept.update(counts_start=kept["counts_start"].flip(0)),
        lambda kept: kept.update(counts_start=kept["counts_start"][:-1]),
        lambda kept: kept.update(counts_values=kept["counts_values"][1:]),
        lambda kept: kept.update(counts_values=kept["counts_values"] * math.nan),
        lambda kept: kept.update(counts_values=kept["counts_values"].double()),
        lambda kept: kept.update(frequency=kept["frequency"][1:]),
        lambda kept: kept.update(frequency="many"),
        lambda kept: kept.update(holders=kept["holders"].float()),
        lambda kept: kept.update(n_sequences="many"),
    ],
)
def test_a_checkpoint_with_other_counts_is_refused(counted, tmp_path, change):
    outside = {"format", "format_version", "checksum"}
    state = {key: value for key, value in torch.load(counted["checkpoint"]).items() if key not in outside}
    assert Recommender(counted["checkpoint"]).model.n_sequences > 0
    change(state["other_parameter"])
    checkpoint.write(tmp_path / "forged.pth", state)
    with pytest.raises(CheckpointError, match="do not fit PCTM"):
        Recommender(tmp_path / "forged.pth")


def test_counts_are_no_teacher(counted, tiny):
    settings = {"data_path": str(tiny), "use_gpu": False, "show_progress": False, "teacher": counted["checkpoint"]}
    with pytest.raises(CheckpointError, match=r"without embeddings of items; name a model that has them"):
        run("2Mamba4Rec", "tiny", config_dict=settings)
