"""Models that read texts in use: where the frozen language model was moved, and what can be exported."""

from __future__ import annotations

import json

import pytest
from language_cases import TINY, needs_transformers, save_language, tiny_language
from near import near

from recbole_ssm import Recommender, load
from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.adapters import with_folder
from recbole_ssm.cli.main import main
from recbole_ssm.errors import CheckpointError, InputError
from recbole_ssm.language.loading import folder_hash
from recbole_ssm.serving.export.graphs import check_graphs
from recbole_ssm.serving.vectors import item_vectors
from recbole_ssm.testing.checkpoints import made_checkpoint

needs_transformers()
pytestmark = pytest.mark.slow  # transformers alone takes seconds to import

TITLES = ["", *(f"item {number}" for number in range(1, 7))]
VERBS = ("evaluate",), ("recommend", "--history=i1"), ("serve",), ("export", "--format=safetensors", "--out=exported")


@pytest.fixture
def made(tmp_path):
    """A checkpoint of adapters, what it recommends, and where its language model was moved to."""
    base = save_language(tiny_language("mamba", TITLES), tmp_path / "base")
    file = made_checkpoint(tmp_path / "made.pth", 6, "MamRec", language_model=str(base), lora_rank=2)
    before = Recommender(file).recommend([["i1", "i2"]])
    return file, before, base.rename(tmp_path / "elsewhere")


def test_each_command_asks_for_the_folder_in_its_own_words(made, capsys):
    file, _, there = made
    with pytest.raises(CheckpointError, match=r"adapters alone, .*base, is not there; .*, as language_model=FOLDER"):
        Recommender(file)
    wrong = save_language(tiny_language("mamba", TITLES, seed=1), there.with_name("wrong"))
    for verb, *words in VERBS:
        for given, said in (
            ([], "is not there; name the folder where it is now, as --language_model=FOLDER"),
            ([f"--language_model={wrong}"], "holds other files than the model that the adapters were trained with"),
            (["--language_model=nowhere"], "there is no folder nowhere"),
        ):
            assert main([verb, f"--checkpoint={file}", *words, *given]) == 2
            assert said in capsys.readouterr().err, (verb, given)


def test_it_is_named_in_the_shell_in_python_and_to_the_service(made, capsys):
    file, before, there = made
    assert load(file, language_model=there).recommend([["i1", "i2"]]) == near(before)
    words = ["recommend", f"--checkpoint={file}", "--history=i1,i2", "--k=1", f"--language_model={there}"]
    assert main(words) == 0 and f"\n{before[0][0][0]}\t" in capsys.readouterr().out
    again = there.with_name("saved.pth")
    Recommender(file, language_model=there).save(again)  # it is known where the model is now
    assert Recommender(again).recommend([["i1", "i2"]]) == near(before)
    pytest.importorskip("fastapi", reason="the service needs the extra serve")
    from recbole_ssm.serving.service.server import Server, Settings

    assert Server(Settings(checkpoint=file), language_model=str(there)).app().state.service.in_use.recommender.items


def test_a_folder_is_for_those_checkpoints_whose_model_it_holds(made, caplog):
    """Such as one of several, or the retriever in one; for one without adapters it is not read."""
    file, _, there = made
    kept = checkpoint.read(file)["other_parameter"]
    plain = {"config": {}, "given": {}, "other_parameter": None}
    other = save_language(tiny_language("mamba", TITLES, seed=1), there.with_name("other"))
    llama = {**plain, "other_parameter": {"base_hash": folder_hash(other), "base": "its own"}}
    llama["other_parameter"] |= {f"retriever.other_parameter.{name}": value for name, value in kept.items()}
    found = with_folder([plain, llama], there)
    parts = found[1]["other_parameter"]
    assert found[0] == plain and parts["base"] == "its own" and not found[1]["config"]
    assert parts["retriever.other_parameter.base"] == str(there)
    parts = with_folder([plain, llama], f"{there},{other}")[1]["other_parameter"]
    assert (parts["retriever.other_parameter.base"], parts["base"]) == (str(there), str(other))
    assert with_folder([plain], "nowhere") == [plain] and "the checkpoint holds all weights" in caplog.text


SMALL = {
    "MamRec": {"hidden_size": 8, "num_layers": 1, "item_scores": "titles", "tokenizer_size": 270},
    "GPT4Rec": {"language_config": {"model_type": "gpt2", **TINY["gpt2"], "n_positions": 512}, "tokenizer_size": 270},
    "BM25": {},
}


@pytest.mark.parametrize("model", SMALL)
def test_weights_are_exported_once_and_other_formats_are_refused_in_a_sentence(model, tmp_path, capsys):
    pytest.importorskip("safetensors", reason="pip install 'recbole-ssm[export]'")
    from safetensors.torch import load_file

    file, out = made_checkpoint(tmp_path / "made.pth", 6, model, **SMALL[model]), tmp_path / "exported"
    assert main(["export", f"--checkpoint={file}", "--format=safetensors", f"--out={out}"]) == 0
    weights, about = load_file(out / "weights.safetensors"), json.loads((out / "model.json").read_text())
    same, recommender = about.get("same_weights", {}), Recommender(file)
    state = recommender.model.state_dict()
    assert all((weights[same.get(name, name)] == weight).all() for name, weight in state.items())
    assert bool(same) == (model != "BM25") and "item 3" in about["numbers"]["texts"]
    with pytest.raises(InputError, match="reads titles, whose lengths differ"):
        check_graphs(recommender)
    with pytest.raises(InputError, match="has no vectors of items; use a model that learns some"):
        item_vectors(recommender.model)
