"""Two processes do what one would do with the same batches, and none waits for one that is gone."""

import sys
from functools import partial

import pytest
import torch
from atomic import interactions, small, write_dataset
from hypothesis import given
from hypothesis import strategies as st
from processes import CONTEXT
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from two_processes import dying, in_two_processes, results, stopped_at

from recbole_ssm.data.shares import SharedCollate, own_rows
from recbole_ssm.ops.packing import share_out


@given(sizes=st.lists(st.integers(1, 500), min_size=1, max_size=60), parts=st.integers(1, 5))
def test_things_are_dealt_out_evenly(sizes, parts):
    sizes = torch.tensor(sizes)
    owner = share_out(sizes, parts)
    sums = owner.bincount(sizes.double(), minlength=parts)
    assert owner.min() >= 0
    assert owner.max() < parts
    assert sums.max() - sums.min() <= sizes.max()


@given(targets=st.lists(st.integers(1, 9), min_size=1, max_size=20), world_size=st.integers(1, 6))
def test_each_row_is_somebodys_and_the_mean_of_means_is_the_mean(targets, world_size):
    targets = torch.tensor(targets)
    losses = torch.rand(len(targets), dtype=torch.float64)  # mean of each row's targets
    owner = share_out(targets, world_size)
    total, rows = 0.0, []
    for rank in range(world_size):
        mine, share = own_rows(owner, targets, rank, world_size)
        assert len(mine) > 0
        if share > 0:
            rows += mine.tolist()
            total += float(share * (losses * targets)[mine].sum() / targets[mine].sum()) / world_size
    assert sorted(rows) == list(range(len(targets)))
    assert total == pytest.approx(float((losses * targets).sum() / targets.sum()))


def test_rows_of_recboles_batches_are_dealt_out_in_turn():
    parts = [SharedCollate(lambda index: {"rows": index}, rank, 2)([4, 7, 1]) for rank in range(2)]
    assert [part["rows"] for part in parts] == [[4, 1], [7]]
    assert [part["share"].item() for part in parts] == pytest.approx([4 / 3, 2 / 3])


SAMPLED = {"train_samples": "sampled_prefixes", "prefixes_per_user": 8}
RUNS = {
    "whole sequences": (
        "2Mamba4Rec",
        {
            "lr_schedule": "one_cycle",
            "repeat_bias": True,
            "transition_memory": True,
            "memory_dropout": 0.0,
            "train_batch_tokens": 60,
        },
    ),
    "prefixes": ("SSD4Rec", {**SAMPLED, "mask_ratio": 0.0, "train_batch_tokens": 60, "filter_seen": True}),
    "cut histories": ("Hydra4Rec", {"train_samples": "prefix_lm", "train_batch_tokens": 60}),
    "clipped": ("Mamba4Rec", {"clip_grad_norm": {"max_norm": 0.1}, "train_batch_tokens": 60}),
    "RecBole's": ("SASRec", {"attn_dropout_prob": 0.0, "hidden_dropout_prob": 0.0, "train_batch_size": 50}),
}


def trainings(folder, names=tuple(RUNS), **more) -> list:
    keys = {"data_path": str(folder), "use_gpu": False, "show_progress": False, "epochs": 3, "learning_rate": 0.01}
    keys |= {"dropout_prob": 0.0, "eval_batch_size": 7, "metric_decimal_place": 12, "topk": [5, 10]}
    return [[n, RUNS[n][0], {**keys, **small(RUNS[n][0]), **RUNS[n][1], **more}] for n in names]


@pytest.fixture
def folder(tmp_path):
    """With 31 users in batches of 7, the parts of two processes are not alike."""
    write_dataset(tmp_path, interactions(n_users=31))
    return tmp_path


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="gloo")
def test_two_processes_give_what_one_gives(folder):
    """Losses to rounding, metrics to the last digit."""
    one, (two, _) = results(trainings(folder)), in_two_processes(results, trainings(folder))
    assert set(one) == set(two) == set(RUNS)
    for name in RUNS:
        assert two[name]["losses"] == pytest.approx(one[name]["losses"], rel=1e-4), name
        assert two[name]["valid"] == pytest.approx(one[name]["valid"], abs=1e-12), name
        assert two[name]["test"] == pytest.approx(one[name]["test"], abs=1e-12), name
    assert len(list((folder / "saved").glob("*.pth"))) == 2 * len(RUNS)  # the first process alone saves
    assert not list((folder / "saved").glob("*.latest.pth"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="gloo")
def test_one_process_is_told_to_stop_and_both_stop_and_go_on(folder):
    asked = trainings(folder, ["whole sequences"], dropout_prob=0.3)
    expected, _ = in_two_processes(results, asked)
    assert all("--resume" in said for said in in_two_processes(stopped_at, 9, asked))
    resumed, _ = in_two_processes(partial(results, resume=True), asked)
    assert resumed["whole sequences"]["test"] == expected["whole sequences"]["test"]
    assert resumed["whole sequences"]["losses"] == pytest.approx(expected["whole sequences"]["losses"], rel=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="gloo")
def test_a_process_that_dies_ends_the_others(folder, tmp_path):
    """The one that torchrun starts."""
    how = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": "dying", "max_restarts": 0}
    config = LaunchConfig(1, 1, 2, start_method=CONTEXT.get_start_method(), **how)
    with pytest.raises(ChildFailedError) as error:
        elastic_launch(config, dying)(str(tmp_path), 9, trainings(folder, ["whole sequences"]))
    first = error.value.get_first_failure()[1]
    assert first.exitcode == 3 or "Connection" in str(first.message)  # the one that dies, or the one that loses it
