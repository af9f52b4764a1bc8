"""Batches that are packed or kept on a device. The device is the CPU here: only the pinned memory is left out."""

import pytest
import torch
from atomic import make_config, make_loaders
from recbole.data.interaction import Interaction
from torch._subclasses.fake_tensor import FakeTensorMode

from recbole_ssm.data import blocks
from recbole_ssm.data.shares import SHARE
from recbole_ssm.data.transfer import KeptBatches, moved, on_device

CPU = torch.device("cpu")
META = torch.device("meta")


def test_tensors_of_all_kinds_arrive_as_they_were():
    tensors = [
        torch.arange(5),
        torch.tensor([True, False, True]),
        torch.empty(0, 3, dtype=torch.float64),
        torch.randn(3, 4).T,
        torch.tensor(2.5, dtype=torch.float16),
        torch.arange(7, dtype=torch.int32),
    ]
    there = moved(tensors, CPU)
    assert all(torch.equal(one, other) and one.dtype == other.dtype for one, other in zip(there, tensors, strict=True))
    assert all(each.data_ptr() % 16 == there[0].data_ptr() % 16 for each in there if each.numel())


def test_a_batch_moves_but_for_the_share_that_the_host_reads():
    batch = Interaction({"item_id": torch.arange(4), SHARE: torch.ones(1), "there": torch.ones(4, device=META)})
    batch.length = 1
    found = on_device(batch, META)
    assert list(found.interaction) == list(batch.interaction)
    assert [found[name].device.type for name in found] == ["meta", "cpu", "meta"]
    assert len(found) == 1
    assert on_device(found, META) is found


@pytest.fixture
def two_gpus(monkeypatch):
    """Tensors that have a device and no values; the second GPU is the current one."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    with FakeTensorMode():
        yield


def test_a_batch_of_another_gpu_moves(two_gpus):
    first, second = (torch.ones(4, device=f"cuda:{number}") for number in range(2))
    found = on_device(Interaction({"item_id": first, "there": second}), torch.device("cuda:1"))
    assert [found[name].device.index for name in found] == [1, 1]
    assert found["there"] is second


def test_a_gpu_without_a_number_is_the_current_one(two_gpus):
    first, second = (Interaction({"item_id": torch.ones(4, device=f"cuda:{number}")}) for number in range(2))
    assert on_device(second, torch.device("cuda")) is second
    assert on_device(first, torch.device("cuda"))["item_id"].device.index == 1


LOADED = {
    "prefixes, masked": {"train_samples": "sampled_prefixes", "prefixes_per_user": 3, "mask_ratio": 0.3},
    "whole sequences": {"train_samples": "whole_sequence"},
    "cut histories": {"model": "SSD4Rec", "train_samples": "prefix_lm", "causal_epochs": 1, "mask_ratio": 0.0},
    "in other processes": {"train_samples": "whole_sequence", "worker": 1},
}


@pytest.mark.sampled(5)
@pytest.mark.parametrize("tokens_of_a_block", [1, 200, 10**6])
@pytest.mark.parametrize("keys", LOADED.values(), ids=LOADED)
def test_batches_that_are_packed_on_a_device_are_those_of_the_cpu(tiny, keys, tokens_of_a_block, monkeypatch):
    monkeypatch.setattr(blocks, "_TOKENS", tokens_of_a_block)
    config = make_config(tiny, train_batch_tokens=60, epochs=2, **keys)
    _, (loader, _, _) = make_loaders(config)
    _, (other, _, _) = make_loaders(config)
    other._there = other._dataset.with_history_on(CPU)
    for _ in range(2):  # the second epoch of prefix_lm has cuts
        batches, others = list(loader), list(other)
        assert len(batches) == len(others) > 1
        for batch, there in zip(batches, others, strict=True):
            assert set(batch.columns) == set(there.columns)
            assert all(torch.equal(batch[name], there[name]) for name in batch)
            assert len(batch) == len(there)


@pytest.mark.parametrize("name", ["whole sequences", "cut histories"])
def test_nothing_is_read_of_a_device_to_pack_batches(tiny, name):
    """A tensor of the device meta has no values: reading one is an error."""
    keys = {"train_batch_tokens": 60, "epochs": 2, **LOADED[name]}
    _, (loader, _, _) = make_loaders(make_config(tiny, **keys))
    shapes = [{field: values.shape for field, values in batch.interaction.items()} for batch in loader]
    loader._batches.set_epoch(0)
    loader._device, loader._there = META, loader._dataset.with_history_on(META)
    batches = list(loader)
    assert [{field: values.shape for field, values in batch.interaction.items()} for batch in batches] == shapes
    assert all(values.device == META for batch in batches for values in batch.interaction.values())
    assert loader._batches.epoch == 1


@pytest.mark.parametrize("keys", [{}, {"filter_seen": True}], ids=str)
def test_batches_of_an_evaluation_are_collated_once(tiny, keys):
    _, (_, valid, _) = make_loaders(make_config(tiny, eval_batch_size=8, **keys))
    plain, kept, times = list(valid), KeptBatches(CPU, 10**6), []

    def batches():
        times.append(len(times))
        return iter(plain)

    for _ in range(3):
        for batch, other in zip(plain, kept.of(batches), strict=True):
            assert all(torch.equal(batch[0][name], other[0][name]) for name in batch[0])
            assert (batch[1] is None) == (other[1] is None) == (not keys)
            for one, same in zip((*(batch[1] or ()), *batch[2:]), (*(other[1] or ()), *other[2:]), strict=True):
                assert torch.equal(one, same)
    assert times == [0]


def test_batches_that_are_too_large_or_not_read_to_the_end_are_not_kept(tiny):
    _, (_, valid, _) = make_loaders(make_config(tiny, eval_batch_size=8))
    plain = list(valid)
    small = KeptBatches(CPU, 1000)
    assert [len(list(small.of(lambda: iter(plain)))) for _ in range(2)] == [len(plain)] * 2
    assert small._kept is None
    left = KeptBatches(CPU, 10**6)
    next(left.of(lambda: iter(plain)))
    assert left._kept is None
