"""Checkpoints of adapters whose frozen language model lies in another folder now."""

from __future__ import annotations

import pytest
from language_cases import needs_transformers, save_language, tiny_language

from recbole_ssm import Recommender, load
from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.adapters import with_folder
from recbole_ssm.cli.main import main
from recbole_ssm.errors import CheckpointError
from recbole_ssm.testing.checkpoints import made_checkpoint

needs_transformers()
pytestmark = pytest.mark.slow  # transformers alone takes seconds to import

TITLES = ["", *(f"item {number}" for number in range(1, 7))]
VERBS = ("recommend", "--history=i1"), ("serve",), ("export", "--format=safetensors", "--out=exported")


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
    assert load(file, language_model=there).recommend([["i1", "i2"]]) == before
    words = ["recommend", f"--checkpoint={file}", "--history=i1,i2", "--k=1", f"--language_model={there}"]
    assert main(words) == 0 and f"\n{before[0][0][0]}\t" in capsys.readouterr().out
    again = there.with_name("saved.pth")
    Recommender(file, language_model=there).save(again)  # it is known where the model is now
    assert Recommender(again).recommend([["i1", "i2"]]) == before
    pytest.importorskip("fastapi", reason="the service needs the extra serve")
    from recbole_ssm.serving.service.server import Server, Settings

    assert Server(Settings(checkpoint=file), language_model=str(there)).app().state.service.in_use.recommender.items


def test_a_folder_is_for_those_checkpoints_whose_model_it_holds(made, caplog):
    """Such as one of several, or the retriever in one; for one without adapters it is not read."""
    file, _, there = made
    kept = checkpoint.read(file)["other_parameter"]
    plain = {"config": {}, "given": {}, "other_parameter": None}
    llama = {**plain, "other_parameter": {"base_hash": "0", "base": "its own"}}
    llama["other_parameter"] |= {f"retriever.other_parameter.{name}": value for name, value in kept.items()}
    found = with_folder([plain, llama], there)
    parts = found[1]["other_parameter"]
    assert found[0] == plain and parts["base"] == "its own" and not found[1]["config"]
    assert parts["retriever.other_parameter.base"] == str(there)
    assert with_folder([plain], "nowhere") == [plain] and "the checkpoint holds all weights" in caplog.text
