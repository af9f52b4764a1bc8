"""LlamaRec: the retriever's best items in another order, and nothing else changes."""

import os
import signal
import socket

import pytest
import torch
from atomic import interactions, make_config, make_trainer, small, write_dataset
from language_cases import needs_transformers, save_language
from near import near
from recbole.data.interaction import Interaction

needs_transformers()

from recbole_ssm.checkpoints import format as checkpoint  # noqa: E402
from recbole_ssm.checkpoints.load import stored_model  # noqa: E402
from recbole_ssm.errors import CheckpointError, InputError  # noqa: E402
from recbole_ssm.language.making import from_settings  # noqa: E402
from recbole_ssm.model.llamarec import reorder  # noqa: E402
from recbole_ssm.ops.packing import cumulative_lengths  # noqa: E402
from recbole_ssm.serving.recommender import Recommender  # noqa: E402
from recbole_ssm.system.state_file import checksum  # noqa: E402
from recbole_ssm.training.evaluation import evaluate  # noqa: E402
from recbole_ssm.training.hooks.stopping import Interrupted  # noqa: E402
from recbole_ssm.training.run import run  # noqa: E402

WORDS = ("red", "green", "blue", "old", "new", "big", "small", "fast", "slow", "dark", "bright", "cold", "warm")
LLAMA = {
    **{"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    "intermediate_size": 32,
}
KEYS = {
    **{"language_config": LLAMA, "rerank": 6, "history_items": 4, "tokenizer_size": 300},
    **{"filter_seen": True, "use_gpu": False, "show_progress": False, "learning_rate": 0.01, "topk": [3, 6]},
    **{"valid_metric": "NDCG@3", "prefixes_per_user": 2},
}


def trained(folder, model="LlamaRec", **keys):
    given = {"data_path": str(folder), **(KEYS if model == "LlamaRec" else small(model)), **keys}
    given = {name: value for name, value in given.items() if value is not None}
    of_run = {name: given.pop(name) for name in ("resume", "after_epoch") if name in given}
    return run(model, "tiny", config_dict={"use_gpu": False, "show_progress": False, **given}, **of_run)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the dataset tiny, titles included; a retriever for it, and what that reaches in the test."""
    folder = tmp_path_factory.mktemp("titles")
    file = write_dataset(folder, interactions())
    lines = [f"i{number}\t{WORDS[number % 13].title()} {WORDS[number // 7]} thing" for number in range(40)]
    text = "\n".join(["item_id:token\ttitle:token_seq", *lines]) + "\n"
    file.with_suffix(".item").write_text(text, encoding="utf-8")
    before = os.getcwd()
    os.chdir(folder)
    torch.set_num_threads(1)
    same = {"epochs": 2, "filter_seen": True, "topk": [3, 6], "valid_metric": "NDCG@3", "learning_rate": 0.03}
    found = trained(folder, "LRURec", **same, MAX_ITEM_LIST_LENGTH=5, checkpoint_dir=str(folder / "retrievers"))
    os.chdir(before)
    return folder, found["checkpoint"], found["test_result"]


def model_of(made, **keys):
    folder, retriever, _ = made
    _, trainer, loaders = make_trainer(make_config(folder, "LlamaRec", **KEYS | {"retriever": retriever, **keys}))
    return trainer.model.eval(), loaders


@pytest.fixture(scope="module")
def model(made, tmp_path_factory):
    return model_of(made)[0]


def batch_of(*histories, **fields):
    lengths = torch.tensor([len(history) for history in histories])
    items = torch.tensor([item for history in histories for item in history])
    return Interaction({"item_id_list": items, "cu_seqlens": cumulative_lengths(lengths), **fields})


HISTORIES = [[1, 2, 3, 4, 5, 6, 7], [9], [3, 9, 3, 20]]


def order(scores, history):
    """The items by their scores, the best first, without those of the history."""
    scores = scores.clone()
    scores[[0, *history]] = -torch.inf
    return scores.argsort(descending=True)[: len(scores) - len({0, *history})].tolist()


def test_the_same_items_come_first_in_another_order_and_the_order_of_others_stays(made, model):
    retriever = stored_model(checkpoint.read(made[1]), "cpu", made[1])
    own = retriever.full_sort_predict(batch_of(*(history[-5:] for history in HISTORIES)))
    scores = model.full_sort_predict(batch_of(*HISTORIES))
    orders = [[order(each, history) for each, history in zip(of, HISTORIES, strict=True)] for of in (scores, own)]
    assert [found[:6] for found in orders[0]] != [found[:6] for found in orders[1]]
    for found, before in zip(*orders, strict=True):
        assert sorted(found[:6]) == sorted(before[:6]) and found[6:] == before[6:]
    batch = batch_of(*HISTORIES)
    scores_of_retriever, candidates, there = model.retrieve(*model.packed(batch), model._left_out(batch))
    torch.testing.assert_close(scores_of_retriever, own)
    longer = batch_of(*HISTORIES, seen_rows=torch.tensor([0, 0, 2]), seen_items=torch.tensor([*orders[1][0][:2], 5]))
    candidates_of_longer = model.retrieve(*model.packed(longer), model._left_out(longer))[1]
    assert not {*orders[1][0][:2]} & {*candidates_of_longer[0].tolist()}  # that user had them before what is read
    for row, history in enumerate(HISTORIES):
        assert there.all() and not {0, *history} & {*candidates[row].tolist()}
        assert scores[row, 0] == own[row, 0]


def test_the_letters_decide_and_a_history_is_worth_the_same_alone_and_padded(model):
    together = model.full_sort_predict(batch_of(*HISTORIES))
    for row, history in enumerate(HISTORIES):
        torch.testing.assert_close(model.full_sort_predict(batch_of(history))[0], together[row])
    padded = torch.tensor([history + [0] * (7 - len(history)) for history in HISTORIES])
    lengths = torch.tensor([len(history) for history in HISTORIES])
    torch.testing.assert_close(
        model.full_sort_predict(Interaction({"item_id_list": padded, "item_length": lengths})), together
    )
    pool = order(together[0], HISTORIES[0])[:6]
    own = [pool[at] for at in (3, 1, 5, 0, 4, 2)]
    (prompt,) = model.prompts.tokens([HISTORIES[0]], [own])
    logits = model.language.model(torch.tensor([prompt])).logits[0, -1, model.letters]
    torch.testing.assert_close(model._letter_logits([HISTORIES[0]], [own])[0], logits)


def test_recommendations_order_the_best_of_what_may_be_recommended(model):
    """Also where that are others than in evaluation; one alone is in order, and nothing is read for it."""
    batch, allowed = batch_of(HISTORIES[0]), torch.tensor([4, 9, 11, 12, 20, 31, 33, 38])
    own = model._retrievers[0].full_sort_predict(batch_of(HISTORIES[0][-5:]))[0]
    others = torch.ones(model.n_items, dtype=torch.bool).index_fill(0, allowed, False).nonzero()[:, 0]
    found = model.rank_best(batch, 8, lambda: (torch.zeros_like(others), others))[0]
    before, after = (allowed[scores[allowed].argsort(descending=True)].tolist() for scores in (own, found))
    assert sorted(after[:6]) == sorted(before[:6]) and after[:6] != before[:6] and after[6:] == before[6:]
    letters = model._letter_logits([HISTORIES[0]], [before[:6]])[0]
    assert after[:6] == [before[place] for place in letters.argsort(descending=True).tolist()]
    asked = batch_of(HISTORIES[0], item_id=allowed, candidate_seq_idx=torch.zeros_like(allowed))
    torch.testing.assert_close(model.predict(asked), found[allowed])
    rest = torch.arange(2, model.n_items)
    assert torch.equal(model.rank_best(batch, 8, lambda: (torch.zeros_like(rest), rest))[0], own)


def test_the_retriever_is_asked_for_as_many_as_are_wanted(model, monkeypatch):
    """One that looks closely at its best items alone, as MamRec by titles, has the others in no order."""
    retriever, asked = model._retrievers[0], []
    rank_best = retriever.rank_best
    monkeypatch.setattr(
        retriever, "rank_best", lambda batch, k, left_out: asked.append(k) or rank_best(batch, k, left_out)
    )
    model.rank_best(batch_of([1]), 30, lambda: model._left_out(batch_of([1])))
    model.predict(batch_of([1], item_id=torch.arange(2, 14), candidate_seq_idx=torch.zeros(12, dtype=torch.int64)))
    model.full_sort_predict(batch_of([1]))
    assert asked == [30, 12, 6]


def test_reordered_scores():
    scores = torch.tensor([[0.0, 5.0, 4.0, 3.0, -1.0], [0.0, 1.0, 2.0, 3.0, 4.0]])
    candidates, there = torch.tensor([[1, 2, 3]]), torch.tensor([[True, True, False]])
    reorder(scores, torch.tensor([0]), candidates, there, torch.tensor([[0.0, 1.0, 99.0]]))
    p = torch.tensor([0.0, 1.0]).softmax(0)
    torch.testing.assert_close(scores[0], torch.tensor([0.0, 6 + p[0], 6 + p[1], 3.0, -1.0]))
    assert scores[1].tolist() == [0, 1, 2, 3, 4]
    large = torch.full((1, 4), 1e5)
    reorder(
        large, torch.tensor([0]), candidates, torch.ones(1, 3, dtype=torch.bool), torch.tensor([[-60.0, 0.0, -50.0]])
    )
    assert large[0].argsort(descending=True).tolist() == [2, 3, 1, 0]  # though float32 rounds all three to the same


def test_in_training_the_answer_stands_anywhere_among_items_that_are_not_in_the_history(model):
    torch.manual_seed(0)
    places = []
    for _ in range(300):
        pool = model._drawn([1, 2, 3], 4)
        assert len({*pool}) == 6 and not {0, 1, 2, 3} & {*pool}
        places.append(pool.index(4))
    assert min(places.count(place) for place in range(6)) > 25
    assert sorted(model._drawn(range(1, 38), 38)) == sorted({*range(38, model.n_items)})


@pytest.mark.parametrize("negatives", ["uniform", "retriever"])
def test_the_loss_is_that_of_the_letter_and_the_end(model, monkeypatch, negatives):
    monkeypatch.setattr(model, "negatives", negatives)
    pools = {"uniform": [8, 30, 31, 32, 33, 34]}
    batch = batch_of([5, 6])
    pools["retriever"] = model.retrieve(*model.packed(batch), model._left_out(batch))[1][0].tolist()
    monkeypatch.setattr(model, "_drawn", lambda history, answer: pools["uniform"])
    pool = pools[negatives]
    answer = pool[2]
    (prompt,) = model.prompts.tokens([[5, 6]], [pool])
    letter, end = int(model.letters[2]), model.language.tokenizer.end
    logits = model.language.model(torch.tensor([[*prompt, letter]])).logits[0, -2:]
    expected = -logits.log_softmax(1)[[0, 1], [letter, end]].mean()
    found = model.calculate_loss(batch_of([5, 6], item_id=torch.tensor([answer])))
    torch.testing.assert_close(found, expected)
    if negatives == "retriever":  # where the answer is not among them there is nothing to learn
        assert model.calculate_loss(batch_of([5, 6], item_id=torch.tensor([5]))) == 0


@pytest.mark.slow
def test_training_evaluation_and_recommendation(made):
    folder, retriever, reached = made
    found = trained(folder, retriever=retriever, epochs=3, skip_misses=True)
    assert found["test_result"]["hit@6"] == reached["hit@6"]
    losses = [epoch["train_loss"] for epoch in found["history"]]
    assert losses[-1] < losses[0] - 0.5
    file = found["checkpoint"]
    assert evaluate(file, command_line=["--skip_misses=False"])["test_result"] == found["test_result"]
    (folder / "tiny" / "tiny.item").rename(folder / "elsewhere")
    try:
        assert len(Recommender(file).recommend([["i1", "i2"]], k=7)[0]) == 7  # with no other file
    finally:
        (folder / "elsewhere").rename(folder / "tiny" / "tiny.item")


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on_as_if_nothing_had_been(made, tmp_path):
    """Also where the language model of its adapters was moved meanwhile."""
    folder = save_language(from_settings(LLAMA, ["", *WORDS], tokenizer_size=280), tmp_path / "llama")
    keys = {"retriever": made[1], "epochs": 2, "skip_misses": True, "lora_rank": 2, "language_config": None}
    expected = checkpoint.read(trained(made[0], **keys, language_model=str(folder))["checkpoint"])
    with pytest.raises(Interrupted):
        stop = {"after_epoch": lambda _: signal.raise_signal(signal.SIGTERM)}
        trained(made[0], **keys, language_model=str(folder), **stop)
    other = save_language(from_settings(LLAMA, ["", *WORDS], tokenizer_size=280), tmp_path / "other")
    with pytest.raises(CheckpointError, match="its adapters were trained with other weights"):
        trained(made[0], **keys, language_model=str(other), resume=True)
    there = folder.rename(tmp_path / "elsewhere")
    found = checkpoint.read(trained(made[0], **keys, language_model=str(there), resume=True)["checkpoint"])
    for part in ("state_dict", "other_parameter"):
        found[part].pop("base", None), expected[part].pop("base", None)
        assert checksum(found[part]) == checksum(expected[part])


@pytest.mark.slow
def test_adapters_alone_are_kept_and_the_language_model_stays_as_it_is(made, tmp_path, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a socket was opened"))
    language = save_language(from_settings(LLAMA, ["", *WORDS], tokenizer_size=280), tmp_path / "llama")
    given = {"language_config": None, "language_model": str(language), "lora_rank": 2}
    before = (language / "model.safetensors").read_bytes()
    found = trained(made[0], retriever=made[1], gradient_checkpointing=True, **given)
    weights = checkpoint.read(found["checkpoint"])["state_dict"]
    assert (
        weights and all("lora_" in name for name in weights) and before == (language / "model.safetensors").read_bytes()
    )
    assert any(weight.any() for name, weight in weights.items() if "lora_B" in name)
    first = Recommender(found["checkpoint"]).recommend([["i1", "i2"]], k=7)
    language.rename(tmp_path / "gone")
    with pytest.raises(InputError, match="llama"):
        Recommender(found["checkpoint"])
    (tmp_path / "gone").rename(language)
    assert Recommender(found["checkpoint"]).recommend([["i1", "i2"]], k=7) == near(first)


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ({"retriever": None}, "train one with this package, such as LRURec, and give its checkpoint as --retriever"),
        ({"retriever": "nowhere.pth"}, "retriever: there is no checkpoint nowhere.pth"),
        ({"seed": 1, "eval_args": {"split": {"LS": "test_only"}}, "valid_metric": "NDCG@3"}, "trained on other data"),
        ({"language_config": None, "language_model": "nowhere"}, "there is no folder nowhere"),
        ({"prompt_tokens": 4096}, "prompt_tokens: the language model reads 2048 tokens"),
        ({"train_samples": "whole_sequence"}, "reads it as one prompt; use all_prefixes or sampled_prefixes"),
        ({"skip_misses": True, "metrics": ["NDCG", "ItemCoverage"]}, "skip_misses would change ItemCoverage"),
        ({"load_in_4bit": True, "lora_rank": 8}, "lora_rank: random weights have to be trained themselves"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_gets_one_sentence(made, keys, what):
    with pytest.raises(InputError, match=what):
        trained(made[0], **{"retriever": made[1], **keys})
