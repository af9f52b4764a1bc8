"""``evaluate``: how good the model of a checkpoint is."""

from __future__ import annotations

from collections.abc import Sequence

from recbole_ssm.cli.arguments import help_of, own_arguments, read_names, read_output
from recbole_ssm.cli.two_columns import print_table
from recbole_ssm.training.evaluation import evaluate


def evaluate_model(arguments: Sequence[str]) -> None:
    """Validate and test the model of a checkpoint, as it was configured but for what is given here.

    --checkpoint   a file; several, separated by commas, rank together, by the mean of their scores: models of this
                   package that were trained on the same data
    --dataset      another one, with the same items; default the one of the training
    --filter_seen  whether the items of the history are left out; default as in the training
    --json         file to write the numbers to, for programs
    --key=value    any key of the configuration, such as --topk=[5,20], --metrics=['NDCG'] or --data_path=FOLDER
    """
    if {"-h", "--help"} & set(arguments):
        usage = "--checkpoint=FILE[,FILE...] [--dataset=NAME] [--filter_seen=True] [--topk=[5,20]] [--json=FILE]"
        print(help_of(f"evaluate {usage} [--key=value ...]", evaluate_model.__doc__))
        return
    given, rest = own_arguments(arguments, "evaluate", ("checkpoint",), ("dataset", "json"))
    json_file, (file, *others) = read_output(given, "json"), read_names(given, "checkpoint")
    print_table(evaluate(file, given["dataset"], rest, others=others), json_file)
