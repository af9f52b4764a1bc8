"""The verbs that look into a checkpoint: what is in it, and how good its model is."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from atomic import interactions, small, write_dataset

import recbole_ssm
from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.cli.main import main
from recbole_ssm.cli.verbs import VERBS
from recbole_ssm.system import state_file
from recbole_ssm.training.evaluation import loaded


@pytest.fixture(autouse=True)
def dataset(tmp_path):
    write_dataset(tmp_path, interactions())


def train(folder, model="2Mamba4Rec", **keys) -> dict:
    given = {"data_path": str(folder), "use_gpu": False, "show_progress": False, "epochs": 3, "learning_rate": 0.01}
    return recbole_ssm.run(model, "tiny", config_dict={**given, **small(model), **keys})


def ask(*arguments: str) -> dict:
    """What a verb writes as JSON."""
    assert main([*arguments, "--json=found.json"]) == 0
    return json.loads(Path("found.json").read_text(encoding="utf-8"))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
def test_evaluate_gives_what_the_run_gave(tmp_path, model):
    result = train(tmp_path, model, time_order="exact", metric_decimal_place=6)
    found = ask("evaluate", f"--checkpoint={result['checkpoint']}")
    assert found["valid_result"] == pytest.approx(result["best_valid_result"])
    assert found["test_result"] == pytest.approx(result["test_result"])
    assert (found["time_order"], found["filter_seen"], found["same_training_data"]) == ("exact", False, True)


@pytest.mark.slow
@pytest.mark.parametrize("teacher", ["CIN", "DAGFM", "CrossNet"])
def test_a_teacher_that_is_a_part_of_the_model_stays(tmp_path, teacher):
    keys = {"eval_args": {"mode": "full"}, "metrics": ["NDCG"], "topk": [3], "valid_metric": "NDCG@3"}
    keys["train_neg_sample_args"] = {"distribution": "uniform", "sample_num": 1}
    result = train(tmp_path, "KD_DAGFM", teacher=teacher, metric_decimal_place=6, **keys)
    found = ask("evaluate", f"--checkpoint={result['checkpoint']}")
    assert found["valid_result"] == pytest.approx(result["best_valid_result"])
    assert found["test_result"] == pytest.approx(result["test_result"])


@pytest.mark.slow
def test_a_checkpoint_is_evaluated_in_the_order_that_its_training_had(tmp_path):
    """Whatever is the default, also where the file says nothing of an order, which was then RecBole's."""
    write_dataset(tmp_path, interactions(step=1))  # an order that float32 loses
    for written in ({"time_order": "recbole"}, {}):
        file = train(tmp_path, time_order="recbole", metric_decimal_place=6)["checkpoint"]
        state = checkpoint.read(file)
        expected = state["history"]
        state = {key: value for key, value in state.items() if key not in ("format", "format_version")}
        state["given"].pop("time_order")
        state["config"].pop("time_order")
        state["config"] |= written
        checkpoint.write(file, state)
        found = ask("evaluate", f"--checkpoint={file}")
        assert (found["time_order"], found["same_training_data"]) == ("recbole", True)
        assert found["valid_result"] in [epoch["valid_result"] for epoch in expected]
        assert not ask("evaluate", f"--checkpoint={file}", "--time_order=exact")["same_training_data"]


@pytest.mark.slow
def test_evaluate_leaves_no_cache_where_it_runs(tmp_path):
    checkpoint = Path(train(tmp_path, dataset_cache="kept")["checkpoint"])
    assert Path("kept").is_dir()
    Path("kept").rename("away")
    ask("evaluate", f"--checkpoint={checkpoint}")
    assert not Path("kept").exists()


@pytest.mark.slow
def test_evaluate_with_another_configuration(tmp_path):
    result = train(tmp_path)
    file = f"--checkpoint={result['checkpoint']}"
    found = ask("evaluate", file, "--filter_seen=True", "--topk=[3]", "--valid_metric=MRR@3", "--metrics=['MRR']")
    assert set(found["test_result"]) == {"mrr@3"}
    filtered = train(tmp_path, filter_seen=True)["test_result"]
    assert ask("evaluate", file, "--filter_seen=True")["test_result"] == pytest.approx(filtered)
    assert filtered != result["test_result"]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
def test_evaluate_needs_no_metric_to_choose_by(tmp_path, model):
    file = f"--checkpoint={train(tmp_path, model)['checkpoint']}"
    assert set(ask("evaluate", file, "--topk=[5,20]", "--metrics=['NDCG']")["test_result"]) == {"ndcg@5", "ndcg@20"}


def test_no_word_of_a_checkpoint_is_run_as_code(tmp_path):
    file = train(tmp_path)["checkpoint"]
    state = checkpoint.read(file)
    state["given"]["wandb_project"] = "__import__('pathlib').Path('run').touch()"
    checkpoint.write(file, {key: state[key] for key in state if not key.startswith("format")})
    ask("evaluate", f"--checkpoint={file}")
    assert not Path("run").exists()


@pytest.mark.slow
def test_several_models_rank_together(tmp_path, capfd, monkeypatch):
    files = [train(tmp_path, model, seed=seed)["checkpoint"] for model, seed in (("2Mamba4Rec", 1), ("SSD4Rec", 2))]
    scores, targets = [], []
    for file in files:
        with loaded(file) as (_, _, (_, _, test), trainer), torch.no_grad():
            (batch, _, _, target) = next(iter(test))
            scores.append(trainer.model.eval().full_sort_predict(batch))
            targets.append(target)
    together = sum(scores) / 2
    together[:, 0] = -torch.inf
    rank = (together > together.gather(1, targets[0][:, None])).sum(1)
    times_read, read = Counter(), state_file.read

    def counted(file, *arguments, **how):
        times_read[str(file)] += 1
        return read(file, *arguments, **how)

    with monkeypatch.context() as counting:
        counting.setattr(state_file, "read", counted)
        found = ask("evaluate", f"--checkpoint={','.join(files)}", "--metric_decimal_place=6")["test_result"]
    assert times_read == dict.fromkeys(files, 1)
    assert found["hit@10"] == pytest.approx((rank < 10).double().mean().item(), abs=1e-6)
    assert found["mrr@10"] == pytest.approx(((rank < 10) / (rank + 1)).mean().item(), abs=1e-6)
    alone = [ask("evaluate", f"--checkpoint={file}", "--metric_decimal_place=6")["test_result"] for file in files]
    assert found not in alone
    with monkeypatch.context() as no_data:
        no_data.setattr("recbole_ssm.training.evaluation.assemble_trained", None)
        for key in ("memory_scale=2", "beta=0.3"):  # of both models, and of the second alone
            assert main(["evaluate", f"--checkpoint={','.join(files)}", f"--{key}"]) == 2
            assert f"--{key.partition('=')[0]} does not apply to several checkpoints" in capfd.readouterr().err
    other = train(tmp_path, eval_args={"split": {"LS": "test_only"}})["checkpoint"]
    for file, said in ((other, "was trained on other data"), (train(tmp_path, "SASRec")["checkpoint"], "is a SASRec")):
        assert main(["evaluate", f"--checkpoint={files[0]},{file}"]) == 2
        assert said in capfd.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
def test_evaluate_leaves_nothing_where_it_runs_and_needs_no_room_there(tmp_path, monkeypatch, model, recwarn):
    file = train(tmp_path, model)["checkpoint"]
    (tmp_path / "empty").mkdir()
    file = Path(file).absolute()
    monkeypatch.chdir(tmp_path / "empty")
    assert main(["evaluate", f"--checkpoint={file}"]) == 0
    assert list(Path().iterdir()) == []
    assert not [warning for warning in recwarn if issubclass(warning.category, FutureWarning)]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
def test_no_file_that_a_checkpoint_names_is_unpickled_or_written(tmp_path, model):
    file = train(tmp_path, model)["checkpoint"]
    state = checkpoint.read(file)
    Path("loaders.pth").write_bytes(b"no pickle")
    state["given"] |= {"dataloaders_save_path": "loaders.pth", "save_dataloaders": True}
    state["given"] |= {"dataset_save_path": "loaders.pth", "save_dataset": True}
    checkpoint.write(file, {key: state[key] for key in state if not key.startswith("format")})
    before = set(Path().rglob("*"))
    assert main(["evaluate", f"--checkpoint={file}"]) == 0
    assert set(Path().rglob("*")) == before
    assert Path("loaders.pth").read_bytes() == b"no pickle"


@pytest.mark.slow
def test_models_that_read_histories_of_another_length_do_not_rank_together(tmp_path, capfd):
    short, whole = (train(tmp_path, MAX_ITEM_LIST_LENGTH=most)["checkpoint"] for most in (3, None))
    for files, words in (((short, whole), "reads all items"), ((whole, short), "reads 3 items")):
        assert main(["evaluate", f"--checkpoint={','.join(files)}"]) == 2
        assert words in capfd.readouterr().err


@pytest.mark.slow
def test_what_a_training_in_the_midst_came_to_is_not_what_an_earlier_epoch_did(tmp_path):
    file = train(tmp_path)["checkpoint"]
    state = checkpoint.read(file)
    state["history"] = state["history"] + [{"epoch": 9, "train_loss": 1.0, "train_seconds": 1.0}]
    state["epoch"] += 1
    checkpoint.write("later.pth", {key: state[key] for key in state if not key.startswith("format")})
    assert ask("inspect", "--checkpoint=later.pth")["valid_result"] is None
    state["history"].pop()
    state["training"] |= {"batches_done": 2}
    checkpoint.write("later.pth", {key: state[key] for key in state if not key.startswith("format")})
    assert ask("inspect", "--checkpoint=later.pth")["valid_result"] is None


@pytest.mark.slow
def test_the_folder_of_the_training_may_be_gone(tmp_path):
    """What it holds may be anything, and so may the path in a file that came from elsewhere."""
    file = Path(train(tmp_path, checkpoint_dir="kept", dataset_save_path="none.pth")["checkpoint"]).rename("model.pth")
    Path("kept").rmdir()
    Path("kept").write_text("in the way")
    assert ask("evaluate", f"--checkpoint={file}")["test_result"]


@pytest.mark.slow
def test_what_does_nothing_is_said(tmp_path, caplog):
    file = f"--checkpoint={train(tmp_path, 'SASRec')['checkpoint']}"
    ask("evaluate", file, "--filter_sen=True", "--learning_rate=0.1", "--lr_schedule=one_cycle")
    assert "id you mean filter_seen?" in caplog.text
    for key in ("learning_rate", "lr_schedule"):
        assert f"{key} is passed over: nothing is trained here" in caplog.text


def test_a_model_of_another_size_is_refused(tmp_path, capfd):
    file = f"--checkpoint={train(tmp_path, 'SASRec')['checkpoint']}"
    assert main(["evaluate", file, "--MAX_ITEM_LIST_LENGTH=20"]) == 2
    assert "of another size" in capfd.readouterr().err.splitlines()[-1]


def test_a_file_that_cannot_be_written_costs_no_result(tmp_path, capfd):
    file = f"--checkpoint={train(tmp_path)['checkpoint']}"
    capfd.readouterr()
    assert main(["evaluate", file, "--json=nowhere/found.json"]) == 2
    said = capfd.readouterr()
    assert not said.out and "--json=nowhere/found.json must be a file in a folder that there is" in said.err
    assert main(["evaluate", file, f"--json={'x' * 300}"]) == 2  # a name too long for any file
    said = capfd.readouterr()
    assert "test_result" in said.out and "cannot be written" in said.err


def test_inspect_says_what_was_trained(tmp_path):
    result = train(tmp_path)
    found = ask("inspect", f"--checkpoint={result['checkpoint']}")
    assert found["model"] == "2Mamba4Rec"
    assert found["given"]["learning_rate"] == 0.01
    assert (found["dataset"]["name"], found["dataset"]["users"], found["dataset"]["items"]) == ("tiny", 30, 40)
    assert found["parameters"] == result["parameters"]
    assert found["valid_result"] == pytest.approx({k: float(v) for k, v in result["best_valid_result"].items()})
    assert found["epoch"] == 1 + max(range(3), key=lambda e: result["history"][e]["valid_result"]["ndcg@10"])


def test_what_is_printed_names_every_part(tmp_path, capsys):
    file = f"--checkpoint={train(tmp_path)['checkpoint']}"
    capsys.readouterr()
    assert main(["inspect", file]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 110
    for word in ("model", "2Mamba4Rec", "dataset", "tiny", "learning_rate 0.01", "ndcg@10"):
        assert word in " ".join(lines)


def test_other_items_are_refused(tmp_path, capfd):
    file = f"--checkpoint={train(tmp_path)['checkpoint']}"
    frame = interactions()
    write_dataset(tmp_path, frame.assign(item_id=frame["item_id"].replace("i3", "i999")), "other")
    assert main(["evaluate", file, "--dataset=other"]) == 2
    assert "has 1 other items and lacks 1 of these" in capfd.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect"], ["inspect needs --checkpoint=..."]),
        (["evaluate", "--checkpoint=none.pth"], ["there is no checkpoint none.pth"]),
        (["inspect", "--checkpoint=none.pth", "--topk=3"], ["'--topk=3'"]),
        (["inspekt"], ["'inspekt'", "--key=value"]),
    ],
    ids=str,
)
def test_a_mistake_is_one_line(arguments, words, capfd):
    assert main(arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert all(word in line for word in words), line


@pytest.mark.parametrize("verb", list(VERBS)[1:])
def test_help_of_a_verb(verb, capsys):
    assert main([verb, "--help"]) == 0
    usage, heading, *keys = capsys.readouterr().out.split("\n\n")
    assert usage.startswith(f"usage: python -m recbole_ssm {verb} ")
    assert all(len(line) <= 100 for line in usage.splitlines())
    assert not any(part.startswith(" ") for part in (heading, *keys))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("2Mamba4Rec", {"item_bias": True}),
        ("SSD4Rec", {"filter_seen": True, "user_inter_num_interval": "[6,inf)"}),
        ("LRURec", {"load_col": {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "price"]}}),
    ],
)
def test_rows_in_another_order_are_the_same_data(tmp_path, model, keys):
    """RecBole numbers items in the order in which they come."""
    frame = interactions()
    prices = "".join(f"{item}\t{item[1:]}.5\n" for item in sorted(set(frame["item_id"])))
    (tmp_path / "tiny" / "tiny.item").write_text("item_id:token\tprice:float\n" + prices)
    file = train(tmp_path, model, metric_decimal_place=6, **keys)["checkpoint"]
    expected = ask("evaluate", f"--checkpoint={file}")
    assert expected["same_training_data"]
    for other in (frame[::-1], frame.sort_values("timestamp"), frame.sample(frac=1, random_state=1)):
        write_dataset(tmp_path, other)
        found = ask("evaluate", f"--checkpoint={file}")
        assert found["valid_result"] == pytest.approx(expected["valid_result"])
        assert found["test_result"] == pytest.approx(expected["test_result"])
    with loaded(file) as (_, _, (_, _, test), trainer):
        data = trainer.model, test._dataset
        assert [str(name) for name in data[1].field2id_token["item_id"]] == checkpoint.read(file)["item_vocabulary"]
        if "load_col" in keys:
            feature = data[1].item_feat
            names = data[1].field2id_token["item_id"][feature["item_id"].numpy()]
            order = feature["price"][1:].argsort().tolist()
            assert [int(names[1:][place][1:]) for place in order] == sorted(int(name[1:]) for name in names[1:])


@pytest.mark.slow
def test_models_of_recbole_are_tried_on_rows_in_their_order_alone(tmp_path, capfd):
    file = train(tmp_path, "SASRec")["checkpoint"]
    write_dataset(tmp_path, interactions()[::-1])
    assert main(["evaluate", f"--checkpoint={file}"]) == 2
    assert "them in another order" in capfd.readouterr().err
