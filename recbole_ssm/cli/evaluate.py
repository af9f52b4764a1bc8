"""``evaluate``: how good the model of a checkpoint is."""

from __future__ import annotations

from argparse import Namespace

from recbole_ssm.cli import types
from recbole_ssm.cli.output import print_table
from recbole_ssm.cli.parser import VerbParser


def parser() -> VerbParser:
    """The options of the verb."""
    found = VerbParser(
        "evaluate",
        "Validate and test the model of a checkpoint again, as it was trained but for the keys given here.",
        keys="any key of the configuration, such as --topk=[5,20], --filter_seen=True, --metrics=['NDCG'] or "
        "--data_path=FOLDER",
    )
    text = (
        "a file; several, separated by commas, rank together by the mean of their scores: models of this package, "
        "trained on the same data"
    )
    found.option("checkpoint", "FILE[,FILE...]", text, type=types.names, needed=True)
    found.option("dataset", "NAME", "another one, with the same items; default the one of the training")
    found.option(*types.LANGUAGE_MODEL)
    text = "before the test, let a transition_memory, or a model that counts, take in the validation items"
    found.option("update", "True", text, type=types.switch)
    found.option("json", "FILE", "file to write the numbers to, for programs", type=types.output_file)
    return found


def call(given: Namespace, keys: list[str]) -> None:
    """Print the metrics."""
    from recbole_ssm.training.evaluation import evaluate

    file, *others = given.checkpoint
    options = {"others": others, "update": bool(given.update), "language_model": given.language_model}
    print_table(evaluate(file, given.dataset, keys, **options), given.json)
