"""What a mistake ends in: one line that names it and says what to do, before anything is trained or written."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
from pathlib import Path

import pandas as pd
import processes
import pytest
from atomic import ROOT, interactions, run_here, write_dataset
from rich.table import Table

import recbole_ssm
from recbole_ssm.cli import types
from recbole_ssm.cli.main import main
from recbole_ssm.cli.parser import joined
from recbole_ssm.cli.train_help import help_text
from recbole_ssm.cli.verbs import find_verb
from recbole_ssm.config.keys import sections
from recbole_ssm.config.shipped_files import properties_folder
from recbole_ssm.errors import InputError
from recbole_ssm.model.recbole_models import recbole_models, recbole_properties
from recbole_ssm.model.registry import MODELS
from recbole_ssm.system.terminal import Console

SMALL = ("--hidden_size=8", "--headdim=4", "--d_state=4", "--show_progress=False", "--use_gpu=False")


FILES = [
    f"{folder}/{file.stem}"
    for folder in ("recipe", "paper", "protocol")
    for file in properties_folder().glob(f"{folder}/*.yaml")
]
"""Those that are meant for ``--config_files``."""


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """A folder of datasets, most of which have something wrong with them."""
    folder = tmp_path_factory.mktemp("cli")
    good = interactions(n_users=12, shortest=5)
    write_dataset(folder, good)
    write_dataset(folder, good.drop_duplicates("user_id"), "single")
    write_dataset(folder, pd.concat([good, good.head(1).assign(user_id="alone")]), "one-single")
    write_dataset(folder, good.drop(columns="timestamp"), "timeless")
    write_dataset(folder, good, "wordy", "user_id:token\titem_id:token\ttimestamp:token")
    write_dataset(folder, good.rename(columns={"item_id": "thing"}), "itemless")
    write_dataset(
        folder, good.assign(timestamp="yesterday"), "yesterday", "user_id:token\titem_id:token\ttimestamp:float"
    )
    write_dataset(folder, good.assign(text="a"), "untyped", "user_id:token\titem_id:token\ttimestamp:float\ttext")
    write_dataset(folder, good.head(0), "lineless", "user_id:token\titem_id:token\ttimestamp:float")
    (folder / "fileless").mkdir()
    return folder


def arguments(datasets, *given: str, model: str | None = "2Mamba4Rec", dataset: str | None = "tiny") -> list[str]:
    """Arguments of a short run, with the given ones in place of those of the same key."""
    fixed = [f"--model={model}"] * (model is not None) + [f"--dataset={dataset}"] * (dataset is not None)
    small = SMALL if model in MODELS else SMALL[-2:]
    defaults = [*fixed, f"--data_path={datasets}", "--epochs=1", *small]
    keys = {argument.partition("=")[0] for argument in given}
    return [argument for argument in defaults if argument.partition("=")[0] not in keys] + list(given)


def case(*given: str, words: list[str], name: str | None = None, **chosen):
    return pytest.param(given, chosen, words, id=name or " ".join([*chosen.values(), *given]))


BPR = "--loss_type=BPR"

MISTAKES = [
    # model and dataset
    case(model="SSD4Rek", words=["'SSD4Rek'", "SSD4Rec", "Mamba4Rec", "2Mamba4Rec", "Hydra4Rec", "SASRec", "GRU4Rec"]),
    case(model="ssd4rec", words=["'ssd4rec'", "Did you mean SSD4Rec"]),
    case(model="sasrec", words=["'sasrec'", "Did you mean SASRec"]),
    case(model=None, words=["--model="], name="no model"),
    case(dataset=None, words=["--dataset="], name="no dataset"),
    case(dataset="absent", words=["'absent'", "data_path", "absent/absent.inter", "tiny", "FOLDER/absent"]),
    case("--data_path=nowhere", words=["nowhere", "data_path"]),
    case(dataset="fileless", words=["fileless.inter", "missing"]),
    case(dataset="itemless", words=["itemless.inter", "item_id:token", "thing:token", "ITEM_ID_FIELD"]),
    case(dataset="timeless", words=["timeless.inter", "timestamp:float", "TIME_FIELD"]),
    case(dataset="wordy", words=["wordy.inter", "timestamp:float", "timestamp:token"]),
    case(dataset="single", words=["'single'", "more than one interaction", "filters"]),
    case(dataset="lineless", words=["'lineless'", "empty"]),
    case(dataset="yesterday", words=["yesterday", "timestamp"]),
    case(dataset="untyped", words=["untyped.inter", "text"]),
    case("--user_inter_num_interval=[99,inf)", words=["'tiny'", "empty", "user_inter_num_interval", "[99,inf)"]),
    case("--TIME_FIELD=when", words=["tiny.inter", "when:float"]),
    case('--load_col={"inter": ["user_id", "item_id"]}', words=["load_col", "timestamp"]),
    case('--val_interval={"price": "[0,1]"}', words=["price"]),
    case(dataset="../tiny", words=["'../tiny'", "data_path"]),
    case(
        dataset="d" * 200,
        words=["dataset dddddddddddd... has a name of 200 bytes; 190 are", "rename"],
        name="long name",
    ),
    case(
        dataset="é" * 100, model="SASRec", words=["200 bytes; 194 are the most with SASRec"], name="name of two bytes"
    ),
    case("--USER_ID_FIELD=item_id", words=["USER_ID_FIELD", "three columns"]),
    case("--user_inter_num_interval=abc", words=["user_inter_num_interval", "[3,inf)", "'abc'"]),
    case("--item_inter_num_interval=5", words=["item_inter_num_interval", "[3,inf)"]),
    case("--encoding=foo", words=["encoding", "'foo'"]),
    case("--field_separator=", words=["field_separator", "empty"]),
    case("--hidden_size=1000000000000", words=["hidden_size 1000000000000", "memory"]),
    case("--checkpoint_dir=", words=["checkpoint_dir", "empty"]),
    case("--checkpoint_dir=/dev/null", words=["checkpoint_dir", "/dev/null", "another"]),
    case("--epochs=-1", words=["epochs", "0 or more"]),
    case("--stopping_step=-1", words=["stopping_step", "0 or more"]),
    case("--headdim=None", words=["headdim", "whole number"]),
    # values
    case("--dropout_prob=2", words=["dropout_prob", "from 0 to 1", "2"]),
    case("--dropout_prob=high", words=["dropout_prob", "'high'"]),
    case("--d_state=0", words=["d_state", "1 or more"]),
    case("--d_state=2.5", words=["d_state", "whole number", "2.5"]),
    case("--d_state=True", words=["d_state", "whole number", "True"]),
    case("--hidden_size=None", words=["hidden_size", "whole number"]),
    case("--time_order=foo", words=["time_order", "recbole", "exact", "'foo'"]),
    case("--time_order=foo", model="SASRec", words=["time_order", "'foo'"], name="SASRec --time_order=foo"),
    case("--train_samples=foo", words=["train_samples", "all_prefixes", "sampled_prefixes", "whole_sequence"]),
    case("--train_samples=sampled_prefixes", "--prefixes_per_user=None", words=["prefixes_per_user"]),
    case("--prefixes_per_user=0", words=["prefixes_per_user", "0.001 or more"]),
    case("--epochs=abc", words=["epochs", "whole number", "'abc'"]),
    case("--train_batch_size=0", words=["train_batch_size", "1 or more"]),
    case("--train_batch_tokens=0", words=["train_batch_tokens", "1 or more"]),
    case("--eval_batch_size=0", words=["eval_batch_size", "1 or more"]),
    case("--MAX_ITEM_LIST_LENGTH=0", words=["MAX_ITEM_LIST_LENGTH", "1 or more"]),
    case("--MAX_ITEM_LIST_LENGTH=None", model="SASRec", words=["MAX_ITEM_LIST_LENGTH"], name="SASRec without a limit"),
    case("--learning_rate=abc", words=["learning_rate", "number", "'abc'"]),
    case("--learning_rate=-1", words=["learning_rate", "-1"]),
    case("--learning_rate=1/0", words=["learning_rate", "1/0"]),
    case("--weight_decay=-1", words=["weight_decay", "-1"]),
    case("--seed=-1", words=["seed", "-1"]),
    case("--worker=-1", words=["worker", "-1"]),
    case("--use_gpu=maybe", words=["use_gpu", "True or False", "'maybe'"]),
    case("--filter_seen=maybe", words=["filter_seen", "True or False", "'maybe'"]),
    case("--clip_grad_norm=5", words=["clip_grad_norm", "max_norm"]),
    case("--load_col=['user_id']", words=["load_col must be a dict", "{'inter': ['user_id', 'item_id']}"]),
    case("--load_col={'inter': 5}", words=["load_col", "columns of inter", "5"]),
    case("--load_col={'item': ['item_id']}", words=["load_col", "leaves out column user_id"]),
    case(
        "--model=MamRec", "--language_config={model_type:mamba}", words=["such as {'model_type': 'mamba'}", "quotation"]
    ),
    case("--threshold=3", words=["threshold must be a dict, or None, but is 3"]),
    case("--numerical_features=3", words=["numerical_features must be a list, or None, but is 3"]),
    case("--headdim=3", words=["headdim", "3", "16"]),
    case("--n_heads=3", model="PackedSASRec", words=["n_heads", "3", "hidden_size 8"]),
    case("--lr_schedule=linear", words=["lr_schedule", "one_cycle", "'linear'"]),
    case("--lr_schedule=linear", model="SASRec", words=["lr_schedule", "'linear'"], name="SASRec --lr_schedule"),
    case("--repeat_bias=1", words=["repeat_bias", "True or False"]),
    case("--learner=foo", words=["learner", "adamw", "'foo'"]),
    case("--loss_type=foo", words=["loss_type", "CE", "BPR", "'foo'"]),
    case(BPR, "--train_neg_sample_args=None", words=["BPR", "train_neg_sample_args"]),
    case(BPR, '--train_neg_sample_args={"dynamic": True}', words=["train_neg_sample_args", "dynamic"]),
    case(BPR, '--train_neg_sample_args={"sample_num": 0}', words=["train_neg_sample_args", "sample_num"]),
    case("--d_conv=4", model="Hydra4Rec", words=["d_conv", "odd", "4"], name="Hydra4Rec --d_conv=4"),
    case("--train_samples=whole_sequence", model="SSD4Rec", words=["whole_sequence", "SSD4Rec", "prefix_lm"]),
    case("--train_samples=whole_sequence", model="Hydra4Rec", words=["whole_sequence", "Hydra4Rec", "all_prefixes"]),
    case("--train_samples=prefix_lm", words=["prefix_lm", "2Mamba4Rec", "whole_sequence"]),
    case("--causal_epochs=1", "--train_samples=all_prefixes", model="SSD4Rec", words=["causal_epochs", "prefix_lm"]),
    case(
        "--train_samples=prefix_lm",
        "--causal_epochs=2",
        "--epochs=2",
        model="SSD4Rec",
        words=["causal_epochs 2", "2 epochs"],
    ),
    case("--save_dataloaders=True", words=["save_dataloaders"]),
    # evaluation
    case("--valid_metric=NDCG@7", words=["valid_metric", "'NDCG@7'", "topk", "[10]"]),
    case("--ssm_backend=cuda", words=["ssm_backend", "native", "'cuda'"]),
    case("--valid_metric=3", words=["valid_metric", "NDCG@10", "3"]),
    case("--metrics=[]", words=["metrics", "empty"]),
    case("--topk=[]", words=["topk", "empty"]),
    case('--eval_args={"order": "TO", "split": {"RS": [0.8]}}', words=["eval_args", "[0.8]"]),
    case('--eval_args={"order": "TO", "split": {"RS": [0, 0, 1]}}', words=["eval_args", "[0, 0, 1]"]),
    case("--valid_metric=AUC", words=["valid_metric", "'AUC'"]),
    case("--topk=0", words=["topk", "positive"]),
    case("--topk=many", words=["topk", "many"]),
    case("--topk=100", "--valid_metric=NDCG@100", words=["topk", "100"]),
    case("--metrics=5", words=["metrics must be a name or a list of names", "5"]),
    case("--metrics=Foo", words=["metric", "Foo"]),
    case('--eval_args={"order": "RO"}', words=["eval_args", "order", "TO"]),
    case('--eval_args={"order": "TO", "split": {"LS": "foo"}}', words=["eval_args", "foo"]),
    case('--eval_args={"order": "TO", "split": {"XY": [1]}}', words=["eval_args", "XY"]),
    case('--eval_args={"order": "TO", "split": {"TS": [0.8, 0.2]}}', words=["eval_args", "TS"]),
    case('--eval_args={"order": "TO", "split": {"TS": [0, 0, 1]}}', words=["eval_args", "[0, 0, 1]"]),
    case('--eval_args={"split": {"RS": [8, 1, 1]}, "group_by": "item"}', words=["eval_args", "group_by", "item"]),
    case("--valid_metric=NDCG", words=["valid_metric", "NDCG@10"]),
    case("--valid_metric=AUC@10", words=["valid_metric", "AUC@10"]),
    case('--eval_args={"order": "TO", "mode": "foo"}', words=["mode", "foo"]),
    # the command line and config files
    case("--epochs", "abc", words=["epochs", "whole number", "'abc'"], name="a space in place of ="),
    case("-x", words=["'-x'", "--key=value"]),
    case("--foo", words=["'--foo'", "--key=value"]),
    case("foo=3", words=["'foo=3'", "--key=value"]),
    case("--=3", words=["'--=3'", "--key=value"]),
    case("--d_stat=4", words=["'d_stat'", "d_state"]),
    case("--qqqqq=4", words=["'qqqqq'", "--help"]),
    case("--epochs=1", "--epochs=2", words=["epochs", "twice", "1", "2"], name="epochs twice"),
    case("--model=2Mamba4Rec", "--model=SASRec", words=["model", "twice", "2Mamba4Rec", "SASRec"], name="model twice"),
    case("--dataset=tiny", "--dataset=ml-100k", words=["dataset", "twice", "tiny", "ml-100k"], name="dataset twice"),
    case(
        "--config_files=good.yaml",
        "--config_files=broken.yaml",
        words=["config_files", "twice"],
        name="config_files twice",
    ),
    case("--config_files=none.yaml", words=["none.yaml", "--help lists"]),
    case("--config_files=good.yaml,none.yaml", words=["none.yaml"]),
    case("--config_files=broken.yaml", words=["broken.yaml"]),
    case("--config_files=list.yaml", words=["list.yaml"]),
    case("--config_files=wrong.yaml", words=["d_state", "1 or more"]),
]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("given", "chosen", "words"), MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(datasets, tmp_path, capfd, given, chosen, words):
    (tmp_path / "good.yaml").write_text("d_conv: 3\n")
    (tmp_path / "broken.yaml").write_text("d_conv: [1, 2\nd_state: {4\n")
    (tmp_path / "list.yaml").write_text("- d_conv\n- d_state\n")
    (tmp_path / "wrong.yaml").write_text("d_state: 0\n")
    if "--config_files=wrong.yaml" in given:
        line = [argument for argument in arguments(datasets, *given) if not argument.startswith("--d_state")]
    else:
        line = arguments(datasets, *given, **chosen)
    status = main(line)
    captured = capfd.readouterr()
    assert status == 2
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    for word in words:
        assert word.replace("FOLDER", str(datasets)) in lines[0], lines[0]
    assert not (tmp_path / "saved").exists()


@pytest.mark.parametrize(
    ("given", "chosen", "words"),
    [
        ((), {"dataset": "single"}, "error: dataset 'single'"),
        (("--user_inter_num_interval=[99,inf)",), {}, "error: dataset 'tiny' is empty"),
        (("--topk=100", "--valid_metric=NDCG@100"), {"model": "BPR"}, "error: topk 100"),
    ],
    ids=["nothing to predict", "filtered", "topk"],
)
def test_an_error_of_the_data_is_said_in_place_of_the_configuration(
    datasets, tmp_path, capfd, monkeypatch, given, chosen, words
):
    script = str(ROOT / "run_recbole_ssm.py")
    done = run_here(script, *arguments(datasets, *given, **chosen), capfd=capfd, monkeypatch=monkeypatch)
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert lines[-1].startswith(words)
    assert sum(line.startswith("error: ") for line in lines) == 1
    assert "use_gpu" not in done.stdout + done.stderr  # nor any other line of the configuration
    assert len(lines) < 6
    (log,) = (tmp_path / "log").rglob("*.log")
    assert "use_gpu" in log.read_text(encoding="utf-8")
    assert not (tmp_path / "saved").exists()


def test_keys_that_a_model_has_no_use_for_are_named(datasets, caplog):
    assert main(arguments(datasets, "--n_heads=2")) == 0
    assert [record.getMessage() for record in caplog.records if "does not apply" in record.getMessage()] == [
        "n_heads is passed over: it does not apply to 2Mamba4Rec"
    ]


def test_a_user_with_a_single_interaction_is_left_out_with_a_warning(datasets, caplog):
    assert main(arguments(datasets, dataset="one-single")) == 0
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any("1 of 13 users" in text and "user_inter_num_interval" in text for text in warnings)


def test_without_such_users_there_is_no_warning(datasets, caplog):
    assert main(arguments(datasets)) == 0
    assert not [record.getMessage() for record in caplog.records if "single interaction" in record.getMessage()]


def test_a_diverged_training_ends_with_one_line_and_status_1(datasets, capfd):
    assert main(arguments(datasets, "--initializer_range=1e38")) == 1
    lines = capfd.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:]
    assert "learning_rate" in lines[-1]


@pytest.mark.parametrize(
    ("given", "status", "out", "err"),
    [
        ([], 0, "usage: ", ""),
        (["--version"], 0, f"recbole-ssm {recbole_ssm.__version__}", ""),
        (["compare", "--version"], 0, f"recbole-ssm {recbole_ssm.__version__}", ""),
        (["comapre", "--models=a,b"], 2, "", "there is no verb 'comapre'. Did you mean compare? Verbs: train, "),
        (["Evaluate"], 2, "", "there is no verb 'Evaluate'. Did you mean evaluate?"),
        (["tuen", "--help"], 2, "", "there is no verb 'tuen'. Did you mean tune?"),
        (["qqqq"], 2, "", "there is no verb 'qqqq'. Verbs: train, evaluate"),
        (["compare", "--dataset", "tiny"], 2, "", "compare needs --models=..."),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_the_first_word(given, status, out, err, capfd):
    assert main(given) == status
    captured = capfd.readouterr()
    assert captured.out.startswith(out) and bool(captured.out) == bool(out)
    assert captured.err.startswith(f"error: {err}" if err else "") and len(captured.err.splitlines()) == (status == 2)


@pytest.mark.parametrize(
    ("given", "joined_up"),
    [
        (["--model", "2Mamba4Rec", "--epochs=3"], ["--model=2Mamba4Rec", "--epochs=3"]),
        (["--resume", "--model", "SASRec"], ["--resume", "--model=SASRec"]),
        (["--resume", "saved/a.pth"], ["--resume=saved/a.pth"]),
        (["--beta", "-0.5", "--seed", "3"], ["--beta=-0.5", "--seed=3"]),
        (["--trust_checkpoint", "--seed", "3"], ["--trust_checkpoint=True", "--seed=3"]),
        (["--trust_checkpoint", "False"], ["--trust_checkpoint=False"]),
        (["--help", "word"], ["--help", "word"]),
        (["--model", "-h"], ["--model", "-h"]),
        (["--a=b", "word"], ["--a=b", "word"]),
        (["verb", "--a", "{'b': 1}", "more"], ["verb", "--a={'b': 1}", "more"]),
    ],
)
def test_a_space_may_stand_for_the_equals_sign(given, joined_up):
    assert joined(given, ("--trust_checkpoint",)) == joined_up


def test_a_run_by_arguments_with_spaces(datasets, tmp_path):
    line = [part for argument in arguments(datasets) for part in argument.split("=", 1)]
    assert main(line) == 0
    assert list((tmp_path / "saved").glob("2Mamba4Rec-*.pth"))


@pytest.mark.parametrize("folder", ["log", "log_tensorboard", "saved"])
@pytest.mark.parametrize("full", [False, True])
def test_a_folder_that_cannot_be_written_to_is_one_sentence(datasets, tmp_path, monkeypatch, capfd, folder, full):
    if full:
        wrote = Path.write_bytes

        def write(path, content):
            if folder in path.parts:
                raise OSError(28, "No space left on device")
            return wrote(path, content)

        (tmp_path / folder).mkdir()
        monkeypatch.setattr(Path, "write_bytes", write)
    else:
        (tmp_path / folder).write_text("in the way")
    assert main(arguments(datasets, "--state=error")) == 2
    last = capfd.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and folder in last and "cannot be written to" in last and "another" in last


def test_help_names_models_datasets_and_keys(datasets, capsys):
    assert main(["--model=2Mamba4Rec", "--help", f"--data_path={datasets}"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    words = captured.out.replace(",", " ").split()
    for name in [*MODELS, "SASRec", "GRU4Rec", "ml-100k", "tiny", "single", *FILES]:
        assert name in words, name
    for option in (key for _, keys in sections() for key, _ in keys):
        assert option.name in words
        assert " ".join(option.text.split()) in " ".join(captured.out.split())
    assert "fileless" not in words
    assert max(len(line) for line in captured.out.splitlines()) <= 120


def test_help_runs_as_a_module(tmp_path, capfd, monkeypatch):
    done = run_here(str(ROOT / "recbole_ssm" / "__main__.py"), "-h", capfd=capfd, monkeypatch=monkeypatch)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
    assert done.stderr == ""
    assert "2Mamba4Rec" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_config_file_may_have_spaces_in_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my own.yaml").write_text("epochs: 3\n")
    assert types.files("my own.yaml") == ["my own.yaml"]
    assert types.files("one.yaml,two.yaml three.yaml") == ["one.yaml", "two.yaml", "three.yaml"]


@pytest.mark.slow
def test_who_reads_may_stop():
    """As ``head`` does."""
    process = processes.process(processes.verb_that_nobody_reads, "--help", output="errors")
    process.join()
    assert (process.exitcode, Path("errors").read_text()) == (128 + signal.SIGPIPE, "")


@pytest.mark.slow
def test_ctrl_c_while_python_leaves_is_a_word_and_a_status():
    process = processes.process(processes.program_interrupted_as_it_ends, output="said")
    process.join()
    said = Path("said").read_text().splitlines()
    assert (process.exitcode, said) == (130, [f"recbole-ssm {recbole_ssm.__version__}", "interrupted"])


def test_ctrl_c_is_a_word_and_a_status(capsys, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole_ssm.cli.main.find_verb", interrupted)
    assert main(["import"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


@pytest.mark.parametrize("table", [False, True])
def test_who_reads_tables_may_stop(table, monkeypatch):
    """Also where rich prints, which ends the program in a way of its own otherwise."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        console = Console(file=gone)
        with pytest.raises(BrokenPipeError):
            console.print(Table("a") if table else "a")
            gone.flush()
        with contextlib.suppress(BrokenPipeError):
            gone.close()


def test_help_lists_the_datasets_of_the_default_folder(datasets, tmp_path):
    write_dataset(tmp_path / "dataset", interactions(n_users=3), "mine")
    assert "mine" in help_text("dataset")
    assert "mine" not in help_text("elsewhere")


@pytest.mark.parametrize(
    ("model", "package", "pip"),
    [
        *(("NCL", "faiss", "faiss-cpu"), ("KGAT", "dgl", "dgl"), ("MCCLK", "torch_scatter", "torch_scatter")),
        *(("LightGBM", "lightgbm", "lightgbm"), ("XGBoost", "xgboost", "xgboost")),
    ],
)
def test_a_package_that_a_model_of_recbole_needs_is_named_before_any_work(
    tmp_path, capsys, monkeypatch, model, package, pip
):
    """Some are imported late in the training only."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *of: None if name == package else find(name, *of))
    assert main([f"--model={model}", "--dataset=ml-100k"]) == 2
    said = capsys.readouterr().err
    assert said == f"error: RecBole's model {model} needs {package}, which is not installed; pip install {pip}\n"
    assert not list(tmp_path.iterdir())


def test_models_of_recbole_have_the_names_of_their_classes():
    assert {"LightGBM", "XGBoost", "SASRec", "KD_DAGFM"} <= set(recbole_models())
    assert not {"lightgbm", "xgboost"} & set(recbole_models())
    assert all(recbole_properties(name).is_file() for name in recbole_models())


@pytest.mark.parametrize("verb", [[], ["compare", "--models=BPR,Pop"], ["tune", "--model=BPR"]])
@pytest.mark.parametrize("files", ["", " ", ","])
def test_no_name_is_no_config_file(tiny, capsys, verb, files):
    model = [] if verb else ["--model=LRURec"]
    assert main([*verb, *model, "--dataset=tiny", f"--data_path={tiny}", f"--config_files={files}"]) == 2
    assert "--config_files= names no file" in capsys.readouterr().err


def test_an_empty_resume_does_not_begin_anew(tiny, capsys):
    assert main(["--model=LRURec", "--dataset=tiny", f"--data_path={tiny}", "--resume="]) == 2
    assert "--resume= names no file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["inspect", "--checkpoint="], ["--model=LRURec", "--dataset=tiny", "--data_path="]], ids=" ".join
)
def test_a_name_too_long_for_a_file_is_said(tiny, capsys, words):
    assert main([*words[:-1], words[-1] + "é" * 200]) == 2
    assert capsys.readouterr().err.endswith("' is too long for the name of a file\n")


@pytest.mark.parametrize("value", ["[1]", "{'price': 1}", "{'price': ['x']}", "{'price': [1" + "0" * 400 + "]}", "{"])
def test_columns_must_be_a_dict_of_lists_of_numbers(value):
    with pytest.raises(InputError, match="--columns must be like"):
        find_verb("recommend").parser().parse(["--checkpoint=x", f"--columns={value}"])


@pytest.mark.parametrize(
    ("word", "values"),
    [
        ("0,0.1", ["0", "0.1"]),
        ("[8,16],[4]", ["[8,16]", "[4]"]),
        ("{'a':(1,[2,3])},None", ["{'a':(1,[2,3])}", "None"]),
        ("'a,b.pth',\"it's,(\",c's,d", ["'a,b.pth'", '"it\'s,("', "c's", "d"]),
        ("['a,]','b'],1,True", ["['a,]','b']", "1", "True"]),
    ],
)
def test_a_list_or_a_quoted_word_is_one_value_of_a_sweep(word, values):
    given, _ = find_verb("sweep").parser().parse(["--model=M", "--dataset=D", "--param=P", f"--values={word}"])
    assert given.values == values


@pytest.mark.parametrize("word", [".01,0.01", "1,2,1.0", "true,True", "[8,16],[8, 16]", "'a',a", "1,1"])
def test_no_value_of_a_sweep_is_trained_twice(word):
    with pytest.raises(InputError, match=r"has the same value twice|must name different ones"):
        find_verb("sweep").parser().parse(["--model=M", "--dataset=D", "--param=P", f"--values={word}"])
