"""A training that is stopped, or killed, and resumed gives what it would have given, to the last bit."""

import os
import random
import re
import signal
import time
from pathlib import Path

import processes
import pytest
import recbole.trainer
from atomic import (
    LEAVE_ONE_OUT,
    interactions,
    make_config,
    make_loaders,
    make_trainer,
    small,
    write_dataset,
)

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.latest import differences, find_latest
from recbole_ssm.cli.main import main
from recbole_ssm.errors import CheckpointError, CheckpointNotWritten
from recbole_ssm.model.registry import model_class
from recbole_ssm.system.plain import plain
from recbole_ssm.system.state_file import checksum
from recbole_ssm.training.hooks.stopping import Interrupted
from recbole_ssm.training.run import run

BPR = {"loss_type": "BPR", "train_neg_sample_args": {"distribution": "uniform", "sample_num": 1}}
ALL_BUT_LAST = {**LEAVE_ONE_OUT, "split": {"LS": "test_only"}}
TRAININGS = {
    "one cycle": (
        "2Mamba4Rec",
        {
            "lr_schedule": "one_cycle",
            "repeat_bias": True,
            "transition_memory": True,
            "memory_dropout": 0.5,
            "train_batch_tokens": 40,
        },
    ),
    "masks, cuts": (
        "SSD4Rec",
        {"mask_ratio": 0.2, "train_samples": "prefix_lm", "causal_epochs": 1, "train_batch_tokens": 60},
    ),
    "negatives": ("Hydra4Rec", {**BPR, "train_samples": "sampled_prefixes", "train_batch_tokens": 150}),
    "no validation": ("LRURec", {"eval_args": ALL_BUT_LAST, "train_batch_tokens": 40}),
    "RecBole's, negatives": ("SASRec", {**BPR, "train_batch_size": 64, "lr_schedule": "one_cycle"}),
    "RecBole's, masks": ("BERT4Rec", {"train_batch_size": 64, "hidden_size": 8, "inner_size": 8, "n_layers": 1}),
}
EPOCHS = 3


def config_of(folder, name, **keys):
    model, more = TRAININGS[name]
    return make_config(folder, model, **{"epochs": EPOCHS, "learning_rate": 0.01, "stopping_step": 20, **more, **keys})


def outcome(trainer, test) -> dict:
    """All that a training comes to, but for how long it took."""
    epochs = [{k: v for k, v in epoch.items() if not k.endswith("seconds")} for epoch in trainer.history]
    losses = [float(f"{epoch.pop('train_loss'):.6g}") for epoch in epochs]  # summed up in two parts
    return {
        "weights": checksum(trainer.model.state_dict()),
        "optimiser": checksum(trainer.optimizer.state_dict()),
        "best": float(trainer.best_valid_score),
        "best result": {key: float(value) for key, value in (trainer.best_valid_result or {}).items()},
        "history": epochs,
        "losses": losses,
        "test": dict(trainer.evaluate(test)),
    }


def train(config, begun=None, signal_at=None):
    """Train, with SIGTERM sent to this process at the given call of the model's loss or of the evaluation."""
    _, trainer, (train_data, valid, test) = make_trainer(config)
    if begun is not None:
        trainer.resume_checkpoint(begun)
    calls = 0

    def counted(original):
        def function(*arguments):
            nonlocal calls
            calls += 1
            if calls == signal_at:
                signal.raise_signal(signal.SIGTERM)
            return original(*arguments)

        return function

    trainer.model.calculate_loss = counted(trainer.model.calculate_loss)
    trainer._full_sort_batch_eval = counted(trainer._full_sort_batch_eval)
    trainer.fit(train_data, valid, verbose=False)
    return trainer, test, calls


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAININGS)
def test_a_stopped_training_goes_on_as_if_nothing_had_been(tiny, name):
    """Stopped in the midst of an epoch, in its first and last batch, in the evaluation, and several times."""
    config = config_of(tiny, name)
    trainer, test, calls = train(config)
    expected = outcome(trainer, test)
    per_epoch = calls // EPOCHS
    assert per_epoch > 3
    often = [[1], [per_epoch + 2], [2 * per_epoch - 1], [2 * per_epoch], [3, 3, per_epoch]]
    turn = list(TRAININGS).index(name)
    for stops in often if turn == 0 else (often[turn % 5], often[(turn + 2) % 5]):  # each often enough
        begun = None
        for stop in stops:
            with pytest.raises(Interrupted) as interrupted:
                train(config, begun, stop)
            assert interrupted.value.signal_number == signal.SIGTERM
            begun = find_latest("saved", config["model"], "tiny")
            assert str(begun) in str(interrupted.value)
            assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        found, test, _ = train(config, begun)
        assert outcome(found, test) == expected, stops
        found.latest_file.unlink()


@pytest.mark.slow
def test_the_seconds_before_a_stop_count_and_those_of_validation_do_not(tiny, monkeypatch):
    seconds = 0.0
    monkeypatch.setattr("recbole_ssm.training.hooks.history.perf_counter", lambda: seconds)

    def passing(original, how_many):
        def function(*arguments):
            nonlocal seconds
            seconds += how_many
            return original(*arguments)

        return function

    model = TRAININGS["one cycle"][0]
    of_loss = passing(model_class(model).calculate_loss, 10.0)
    monkeypatch.setattr(model_class(model), "calculate_loss", of_loss)
    monkeypatch.setattr(model_class(model), "full_sort_predict", passing(model_class(model).full_sort_predict, 1000.0))
    config = config_of(tiny, "one cycle", eval_batch_size=8)
    whole, _, calls = train(config)
    expected = [epoch["train_seconds"] for epoch in whole.history]
    assert all(0 < seconds < 1000 for seconds in expected)
    for stop in (3, calls // EPOCHS):  # in the midst of the first epoch, and in its validation
        with pytest.raises(Interrupted):
            train(config, signal_at=stop)
        found, *_ = train(config, find_latest("saved", config["model"], "tiny"))
        assert [epoch["train_seconds"] for epoch in found.history] == expected, stop
        found.latest_file.unlink()


@pytest.mark.slow
def test_metrics_that_count_are_computed_for_a_finished_training_too(tiny):
    config = config_of(tiny, "one cycle", metrics=["NDCG", "GiniIndex"])
    trainer, test, _ = train(config)
    again, same, _ = train(config, trainer.latest_file)
    assert dict(again.evaluate(same)) == dict(trainer.evaluate(test))


def test_a_file_of_a_process_that_was_killed_as_it_began_is_passed_over(tiny):
    config = config_of(tiny, "one cycle")
    with pytest.raises(Interrupted):
        train(config, signal_at=3)
    begun = find_latest("saved", config["model"], "tiny")
    begun.with_name(f"{config['model']}-empty.latest.pth").touch()
    assert find_latest("saved", config["model"], "tiny") == begun
    old = begun.rename(begun.with_name(f"{config['model']}-Nov-26-2026_01-20-00.latest.pth"))  # without the dataset
    assert find_latest("saved", config["model"], "tiny") == old


@pytest.mark.slow
def test_of_several_trainings_the_one_of_this_configuration_is_resumed(tiny):
    begun = []
    for seed in (1, 2, 3):
        with pytest.raises(Interrupted):
            train(config_of(tiny, "one cycle", seed=seed), signal_at=3)
        begun.append(next(file for file in Path("saved").glob("*.latest.pth") if file not in begun))
        os.utime(begun[-1], (seed, seed))
    for seed, file in ((1, begun[0]), (2, begun[1]), (4, begun[2])):
        given = plain(config_of(tiny, "one cycle", seed=seed).final_config_dict)
        assert find_latest("saved", "2Mamba4Rec", "tiny", given) == file
    assert find_latest("saved", "2Mamba4Rec", "tiny") == begun[2]


def test_a_training_of_an_earlier_version_lacks_keys_and_not_their_defaults(tiny):
    now = plain(config_of(tiny, "one cycle", defaults="paper", time_order="recbole").final_config_dict)
    later = ("cuda_graph", "defaults", "memory_power", "time_order", "time_budget")
    assert all(key in now for key in later)
    before = {key: value for key, value in now.items() if key not in later}
    assert not differences(before, now)
    assert list(differences(before, now | {"defaults": "data", "cuda_graph": True})) == ["defaults", "cuda_graph"]
    assert list(differences(before, now | {"memory_power": 0.7, "time_order": "exact"})) == [
        "memory_power",
        "time_order",
    ]


@pytest.mark.slow
def test_a_finished_training_is_not_trained_again(tiny, caplog):
    caplog.set_level("INFO")
    config = config_of(tiny, "one cycle")
    trainer, test, _ = train(config)
    expected = outcome(trainer, test)
    again, test, calls = train(config, trainer.latest_file)
    assert calls == 0
    assert "is loaded: the training has ended" in caplog.text
    assert again.history == trainer.history
    assert dict(again.evaluate(test)) == expected["test"]


@pytest.mark.slow
def test_early_stopping_is_remembered(tiny):
    config = config_of(tiny, "one cycle", epochs=30, stopping_step=2)
    trainer, _, _ = train(config)
    assert len(trainer.history) < 30
    _, _, calls = train(config, trainer.latest_file)
    assert calls == 0


def test_a_disk_that_is_full_in_the_midst_of_a_training(tiny, monkeypatch):
    """Nothing of it is lost, and what goes on is said."""
    write, left = checkpoint.write, iter(range(4))

    def until_full(*args):
        if next(left, None) is None:
            raise CheckpointNotWritten("full")
        write(*args)

    monkeypatch.setattr(checkpoint, "write", until_full)
    with pytest.raises(CheckpointNotWritten, match=r"^full\. .*latest\.pth keeps the training: .* --resume goes on"):
        train(config_of(tiny, "one cycle"))
    left = iter(())
    with pytest.raises(CheckpointNotWritten, match=r"^full$"):
        train(config_of(tiny, "one cycle"))


@pytest.mark.slow
def test_more_epochs_than_the_training_had(tiny, caplog):
    caplog.set_level("INFO")
    name = "negatives"
    trainer, test, _ = train(config_of(tiny, name))
    expected = outcome(trainer, test)
    short, _, _ = train(config_of(tiny, name, epochs=2))
    found, test, _ = train(config_of(tiny, name), short.latest_file)
    assert "is loaded: the training goes on with epoch 3" in caplog.text
    assert outcome(found, test) == expected


@pytest.mark.slow
def test_what_recbole_saved_is_resumed_if_it_is_trusted(tiny):
    """Its weights, its optimiser and its epoch; it keeps no more."""
    name = "RecBole's, negatives"
    config = config_of(tiny, name)
    _, (data, valid, _) = make_loaders(config)
    theirs = recbole.trainer.Trainer(config, config.model_class(config, data._dataset))
    theirs.epochs = 2
    theirs.fit(data, valid, verbose=False)
    theirs._save_checkpoint(1, verbose=False)
    with pytest.raises(CheckpointError, match="--trust_checkpoint"):
        train(config, theirs.saved_model_file)
    _, ours, _ = make_trainer(config_of(tiny, name, trust_checkpoint=True))
    ours.resume_checkpoint(theirs.saved_model_file)
    assert ours.start_epoch == 2
    assert checksum(ours.model.state_dict()) == checksum(theirs.model.state_dict())
    assert checksum(ours.optimizer.state_dict()) == checksum(theirs.optimizer.state_dict())


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"learning_rate": 0.02}, ["learning_rate 0.01 (now 0.02)", "--resume"]),
        ({"hidden_size": 12, "headdim": 6}, ["hidden_size 8 (now 12)", "headdim"]),
        ({"epochs": 9}, ["epochs"]),
    ],
    ids=str,
)
def test_another_configuration_is_refused(tiny, keys, words):
    with pytest.raises(Interrupted):
        train(config_of(tiny, "one cycle"), signal_at=7)
    model, more = TRAININGS["one cycle"]
    options = {"data_path": str(tiny), "use_gpu": False, "show_progress": False, "epochs": EPOCHS, "stopping_step": 20}
    with pytest.raises(CheckpointError) as error:
        run(
            model,
            "tiny",
            config_dict={**options, "learning_rate": 0.01, **small(model), **more, **keys},
            resume=True,
        )
    assert all(word in str(error.value) for word in words)


@pytest.mark.slow
def test_other_data_and_other_models_are_refused(tiny, tmp_path):
    trainer, _, _ = train(config_of(tiny, "one cycle"))
    write_dataset(tmp_path, interactions(seed=5))
    with pytest.raises(CheckpointError, match="other data"):
        train(config_of(tmp_path, "one cycle"), trainer.latest_file)
    with pytest.raises(CheckpointError, match="of 2Mamba4Rec, not of SASRec"):
        train(config_of(tiny, "RecBole's, negatives"), trainer.latest_file)
    with pytest.raises(CheckpointError, match="another size"):
        train(config_of(tiny, "one cycle", hidden_size=16), trainer.latest_file)


@pytest.mark.slow
def test_trainings_that_begin_in_the_same_second_share_no_files(tiny, monkeypatch):
    """Made before either has written anything, as in two processes; RecBole names both alike."""
    monkeypatch.setattr("recbole.trainer.trainer.get_local_time", lambda: "now")
    pairs = [make_trainer(config_of(tiny, "one cycle", epochs=1, seed=seed))[1:] for seed in (1, 2)]
    Path("saved/2Mamba4Rec-tiny-now-1.latest.pth").touch()  # that of a third process, which has only just begun
    for trainer, (train_data, valid, _) in pairs:
        trainer.fit(train_data, valid, show_progress=False, verbose=False)
    files = [Path(trainer.saved_model_file).name for trainer, _ in pairs]
    assert files == ["2Mamba4Rec-tiny-now.pth", "2Mamba4Rec-tiny-now-2.pth"]
    for trainer, _ in pairs:
        kept = checkpoint.read(trainer.saved_model_file)
        assert kept["config"]["seed"] == trainer.config["seed"]


def command(folder, *more) -> list[str]:
    """Arguments of a training on the tiny dataset."""
    keys = {**small("2Mamba4Rec"), "epochs": 4, "learning_rate": 0.01, "train_batch_tokens": 40}
    keys |= {"data_path": folder, "use_gpu": False, "show_progress": False}
    given = [f"--{key}={value}" for key, value in keys.items()]
    return ["--model=2Mamba4Rec", "--dataset=tiny", "--lr_schedule=one_cycle", *given, *more]


def best_model() -> str:
    """Checksum of the only model in ``saved``."""
    (file,) = Path("saved").glob("*.pth")
    state = checkpoint.read(file)
    return checksum([state["epoch"], state["state_dict"]])


@pytest.mark.slow
def test_resume_on_the_command_line(tiny, capfd, caplog):
    """Without anything to resume the training begins; what was interrupted goes on; what is done leaves no traces."""
    assert main(command(tiny, "--resume")) == 0
    assert "holds nothing to resume" in caplog.text
    expected = best_model()
    for file in Path("saved").iterdir():
        file.unlink()
    assert main(command(tiny, "--resume=nowhere.pth")) == 2
    assert "there is no checkpoint nowhere.pth" in capfd.readouterr().err

    original = recbole.trainer.Trainer._valid_epoch

    def interrupt(self, *arguments, **keys):
        if len(self.history) == 2:
            signal.raise_signal(signal.SIGINT)
        return original(self, *arguments, **keys)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recbole.trainer.Trainer, "_valid_epoch", interrupt)
        assert main(command(tiny)) == 128 + signal.SIGINT
    assert "--resume" in capfd.readouterr().err
    assert len(list(Path("saved").iterdir())) == 2
    assert main(command(tiny, "--resume")) == 0
    assert best_model() == expected


@pytest.mark.slow
def test_ctrl_c_in_the_test_says_how_it_goes_on(tiny, capfd):
    """The training is over then, and only its result is missing."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("recbole_ssm.training.run.log_summary", interrupted)
        assert main(command(tiny)) == 130
    assert re.search(r"interrupted; .*latest\.pth keeps the training .* --resume goes on", capfd.readouterr().err)
    assert main(command(tiny, "--resume")) == 0
    assert not list(Path("saved").glob("*.latest.pth"))


KILLS = 8


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9")
@pytest.mark.slow
def test_kills_at_random_moments(tiny, tmp_path, monkeypatch):
    """kill -9 at any time, also while a checkpoint is being written: the training ends with the same model."""

    def start(folder, slow):
        folder.mkdir(exist_ok=True)
        monkeypatch.chdir(folder)
        return processes.process(processes.train_slowly_saved, command(tiny, "--resume", "--state=ERROR"), slow)

    processes.process(time.perf_counter).join()  # has the server import all that the others then find imported
    undisturbed = start(tmp_path / "undisturbed", False)
    begin = time.perf_counter()
    undisturbed.join()
    whole = time.perf_counter() - begin
    assert undisturbed.exitcode == 0
    dice, kills = random.Random(0), 0
    process = None
    for _ in range(400):
        process = start(tmp_path / "killed", True)
        if kills < KILLS:
            process.join(dice.uniform(0.3, 0.9) * whole)
            if process.is_alive():
                process.kill()
                kills += 1
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL)
        if process.exitcode == 0 and kills >= KILLS:
            break
    assert kills == KILLS
    assert process.exitcode == 0
    models = []
    for folder in ("undisturbed", "killed"):
        os.chdir(tmp_path / folder)
        newest = max(Path("saved").glob("*.pth"), key=lambda file: file.stat().st_mtime)
        state = checkpoint.read(newest)
        models.append(checksum([state["epoch"], state["state_dict"]]))
    assert models[0] == models[1]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("content", [b"half of a file", b"PK\x03\x04", None], ids=["words", "archive", "cut off"])
def test_a_damaged_file_does_not_keep_a_good_training_from_going_on(tiny, caplog, content):
    """Of another dataset or of this one, newer than the good one; it is named, and stays as it is."""
    with pytest.raises(Interrupted):
        train(config_of(tiny, "one cycle"), signal_at=7)
    good = find_latest("saved", "2Mamba4Rec", "tiny")
    content = content or good.read_bytes()[:-100]
    for name in ("2Mamba4Rec-zz.latest.pth", "2Mamba4Rec-another.latest.pth"):
        Path("saved", name).write_bytes(content)
        os.utime(Path("saved", name), (good.stat().st_mtime + 100,) * 2)
    assert find_latest("saved", "2Mamba4Rec", "tiny") == good
    assert "2Mamba4Rec-zz.latest.pth cannot be read" in caplog.text and "passed over" in caplog.text
    assert find_latest("saved", "2Mamba4Rec", "other") is None
    assert Path("saved", name).read_bytes() == content
