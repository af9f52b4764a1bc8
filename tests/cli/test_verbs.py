"""Every verb says its options in the same way, and verbs of other packages are found."""

import argparse
import sys

import pytest

from recbole_ssm.cli.main import main
from recbole_ssm.cli.parser import VerbParser
from recbole_ssm.cli.verbs import VERBS, all_verbs, find_verb
from recbole_ssm.errors import InputError


@pytest.mark.parametrize("name", VERBS[1:])
def test_the_help_of_a_verb_names_all_its_options(name, capsys):
    parser = find_verb(name).parser()
    assert main([name, "-h"]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"usage: python -m recbole_ssm {name} ") and max(map(len, said.splitlines())) <= 100
    flat = " ".join(said.split())
    for option in parser.options:
        assert option.usage in flat and f"--{option.name} {option.help}" in flat
    assert ("--key=value" in flat) == (parser.keys is not None)


def even(word: str) -> int:
    if int(word) % 2:
        raise argparse.ArgumentTypeError("is odd")
    return int(word)


@pytest.fixture
def parser():
    found = VerbParser("verb", "Does something.", keys="for all")
    found.option("file", "FILE", "to read", needed=True)
    found.option("even", "N", "a number", type=even, default=4)
    return found


def test_options_are_told_from_keys(parser):
    given, keys = parser.parse(["--seed=1", "--file=a=b", "word", "--fil=c", "-x", "--even=2", "--"])
    assert (given.file, given.even) == ("a=b", 2)
    assert [key for key in keys if key != "--"] == ["--seed=1", "word", "--fil=c", "-x"]
    assert parser.parse(["--file=a"])[0].even == 4


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "verb needs --file=...; verb --help explains it"),
        (["--file="], "verb needs --file=..."),
        (["--file=a", "--file=b"], "--file is given twice, as a and as b"),
        (["--file=a", "--even=3"], "--even=3 is odd"),
        (["--file=a", "--even=x"], "--even=x invalid even value: 'x'"),
        (["--file=a", "--even"], "--even expected one argument"),
    ],
    ids=str,
)
def test_what_cannot_be_used_is_one_sentence(parser, words, said):
    with pytest.raises(InputError) as error:
        parser.parse(words)
    assert str(error.value).startswith(said) and "\n" not in str(error.value)


def test_a_verb_without_keys_refuses_them():
    parser = VerbParser("verb", "Does something.")
    parser.option("file", "FILE", "to read")
    with pytest.raises(InputError, match="verb has no use for '--seed=1'; it takes --file=FILE"):
        parser.parse(["--seed=1"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            "import nothing_of_this_name",
            "cannot be imported: No module named 'nothing_of_this_name'; mend or",
        ),
        ("raise SystemExit(3)", "cannot be imported: 3; mend or"),
        ("1 / 0", "cannot be imported: division by zero; mend or"),
        ("def parser(): pass", "must have the functions parser and call"),
    ],
)
def test_a_verb_of_another_package_that_cannot_be_used(tmp_path, monkeypatch, capsys, content, said):
    installed = tmp_path / "other-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    points = "mine = module_of_mine\ntrain = module_of_mine\n"
    (installed / "entry_points.txt").write_text(f"[recbole_ssm.verbs]\n{points}")
    (tmp_path / "module_of_mine.py").write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "module_of_mine", raising=False)
    assert list(all_verbs()) == [*VERBS, "mine"]
    assert find_verb("train").__name__ == "recbole_ssm.cli.train"  # which nobody takes the place of
    assert main(["mine", "--help"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: the verb mine (module_of_mine, entry point of recbole_ssm.verbs) ")
    assert said in error
