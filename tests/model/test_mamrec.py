"""MamRec: a language model over the titles of a history, with a head over items or by the probability of titles."""

from __future__ import annotations

import shutil
from functools import partial

import numpy as np
import pytest
import torch
from atomic import interactions, write_dataset
from language_cases import TINY, TITLES, needs_transformers, save_language, tiny_language
from model_cases import N_ITEMS, config_of, packed_batch
from packed_cases import borders, randomise

from recbole_ssm import InputError, Recommender, run
from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.ensemble import Ensemble
from recbole_ssm.config.config import Config
from recbole_ssm.config.from_data import Statistics, in_words, learning_rate
from recbole_ssm.errors import CheckpointError
from recbole_ssm.language.streams import next_tokens, title_stream
from recbole_ssm.model.catalogue import Catalogue
from recbole_ssm.model.mamrec import MamRec
from recbole_ssm.model.packed_input import SEEN_ITEMS, SEEN_ROWS
from recbole_ssm.serving.choice import best_scores
from recbole_ssm.serving.export.graphs import check_graphs
from recbole_ssm.serving.states import States
from recbole_ssm.testing import check_model
from recbole_ssm.training.console_text import model_in_words
from recbole_ssm.training.evaluation import evaluate
from recbole_ssm.training.optimisation import parameter_groups

needs_transformers()

pytestmark = pytest.mark.slow  # transformers alone takes seconds to import

SMALL = {"hidden_size": 16, "num_layers": 2, "tokenizer_size": 270}
MAMBA2 = {"language_config": {"model_type": "mamba2", **TINY["mamba2"]}}


def make(n_items=N_ITEMS, **keys):
    torch.manual_seed(0)
    return randomise(MamRec(config_of("MamRec", **(SMALL | keys)), Catalogue(n_items))).eval()


@pytest.mark.parametrize("keys", [{"item_bias": True, "repeat_bias": True}, MAMBA2], ids=["mamba", "mamba2"])
def test_what_every_model_keeps(keys):
    check_model("MamRec", SMALL | keys)


def test_a_stream_holds_begin_titles_and_their_ends():
    language = tiny_language()
    begin, end, titles = language.tokenizer.begin, language.tokenizer.separator, language.titles()
    stream = title_stream(language, torch.tensor([1, 0, 5, 3, 6]), borders((2, 1, 2)))
    expected = [[begin, *titles[1], end, end], [begin, end], [begin, *titles[3], end, *titles[6], end]]
    assert [each.tolist() for each in stream.tokens.split(stream.cu_seqlens.diff().tolist())] == expected
    assert stream.tokens[stream.ends].tolist() == [end] * 5 and stream.ends.tolist()[-1] == len(stream.tokens) - 1
    following = [[*each[1:], -100] for each in expected]
    assert next_tokens(stream).tolist() == [token for each in following for token in each]


@torch.no_grad()
def test_a_score_is_embedding_times_output_at_the_end_of_the_last_title():
    model, batch = make(repeat_bias=False), packed_batch((3, 1, 6))
    scores = model.full_sort_predict(batch)
    language = model.language
    for row, items in enumerate(batch["item_id_list"].split([3, 1, 6])):
        text = [language.tokenizer.begin]
        for item in items.tolist():
            text += [*language.titles()[item], language.tokenizer.separator]
        hidden = language.model.backbone(input_ids=torch.tensor([text])).last_hidden_state[0, -1]
        torch.testing.assert_close(scores[row], model.item_embedding.weight @ hidden, rtol=1e-4, atol=1e-4)


def test_embeddings_begin_as_means_of_their_titles():
    torch.manual_seed(0)
    catalogue = Catalogue(len(TITLES))
    catalogue.item_texts = lambda template: TITLES
    model = MamRec(config_of("MamRec", **SMALL), catalogue)
    start, tokens = model.language.title_start.tolist(), model.language.title_flat
    words = model.language.model.get_input_embeddings().weight
    titled = [number for number, title in enumerate(TITLES) if title]
    means = torch.stack([words[tokens[start[item] : start[item + 1]]].mean(0) for item in titled])
    table = model.item_embedding.weight[titled].detach()
    assert model.item_embedding.weight[TITLES.index("", 1)].std() > 0.01  # it has no title, and is drawn
    assert abs(float(table.std()) - 0.02) < 1e-4
    centred = means - means.mean(0)
    torch.testing.assert_close(table, centred * 0.02 / centred.std(), rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def titles():
    """A model by titles, which are numbers: one begins another, some are the same, and the last item has none."""
    keys = SMALL | {"item_scores": "titles", "filter_seen": True, "topk": [4]}
    catalogue = Catalogue(30)
    catalogue.item_texts = lambda template: ["", *(f"item {number % 25 or 7}" for number in range(1, 29)), ""]
    torch.manual_seed(0)
    return randomise(MamRec(config_of("MamRec", **keys), catalogue), 0.2).eval()


def batch_of(*histories, target=1):
    return {
        "item_id_list": torch.tensor([item for each in histories for item in each]),
        "cu_seqlens": borders([len(each) for each in histories]),
        "item_id": torch.full((len(histories),), target),
    }


def each_alone(model, batch):
    """The score of each item by itself, (S, n_items)."""
    size = len(batch["item_id"])
    return torch.stack([model.predict(batch | {"item_id": torch.full((size,), item)}) for item in range(30)], 1)


@torch.no_grad()
def test_titles_are_ranked_as_one_by_one(titles):
    histories = ([3, 4, 5], [1], [7, 29, 7, 2])
    batch = batch_of(*histories)
    one_by_one = each_alone(titles, batch)
    language = titles.language
    for row, history in enumerate(histories):
        text = [language.tokenizer.begin]
        for item in (*history, 9):
            text += [*language.titles()[item], language.tokenizer.separator]
        own = len(language.titles()[9]) + 1
        found = language.model(input_ids=torch.tensor([text])).logits[0].log_softmax(-1)[-own - 1 : -1]
        expected = found.gather(1, torch.tensor(text[-own:])[:, None]).sum()
        torch.testing.assert_close(one_by_one[row, 9], expected, rtol=1e-4, atol=1e-4)
    assert one_by_one[:, 29].lt(one_by_one[:, 1:29].min()).all()  # though that no title comes next is probable
    one_by_one[:, [0, 29]] = -torch.inf
    of_several = Ensemble([titles, titles]).full_sort_predict(batch)
    torch.testing.assert_close(of_several[:, 1:29], one_by_one[:, 1:29])  # all, and not the four of topk
    had = [[*history, *one_by_one[row].topk(9).indices.tolist()] for row, history in enumerate(histories)]
    rows = torch.arange(3).repeat_interleave(torch.tensor([len(each) for each in had]))
    longer = batch | {SEEN_ROWS: rows, SEEN_ITEMS: torch.tensor([item for each in had for item in each])}
    for given, left_out in (batch, histories), (longer, had):  # items that are not read any more are had, too
        found, expected = titles.full_sort_predict(given), one_by_one.clone()
        for row, items in enumerate(left_out):
            found[row, [0, *items]] = expected[row, [0, *items]] = -torch.inf
        torch.testing.assert_close(found.topk(4).values, expected.topk(4).values)
    allowed = torch.arange(30) >= 20
    left_out = [part for part in (~allowed).expand(3, 30).nonzero().T]
    found = titles.rank_best(batch, 5, lambda: left_out)[:, 20:]
    torch.testing.assert_close(found.topk(5).values, one_by_one[:, 20:].topk(5).values)


def test_a_click_costs_one_title_also_where_titles_are_scored(data, tmp_path):
    """In a session and in the service's states; nothing of before is read again."""
    recommender = Recommender(train(data, item_scores="titles", filter_seen=True)["checkpoint"])
    history = ["i1", "i2", "i5", "i1", "i7"]
    expected = recommender.recommend([history], k=6)[0]
    session, read = recommender.session(["i1"]), []
    states = States(recommender)
    names = [np.array(recommender.names.numbers([name])) for name in history]
    with recommender.computing():
        state = states.begin([names[0]], {})
    embedding = recommender.model.language.model.get_input_embeddings()
    embedding.register_forward_hook(lambda module, given, _: read.append(given[0].numel()))
    for item, number in zip(history[1:], names[1:], strict=True):
        read.clear()
        session.add(item)
        assert read == [len(recommender.model.language.titles()[number[0]]) + 1]
        with recommender.computing():
            state = states.step(state, [number], {})
    assert session.recommend(k=6) == [(name, pytest.approx(score, abs=1e-4)) for name, score in expected]
    few = session.recommend(k=2, candidates=["i1", "i3", "i4", "i6"], filter_seen=False)
    found = recommender.recommend([history], k=2, candidates=["i1", "i3", "i4", "i6"], filter_seen=False)[0]
    assert few == [(name, pytest.approx(score, abs=1e-4)) for name, score in found]
    choice = recommender.choice(None, ["i1", "i2", "i5", "i7"], 1)
    with recommender.computing():
        left_out = partial(choice.left_out_on, recommender.device, len(recommender.items))
        scores = states.scores(state, [np.concatenate(names)], 6, left_out)
        best = recommender._named(*next(iter(best_scores(scores, choice, 6))))
    assert best == [(name, pytest.approx(score, abs=1e-4)) for name, score in expected]


@torch.no_grad()
def test_the_loss_of_titles_is_that_of_their_tokens(titles):
    """Of all titles where each item has a target; of the target's alone where each history has one."""
    batch = batch_of([3, 4, 5], [6, 7])
    tokens = [len(titles.language.titles()[item]) + 1 for item in range(30)]
    every = titles.calculate_loss(batch | {"item_id": torch.tensor([4, 5, 8, 7, 9])})
    beginnings = batch_of([3], [3, 4], [3, 4, 5], [6], [6, 7])
    targets = torch.tensor([4, 5, 8, 7, 9])
    log_p = titles.predict(beginnings | {"item_id": targets})
    last = titles.calculate_loss(beginnings | {"item_id": targets})
    torch.testing.assert_close(last, -log_p.sum() / sum(tokens[item] for item in targets.tolist()))
    first = 0.0
    for item in (3, 6):  # after the begin token
        text = [titles.language.tokenizer.begin, *titles.language.titles()[item], titles.language.tokenizer.separator]
        hidden = titles.language(torch.tensor(text), borders([len(text)]))[:-1]
        first += titles.language.loss(hidden, torch.tensor(text[1:])) * (len(text) - 1)
    total = sum(tokens[item] for item in (3, 6, *targets.tolist()))
    torch.testing.assert_close(every, (first - log_p.sum()) / total)


def test_sums_of_probabilities_are_at_most_1(titles):
    with torch.no_grad():
        scores = each_alone(titles, batch_of([3, 4]))[:, 1:26]  # without those of equal titles, and none
    assert 0 < float(scores.exp().sum()) <= 1


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a dataset ``tiny`` whose items have titles."""
    folder = tmp_path_factory.mktemp("titles")
    write_dataset(folder, interactions(n_users=20, n_items=12))
    lines = ["item_id:token\ttitle:token_seq", *(f"i{number}\tNumber {number}, A" for number in range(12))]
    (folder / "tiny" / "tiny.item").write_text("\n".join(lines), encoding="utf-8")
    return folder


def train(folder, resume=False, **keys):
    fixed = {"data_path": str(folder), "use_gpu": False, "show_progress": False, "defaults": "paper", "console": "none"}
    small = {"hidden_size": 8, "num_layers": 1, "tokenizer_size": 265, "epochs": 1, "topk": [5]}
    return run("MamRec", "tiny", config_dict=fixed | small | {"valid_metric": "NDCG@5"} | keys, resume=resume)


def test_a_checkpoint_needs_no_data_and_a_session_reads_title_by_title(data, tmp_path):
    folder = shutil.copytree(data, tmp_path / "data")
    file = train(folder, repeat_bias=True)["checkpoint"]
    again = run("MamRec", "tiny", command_line=[f"--init_from={file}", f"--data_path={folder}", "--epochs=1"])
    assert again["test_result"]
    longer = train(folder, repeat_bias=True, epochs=2, resume=file)
    assert [epoch["epoch"] for epoch in longer["history"]] == [1, 2]
    shutil.rmtree(folder)
    recommender = Recommender(file)
    with pytest.raises(InputError, match="reads titles, whose lengths differ"):
        check_graphs(recommender)
    assert recommender.model.language.texts[1].startswith("A Number ")
    session = recommender.session(["i1", "i2"])
    for item in ("i5", "i1", "i7"):
        session.add(item)
    expected = recommender.recommend([["i1", "i2", "i5", "i1", "i7"]], k=12)[0]
    assert [name for name, _ in session.recommend(k=12)] == [name for name, _ in expected]


def test_titles_learn_and_are_recommended(data, tmp_path):
    result = train(data, item_scores="titles", epochs=2, filter_seen=True, train_batch_tokens=40)
    losses = [epoch["train_loss"] for epoch in result["history"]]
    assert losses[1] < losses[0]
    recommender = Recommender(result["checkpoint"])
    with pytest.raises(CheckpointError, match=r"teacher: .* is a MamRec without embeddings of items"):
        train(data, teacher=result["checkpoint"], filter_seen=True)
    histories = [["i1", "i2"], ["i3"]]
    found = recommender.recommend(histories, k=10)
    assert [len(each) for each in found] == [10, 10] and not {"i1", "i2"} & {name for name, _ in found[0]}
    some = recommender.recommend(histories, k=3, candidates=["i5", "i6", "i7", "i8"], filter_seen=False)
    everything = dict(recommender.recommend(histories, k=12, filter_seen=False)[0])
    assert some[0] == [(name, pytest.approx(everything[name], abs=1e-4)) for name, _ in some[0]]
    with pytest.raises(InputError, match="has no embeddings"):
        recommender.similar(["i1"])


def test_pretrained_embeddings_learn_like_layers_and_those_of_items_fast(tmp_path):
    base = save_language(tiny_language("mamba"), tmp_path / "base")
    model = MamRec(config_of("MamRec", **SMALL, language_model=str(base)), Catalogue(5))
    rate = {id(each): group["lr"] for group in parameter_groups(model, 0.1, 0.0, 15.0) for each in group["params"]}
    words = model.language.model.get_input_embeddings().weight
    assert (rate[id(words)], rate[id(model.item_embedding.weight)]) == (0.1, pytest.approx(1.5))


def test_adapters_alone_are_in_the_checkpoint(data, tmp_path):
    base = save_language(tiny_language("mamba"), tmp_path / "base")
    result = train(data, language_model=str(base), lora_rank=2, language_dtype="bfloat16")
    state = checkpoint.read(result["checkpoint"])
    assert all("lora_" in name or name == "item_embedding.weight" for name in state["state_dict"])
    assert state["state_dict"]["item_embedding.weight"].shape[1] == 16  # the width of the folder's model
    assert Recommender(result["checkpoint"]).recommend([["i1"]])[0]
    file = result["checkpoint"]
    expected, there = evaluate(file), base.rename(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match=r"has adapters alone, and the folder of their model, .*, is not there"):
        evaluate(file)
    Recommender(file, language_model=there).save(tmp_path / "saved.pth")
    for others in (), (tmp_path / "saved.pth",):
        assert evaluate(file, others=others, language_model=there)["test_result"] == expected["test_result"]
    assert Recommender(file, language_model=there).evaluate() == expected["test_result"]
    with pytest.raises(CheckpointError, match=r"teacher: .* is not there; put that folder there"):
        train(data, teacher=file, hidden_size=16)


def test_the_size_that_a_training_prints_is_the_language_models():
    mamba = {"model_type": "mamba", "hidden_size": 8, "num_hidden_layers": 1, "state_size": 2}
    config = Config("MamRec", "ml-100k", config_dict={"use_gpu": False, "num_layers": 3, "language_config": mamba})
    assert ", width 8, 1 layer, " in model_in_words(config, MamRec(config, Catalogue(5)), threads=1)


@pytest.mark.parametrize(("kind", "width"), [("mamba", 768), ("mamba2", 4096)])
def test_the_learning_rate_is_for_the_width_that_transformers_gives(kind, width):
    config = Config("MamRec", "ml-100k", config_dict={"use_gpu": False, "language_config": {"model_type": kind}})
    config.settle(Statistics(100_000, 943, 1_682))
    assert config["learning_rate"] == learning_rate(width) and f"for width {width}" in in_words(config.from_data)


def test_item_vectors_begin_a_language_model_of_any_width(data, tmp_path):
    np.save(tmp_path / "vectors.npy", np.eye(3, dtype=np.float32))
    (tmp_path / "vectors.txt").write_text("i1\ni2\ni3\n")
    start = {"item_vectors": str(tmp_path / "vectors.npy"), "item_vectors_as": "start"}
    assert train(data, **start, **MAMBA2)["test_result"]  # 16 wide, and hidden_size is 8


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"language_model": "a", "language_config": {"model_type": "mamba"}}, "exclude each other"),
        ({"lora_rank": 2}, "random weights have to be trained themselves"),
        ({"language_model": "a", "load_in_4bit": True}, "weights in 4 bits cannot be trained"),
        ({"language_model": "a", "language_dtype": "float16"}, "weights in float16 are too coarse to be trained"),
        ({"language_config": {"model_type": "gpt2", **TINY["gpt2"]}}, "reads with a mamba or mamba2"),
        ({"item_scores": "titles", "loss_type": "BPR"}, "loss_type BPR does not apply to item_scores: titles"),
        ({"item_scores": "titles", "repeat_bias": True}, "repeat_bias does not apply to item_scores: titles"),
        ({"language_model": "nowhere"}, "there is no folder nowhere"),
    ],
)
def test_what_does_not_fit_is_refused(keys, words):
    config = config_of("MamRec", **(SMALL | keys))
    with pytest.raises(InputError, match=words):
        MamRec.check_config(config)
        MamRec.check_begin(config)
        MamRec(config, Catalogue(5))
