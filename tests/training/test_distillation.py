"""``teacher``: a trained model's predictions become targets, and nothing else of it gets into the student."""

import signal

import pytest
import torch
from atomic import interactions, make_config, make_trainer, small, write_dataset

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.config.config import Config
from recbole_ssm.data import create_dataset, data_preparation
from recbole_ssm.errors import CheckpointError, InputError
from recbole_ssm.ops.packing import last_tokens
from recbole_ssm.system.state_file import checksum
from recbole_ssm.training.distillation import load_teachers
from recbole_ssm.training.hooks.stopping import Interrupted
from recbole_ssm.training.run import run

BIASES = {"repeat_bias": True, "item_bias": True, "transition_memory": True, "memory_dropout": 0.0}


def train(folder, model="2Mamba4Rec", **keys) -> dict:
    given = {"data_path": str(folder), "use_gpu": False, "show_progress": False, "epochs": 2, "learning_rate": 0.03}
    of_run = {name: keys.pop(name) for name in ("resume", "after_epoch") if name in keys}
    return run(model, "tiny", config_dict={**given, **small(model), **keys}, **of_run)


def teachers_of(folder, *files, **keys):
    config = make_config(folder, teacher=", ".join(files), **keys)
    return load_teachers(config, data_preparation(config, create_dataset(config, packed=True))[0]._dataset)


def trained(folder, file):
    """The model of a checkpoint, in evaluation mode."""
    state = checkpoint.read(file)
    _, trainer, loaders = make_trainer(make_config(folder, state["config"]["model"], **state["given"]))
    trainer.model.load_state_dict(state["state_dict"])
    return trainer.model.eval(), loaders


def softmax_of(teacher):
    logits = teacher.hidden @ teacher.weight.T
    for added in teacher.added:
        added.add_to(logits)
    return logits.softmax(1)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SSD4Rec", "Hydra4Rec", "LRURec", "PackedSASRec"])
def test_a_teacher_predicts_what_its_model_does(tiny, model):
    file = train(tiny, model, **BIASES)["checkpoint"]
    teacher, (_, valid, _) = trained(tiny, file)
    (batch, *_), *_ = valid
    tokens, cu_seqlens = teacher.packed(batch)
    readout = last_tokens(cu_seqlens)
    found = teachers_of(tiny, file).predict(tokens, cu_seqlens, readout)
    expected = teacher.full_sort_predict(batch).softmax(1).detach()
    torch.testing.assert_close(softmax_of(found), expected)


@pytest.mark.slow
def test_a_teacher_that_reads_in_both_directions_sees_no_target_of_a_causal_student(tiny):
    file = train(tiny, "Hydra4Rec")["checkpoint"]
    teachers = teachers_of(tiny, file)
    _, (_, valid, _) = trained(tiny, file)
    (batch, *_), *_ = valid
    tokens, cu_seqlens = batch["item_id_list"], batch["cu_seqlens"]
    before = teachers.predict(tokens, cu_seqlens, None).hidden
    changed = tokens.clone()
    changed[last_tokens(cu_seqlens)] = tokens[last_tokens(cu_seqlens)] % 30 + 1
    after = teachers.predict(changed, cu_seqlens, None).hidden
    others = torch.ones(len(tokens), dtype=torch.bool).index_fill(0, last_tokens(cu_seqlens), False)
    torch.testing.assert_close(after[others], before[others])
    assert not torch.allclose(after[~others], before[~others])


@pytest.mark.slow
@pytest.mark.parametrize(("model", "keys"), [("Hydra4Rec", {}), ("SSD4Rec", {}), ("SSD4Rec", {"align_backward": True})])
def test_a_teacher_that_reads_in_both_directions_sees_no_target_of_a_student_that_does(tiny, model, keys):
    """What comes after a token of ``readout`` does not change what is predicted there."""
    file = train(tiny, model, **keys)["checkpoint"]
    student, (train_data, *_) = trained(tiny, file)
    asked = []

    class Teachers:
        def predict(self, *arguments, **options):
            asked.append(teachers_of(tiny, file).predict(*arguments, **options))
            return asked[-1]

    student.teachers = Teachers()
    batch = next(iter(train_data))
    assert not torch.equal(batch["cut"], torch.ones_like(batch["cut"]))
    student.calculate_loss(batch)
    place = len(batch["readout"]) // 2
    tokens, later = batch["item_id_list"], int(batch["readout"][place]) + 1
    changed = tokens.clone()
    changed[later:] = tokens[later:] % 30 + 1
    batch["item_id_list"] = changed
    student.calculate_loss(batch)
    before, after = asked[0].hidden, asked[1].hidden
    torch.testing.assert_close(after[: place + 1], before[: place + 1])
    assert not torch.allclose(after[place + 1 :], before[place + 1 :])


@pytest.mark.slow
def test_several_teachers_predict_the_mean_of_their_scores(tiny):
    files = [train(tiny, "2Mamba4Rec", **BIASES)["checkpoint"], train(tiny, "LRURec")["checkpoint"]]
    models = [trained(tiny, file) for file in files]
    (batch, *_), *_ = models[0][1][1]
    tokens, cu_seqlens = models[0][0].packed(batch)
    readout = last_tokens(cu_seqlens)
    found = teachers_of(tiny, *files).predict(tokens, cu_seqlens, readout)
    expected = sum(model.full_sort_predict(batch).detach() for model, _ in models) / 2
    torch.testing.assert_close(softmax_of(found), expected.softmax(1))


@pytest.mark.slow
@pytest.mark.parametrize("train_samples", ["whole_sequence", "all_prefixes"])
def test_a_student_of_nothing_else_comes_to_predict_what_its_teacher_does(tiny, train_samples):
    """With the whole share, on what it was trained on, and without that its targets are looked at."""
    file = train(tiny, epochs=10, **BIASES)["checkpoint"]
    keys = {"epochs": 60, "dropout_prob": 0.0, "teacher_share": 1.0, "train_samples": train_samples, "seed": 5}
    config = make_config(tiny, teacher=file, **BIASES, **{**keys, "learning_rate": 0.02})
    _, trainer, (train_data, valid, _) = make_trainer(config)
    trainer.model.teachers = load_teachers(config, train_data._dataset)
    teacher, _ = trained(tiny, file)

    def divergence():
        trainer.model.eval()
        (batch, *_), *_ = valid
        with torch.no_grad():
            p, q = (model.full_sort_predict(batch).log_softmax(1) for model in (teacher, trainer.model))
        return (p.exp() * (p - q)).sum(1).mean().item()

    before = divergence()
    calculate_loss = trainer.model.calculate_loss

    def without_targets(batch):
        batch["item_id"] = torch.ones_like(batch["item_id"])
        return calculate_loss(batch)

    trainer.model.calculate_loss = without_targets
    trainer.fit(train_data, None, saved=False, show_progress=False, verbose=False)
    assert divergence() < 0.3 * before


@pytest.mark.slow
def test_nothing_of_a_teacher_gets_into_the_student(tiny):
    teacher = train(tiny, seed=1)
    alone, taught = train(tiny), train(tiny, teacher=teacher["checkpoint"])
    untaught = train(tiny, teacher=teacher["checkpoint"], teacher_share=0.0)
    assert taught["parameters"] == alone["parameters"]
    states = [checkpoint.read(result["checkpoint"])["state_dict"] for result in (alone, taught, untaught)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], states[2][key]) for key in states[0])
    assert not all(torch.equal(states[0][key], states[1][key]) for key in states[0])


@pytest.mark.slow
def test_a_stopped_student_goes_on_as_if_nothing_had_been(tiny):
    taught = {"teacher": train(tiny)["checkpoint"], "epochs": 3}
    expected = checkpoint.read(train(tiny, **taught)["checkpoint"])
    with pytest.raises(Interrupted):
        train(tiny, **taught, after_epoch=lambda _: signal.raise_signal(signal.SIGTERM))
    found = checkpoint.read(train(tiny, **taught, resume=True)["checkpoint"])
    assert [len(state["history"]) for state in (found, expected)] == [3, 3]
    assert checksum(found["state_dict"]) == checksum(expected["state_dict"])


@pytest.mark.slow
def test_a_teacher_that_cannot_teach_is_refused_before_training(tiny, tmp_path):
    teacher = train(tiny)["checkpoint"]
    assert Config("2Mamba4Rec", "tiny", config_dict={"teacher": "none.pth"}, trains=False)["teacher"] == "none.pth"
    with pytest.raises(InputError, match=r"teacher: there is no checkpoint none\.pth"):
        train(tiny, teacher="none.pth")
    with pytest.raises(InputError, match="teacher needs loss_type: CE"):
        train(tiny, teacher=teacher, loss_type="BPR")
    with pytest.raises(InputError, match="teacher_share must be a number from 0 to 1"):
        train(tiny, teacher=teacher, teacher_share=2.0)
    write_dataset(tmp_path, interactions(seed=1))
    with pytest.raises(CheckpointError, match="trained on other data"):
        train(tmp_path, teacher=teacher)
    of_recbole = train(tiny, "GRU4Rec")["checkpoint"]
    with pytest.raises(CheckpointError, match="is a GRU4Rec; it must be one of SSD4Rec"):
        train(tiny, teacher=of_recbole)
