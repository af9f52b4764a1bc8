"""GPT4Rec: queries that a language model writes, and BM25; and BM25 of the last title beside it."""

from __future__ import annotations

import shutil

import pytest
import torch
from atomic import interactions, write_dataset
from language_cases import TINY, needs_transformers
from model_cases import config_of, packed_batch
from packed_cases import randomise

from recbole_ssm import InputError, Recommender, run
from recbole_ssm.cli.main import main
from recbole_ssm.language.bm25 import BM25
from recbole_ssm.model.bm25 import BM25Recommender
from recbole_ssm.model.catalogue import Catalogue
from recbole_ssm.model.gpt4rec import GPT4Rec

WORDS = ("red", "green", "blue", "old", "new", "tea", "cup", "hat", "shoe", "lamp")
TITLES = ["", *(f"{WORDS[number % 10]} {WORDS[number * 7 % 10]} {WORDS[number // 5]}" for number in range(48)), ""]
LOCAL = {"model_type": "gpt_neo", "hidden_size": 16, "num_layers": 2, "num_heads": 2}
LOCAL |= {"attention_types": [[["local"], 2]]}
SMALL = {"tokenizer_size": 280, "queries": 4, "query_tokens": 5, "history_items": 3}


def catalogue() -> Catalogue:
    found = Catalogue(len(TITLES))
    found.item_texts = lambda template: list(TITLES)
    return found


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder with a dataset ``tiny`` whose items have titles."""
    folder = tmp_path_factory.mktemp("titles")
    write_dataset(folder, interactions(n_users=20, n_items=12))
    lines = ["item_id:token\ttitle:token_seq", *(f"i{number}\t{TITLES[number + 1]}" for number in range(12))]
    (folder / "tiny" / "tiny.item").write_text("\n".join(lines), encoding="utf-8")
    return folder


def train(model, folder, **keys):
    fixed = {"data_path": str(folder), "use_gpu": False, "show_progress": False, "console": "none"}
    return run(model, "tiny", config_dict=fixed | {"topk": [5], "valid_metric": "NDCG@5", "filter_seen": True} | keys)


class TestBM25:
    def make(self, **keys):
        return BM25Recommender(config_of("BM25", **keys), catalogue()).eval()

    def test_scores_are_those_of_the_latest_titles(self):
        batch = packed_batch((3, 1, 6))
        histories = batch["item_id_list"].split([3, 1, 6])
        for n in (1, 2):
            model = self.make(history_items=n, bm25_b=0.3)
            queries = [" ".join(TITLES[item] for item in each[-n:].tolist()) for each in histories]
            expected = BM25(TITLES[1:], 1.2, 0.3).scores(queries)
            found = model.full_sort_predict(batch)
            for row, each in enumerate(histories):
                new = [item for item in range(1, len(TITLES)) if item not in each.tolist()]
                torch.testing.assert_close(found[row, new], expected[row, [item - 1 for item in new]])
                assert (found[row, each] < found[row, new].min()).all()

    def test_a_checkpoint_needs_no_data(self, data, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        folder = shutil.copytree(data, tmp_path / "data")
        result = train("BM25", folder)
        shutil.rmtree(folder)
        found = Recommender(result["checkpoint"]).recommend([["i1"]], k=3)[0]
        assert "i1" not in dict(found) and found[0][1] > 0
        assert set(dict(found)) & {f"i{n}" for n in range(12) if set(TITLES[n + 1].split()) & set(TITLES[2].split())}


needs = pytest.mark.slow  # transformers alone takes seconds to import


@needs
class TestGPT4Rec:
    @pytest.fixture(autouse=True, scope="class")
    def language(self):
        needs_transformers()

    def make(self, kind="gpt2", **keys):
        longer = {"n_positions": 128} if kind == "gpt2" else {}
        keys = SMALL | {"language_config": {"model_type": kind, **TINY[kind], **longer}} | keys
        torch.manual_seed(0)
        return randomise(GPT4Rec(config_of("GPT4Rec", **keys), catalogue())).eval()

    @pytest.mark.parametrize("kind", ["gpt2", "mamba"])
    @torch.no_grad()
    def test_the_loss_is_of_the_targets_title_and_its_end(self, kind):
        model, batch = self.make(kind), packed_batch((5, 1, 2))
        words, total, count = model.language.tokenizer, 0.0, 0
        batch["item_id"][1] = len(TITLES) - 1  # whose target has no title, which is passed over
        assert model.calculate_loss(packed_batch((1,), item_id=batch["item_id"][1:2])) == 0
        for history, target in zip(batch["item_id_list"].split([5, 1, 2]), batch["item_id"].tolist(), strict=True):
            if not TITLES[target]:
                continue
            bought = " ".join(f"{TITLES[item]}." if TITLES[item] else "." for item in history[-3:].tolist())
            text = f"Previously, the customer has bought: {bought} In the future, the customer wants to buy"
            (prompt,), (title,) = words.encode([text]), words.encode([f" {TITLES[target]}"])
            tokens = torch.tensor([[words.begin, *prompt, *title, words.end]])
            logits = model.language.model(input_ids=tokens).logits[0].log_softmax(-1)
            own = len(title) + 1
            total -= logits[-own - 1 : -1].gather(1, tokens[0, -own:, None]).sum().item()
            count += own
        assert model.calculate_loss(batch).item() == pytest.approx(total / count, rel=1e-3)

    @torch.no_grad()
    def test_all_items_are_ranked_and_those_of_the_history_last(self):
        model, batch = self.make(), packed_batch((5, 1, 2))
        scores = model.full_sort_predict(batch)
        assert torch.equal(scores.sort(1).values, torch.arange(1.0, len(TITLES) + 1).expand(3, -1))
        assert (scores[:, 0] == 1).all()
        for row, history in zip(scores, batch["item_id_list"].split([5, 1, 2]), strict=True):
            assert row[history].max() <= 1 + len(history.unique())
        model._users_at_once = 2
        assert torch.equal(model.full_sort_predict(batch), scores)

    @torch.no_grad()
    def test_one_query_ranks_as_bm25_does(self):
        model, batch = self.make(queries=1), packed_batch((2, 3))
        model.write = lambda items, cu_seqlens: [["red tea"], ["an unknown thing"]]
        model.popularity = torch.arange(float(len(TITLES)))
        scores = model.full_sort_predict(batch)
        expected = BM25(TITLES[1:]).scores(["red tea"])[0].double() + 1e-9 * torch.arange(1, len(TITLES))
        new = [item for item in range(1, len(TITLES)) if item not in batch["item_id_list"][:2].tolist()]
        assert scores[0, new].argsort().tolist() == expected[[item - 1 for item in new]].argsort().tolist()
        others = [item for item in range(1, len(TITLES)) if item not in batch["item_id_list"][2:].tolist()]
        assert (scores[1, others].diff() > 0).all()  # nothing fits, and popularity decides

    def test_learns_is_evaluated_again_and_recommends_without_data(self, data, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        folder = shutil.copytree(data, tmp_path / "data")
        keys = SMALL | {"language_config": {"model_type": "gpt2", **TINY["gpt2"], "n_positions": 128}}
        keys |= {"epochs": 3, "train_batch_size": 8, "learning_rate": 0.01, "eval_users": 6}
        result = train("GPT4Rec", folder, **keys)
        losses = [epoch["train_loss"] for epoch in result["history"]]
        assert losses[2] < losses[0]
        main(["evaluate", f"--checkpoint={result['checkpoint']}", "--show_progress=False"])
        told = capsys.readouterr().out
        assert f"ndcg@5 {result['test_result']['ndcg@5']}" in told and "6 users at most" in told
        shutil.rmtree(folder)
        recommender = Recommender(result["checkpoint"])
        assert recommender.model.popularity.sum() > 0
        found = recommender.recommend([["i1", "i2"], ["i3"]], k=5)
        assert [len(each) for each in found] == [5, 5] and not {"i1", "i2"} & dict(found[0]).keys()

    @pytest.mark.parametrize(
        ("keys", "words"),
        [
            ({"prompt": "Bought:"}, "must have {history} once"),
            ({"history_items": 60}, "lower history_items"),
            ({"language_config": LOCAL}, "a gpt_neo cannot write here"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, keys, words):
        config = config_of("GPT4Rec", **(SMALL | {"language_config": {"model_type": "gpt2", **TINY["gpt2"]}} | keys))
        with pytest.raises(InputError, match=words):
            GPT4Rec.check_config(config)
            GPT4Rec(config, catalogue())
