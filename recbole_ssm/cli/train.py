"""``train``, the verb that need not be said: one model, trained and tested."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence

from recbole_ssm.cli import types
from recbole_ssm.cli.parser import VerbParser, value_of
from recbole_ssm.cli.train_help import help_text


class _TrainParser(VerbParser):
    def help(self, arguments: Sequence[str] = ()) -> str:
        return help_text(value_of(arguments, "data_path") or "dataset")


def parser() -> VerbParser:
    """The options of the verb."""
    found = _TrainParser("train", "Train a model, keep the best epoch by the validation metric, and test it.", keys="")
    found.option("model", "NAME", "of this package or of RecBole")
    found.option("dataset", "NAME", "name")
    found.option("config_files", "FILE,FILE", "in the order in which they are read", type=types.files, default=[])
    text = "print all that goes to the log file: RecBole's configuration, the layers of the model, every log line"
    found.option("verbose", "True", text, type=types.switch)
    text = "go on with a training that was interrupted"
    found.option("resume", "FILE", text, type=types.begun, nargs="?", const=True)
    return found


def call(given: Namespace, keys: list[str]) -> None:
    """Train the model."""
    from recbole_ssm.system.distributed import world_size
    from recbole_ssm.training.hooks.stopping import Interrupted
    from recbole_ssm.training.run import run

    try:
        run(
            model=given.model,
            dataset=given.dataset,
            config_file_list=given.config_files,
            command_line=[*keys, "--console=verbose"] if given.verbose else keys,
            resume=given.resume or False,
        )
    except Interrupted as stop:
        if world_size() > 1:  # it is torchrun's command that goes on
            raise
        again = given.command if given.resume else f"{given.command} --resume"
        raise Interrupted(stop.signal_number, stop.file, again=again) from stop
