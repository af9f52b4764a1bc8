"""On a GPU the host does not wait for numbers: a training step runs on tensors that have none, torch's ``meta``.

There what reads a value, or has a size that depends on values, raises. Triton's kernels are not run, but all around
them is.
"""

from dataclasses import replace
from importlib import import_module
from pkgutil import iter_modules

import pytest
import torch
from model_cases import BIDIRECTIONAL, CAUSAL, MODELS, make, packed_batch, some_tokens
from recbole.data.interaction import Interaction

from recbole_ssm.data.collate import cut_histories
from recbole_ssm.ops import Added, Teacher, linear_cross_entropy, use_backend
from recbole_ssm.ops.backends import triton
from recbole_ssm.ops.backends.triton.backend import TRITON
from recbole_ssm.ops.packing import RowItems, check_ids, check_shapes, cut_borders, gather_ranges
from recbole_ssm.ops.values import remember_total

pytestmark = pytest.mark.slow


class NotRun:
    """In place of a kernel."""

    def __getitem__(self, grid):
        return lambda *arguments, **options: None


def everywhere(kernel):
    """A kernel's op on any device."""
    return replace(kernel, takes=lambda tensor: True)


@pytest.fixture
def on_a_gpu(monkeypatch):
    """The backend of a GPU for tensors without values."""
    if TRITON.missing() is not None:
        pytest.skip(TRITON.missing())
    from triton.runtime.jit import JITFunction

    for module in iter_modules(triton.__path__):
        module = import_module(f"{triton.__name__}.{module.name}")
        for name, value in vars(module).items():
            if isinstance(value, JITFunction):
                monkeypatch.setattr(module, name, NotRun())
    kernels = {op: everywhere(kernel) for op, kernel in TRITON.kernels.items()}
    with use_backend(replace(TRITON, kernels=kernels)):
        yield


def without_values(batch):
    return Interaction({name: values.to("meta") for name, values in batch.interaction.items()})


def step(name, batch):
    """Forward, loss and backward."""
    model = make(name, torch.float32).train().to("meta")
    model.calculate_loss(without_values(batch)).backward()
    assert all(each.grad is not None for each in model.parameters())


@pytest.mark.parametrize("name", MODELS)
def test_a_step_of_any_model(on_a_gpu, name):
    step(name, packed_batch())


@pytest.mark.parametrize("name", CAUSAL)
def test_a_step_with_a_target_for_each_token(on_a_gpu, name):
    batch = packed_batch()
    step(name, Interaction(batch.interaction | {"item_id": some_tokens(len(batch["seq_idx"]))}))


@pytest.mark.parametrize("name", BIDIRECTIONAL)
def test_a_step_with_cut_histories(on_a_gpu, name):
    batch = packed_batch()
    batch.interaction["item_id"] = some_tokens(len(batch["seq_idx"]))
    step(name, cut_histories(batch, torch.tensor([2, 1, 20, 3]), "item_id"))


def test_the_loss_in_pytorch_alone():
    """Where the GPU has no Triton; but for additions."""
    hidden, weight, bias = (torch.zeros(*size, device="meta", requires_grad=True) for size in ((9, 4), (7, 4), (7,)))
    teacher = Teacher(hidden, weight)
    target = torch.zeros(9, dtype=torch.int64, device="meta")
    linear_cross_entropy(hidden, weight, target, bias=bias, teacher=teacher).backward()


@pytest.mark.parametrize(
    "check",
    [
        lambda: check_shapes(torch.tensor([0, 3, 2, 5]), 5),
        lambda: check_shapes(torch.tensor([1, 5]), 5),
        lambda: check_shapes(torch.tensor([0, 4]), 5),
        lambda: check_ids("ids", torch.tensor([2, -1]), 0, 3),
        lambda: check_ids("ids", torch.tensor([2, 3]), 0, 3),
        lambda: linear_cross_entropy(torch.zeros(2, 1), torch.zeros(3, 1), torch.tensor([0, 3])),
        *(
            lambda item=item, ends=ends: linear_cross_entropy(
                torch.zeros(1, 1),
                torch.zeros(3, 1),
                torch.tensor([0]),
                added=[
                    Added(RowItems(torch.tensor([item]), *(torch.tensor([[each]]) for each in ends)), torch.zeros(1, 1))
                ],
            )
            for item, *ends in ((3, 0, 1), (2, -1, 1), (2, 0, 2))
        ),
    ],
)
def test_the_device_asserts_what_the_host_does_not_read(monkeypatch, check):
    for module in ("packing", "added"):
        monkeypatch.setattr(f"recbole_ssm.ops.{module}.on_host", lambda tensor: False)
    with pytest.raises(RuntimeError, match=r"must|added has"):
        check()


def asserted(monkeypatch, run):
    """What the device is asked to assert, and whether it holds."""
    for module in ("ops.packing", "ops.added", "model.packed_input"):
        monkeypatch.setattr(f"recbole_ssm.{module}.on_host", lambda tensor: False)
    found = []
    monkeypatch.setattr(torch, "_assert_async", lambda holds, message: found.append((message, bool(holds))))
    run()
    return found


def test_an_op_that_is_called_alone_checks_each_time(monkeypatch):
    cu_seqlens = torch.tensor([0, 2, 5])

    def calls():
        for n_tokens in (5, 5, 6):
            check_shapes(cu_seqlens, n_tokens)

    assert [holds for _, holds in asserted(monkeypatch, calls)] == [True, True, False]


@pytest.mark.parametrize("name", ["2Mamba4Rec, biases", "SSD4Rec", "Hydra4Rec", "PackedSASRec"])
def test_a_batch_is_checked_once_whatever_the_number_of_layers(monkeypatch, name):
    """Borders, items, empty histories and targets; two steps check twice."""
    model, batch = make(name, torch.float32, num_layers=3).train(), packed_batch()
    found = asserted(monkeypatch, lambda: [model.calculate_loss(batch) for _ in range(2)])
    assert all(holds for _, holds in found)
    assert [message for message, _ in found[:4]] == [message for message, _ in found[4:]]
    assert len({message for message, _ in found}) == 4


def test_totals_that_are_known_are_used(monkeypatch):
    """With the same results."""
    cu_seqlens, cut = torch.tensor([0, 4, 5, 8]), torch.tensor([2, 1, 3])
    expected = cut_borders(cu_seqlens, 8, cut), *gather_ranges(cu_seqlens[:-1], cut)
    monkeypatch.setattr("recbole_ssm.ops.values.on_host", lambda tensor: False)
    remember_total(cut, 6)
    monkeypatch.setattr(torch.Tensor, "nonzero", None)
    monkeypatch.setattr(torch.Tensor, "__int__", None)
    actual = cut_borders(cu_seqlens, 8, cut), *gather_ranges(cu_seqlens[:-1], cut)
    for found, wanted in zip(actual, expected, strict=True):
        assert torch.equal(found, wanted)
        assert found.dtype == wanted.dtype
