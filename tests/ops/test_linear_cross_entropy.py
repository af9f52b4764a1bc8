"""``linear_cross_entropy`` is ``F.cross_entropy`` of the logits, without the matrix of logits."""

import pytest
import torch
import torch.nn.functional as F
from packed_cases import randn, relative_error
from torch.utils._python_dispatch import TorchDispatchMode

from recbole_ssm.ops import Added, Teacher, linear_cross_entropy, use_backend
from recbole_ssm.ops.backends.native.cross_entropy import fits
from recbole_ssm.ops.backends.native.loading import library
from recbole_ssm.ops.packing import RowItems

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
SIZES = [(1, 2), (7, 2), (50, 3), (64, 100), (1, 5000), (73, 64), (300, 5000), (450, 5000)]
"""Rows and classes; the last ones are more rows than a block holds."""

compiled = pytest.mark.skipif(library() is None, reason="the C library is not built")


@pytest.fixture(params=["torch", pytest.param("native", marks=compiled)], autouse=True)
def backend(request):
    with use_backend(request.param):
        yield request.param


both_types = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])


def inputs_of(rows, classes, dtype=torch.float64, width=6, ignored=0.3, ignore_index=-100):
    """Random hidden, weight and target, of which about a share is ignored, but not the first."""
    target = torch.randint(0, classes, (rows,), generator=torch.Generator().manual_seed(rows))
    target[1:][torch.rand(rows - 1, generator=torch.Generator().manual_seed(1)) < ignored] = ignore_index
    return randn(rows, width, seed=1).to(dtype), randn(classes, width, seed=2).to(dtype), target


@pytest.mark.parametrize(
    "other",
    [
        {"target": torch.zeros(3, dtype=torch.int64)},
        {"weight": torch.zeros(20, 5)},
        {"bias": torch.zeros(4)},
        {"added": [Added(RowItems(*torch.zeros(3, 2, 1, dtype=torch.int64)), torch.zeros(7, 1))]},
        {"added": [Added(RowItems(*torch.zeros(3, 7, 1, dtype=torch.int64)), torch.zeros(7, 2))]},
    ],
    ids=lambda other: next(iter(other)),
)
def test_shapes_that_do_not_fit_are_refused(other):
    given = {"hidden": torch.zeros(7, 6), "weight": torch.zeros(20, 6), "target": torch.zeros(7, dtype=torch.int64)}
    with pytest.raises(ValueError, match="must have shape"):
        linear_cross_entropy(**given | other)


def test_targets_may_be_of_another_integer_type():
    hidden, weight, target = inputs_of(50, 30, torch.float32)
    assert linear_cross_entropy(hidden, weight, target.int()) == linear_cross_entropy(hidden, weight, target)


def test_the_sums_of_many_threads_are_not_too_large(monkeypatch):
    table = torch.empty(1 << 16, 64)  # 16 MiB
    monkeypatch.setattr("recbole_ssm.ops.backends.native.cross_entropy.threads_for_rows", lambda rows: rows // 64)
    assert [fits(torch.empty(rows, 64), table) for rows in (64, 512, 1024)] == [True, True, False]


def direct(hidden, weight, target, **options):
    """The loss by way of the logits."""
    return F.cross_entropy(hidden @ weight.T, target, **options)


def evaluate(function, hidden, weight, target, upstream=1.0, **options):
    """Loss, gradient of hidden and gradient of weight."""
    hidden, weight = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
    loss = function(hidden, weight, target, **options)
    (upstream * loss).backward()
    return loss.detach(), hidden.grad, weight.grad


def assert_same_derivatives(loss, expected, found, want):
    """Of a loss and one in float64, by ``found`` and ``want``: the values, and all gradients."""
    loss.backward()
    expected.backward()
    tolerance = TOLERANCE[loss.dtype]
    assert relative_error(loss, expected) < tolerance
    scale = max(leaf.grad.norm() for leaf in want)
    for actual, wanted in zip(found, want, strict=True):
        assert (actual.grad - wanted.grad).norm() < tolerance * max(wanted.grad.norm(), 0.1 * scale)


@pytest.mark.sampled(6)
@both_types
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("rows", "classes"), SIZES)
def test_equals_cross_entropy(rows, classes, reduction, dtype):
    hidden, weight, target = inputs_of(rows, classes, dtype)
    found = evaluate(linear_cross_entropy, hidden, weight, target, reduction=reduction)
    want = evaluate(direct, hidden.double(), weight.double(), target, reduction=reduction)
    for actual, expected in zip(found, want, strict=True):
        assert actual.dtype == dtype
        assert relative_error(actual, expected) < TOLERANCE[dtype]


@pytest.mark.parametrize("ignore_index", [-1, 0, 3])
def test_ignore_index_may_be_any_number(ignore_index):
    """Also that of a class, whose logit still counts for the other rows."""
    hidden, weight, target = inputs_of(40, 7, ignore_index=ignore_index)
    assert (target == ignore_index).any()
    found = evaluate(linear_cross_entropy, hidden, weight, target, ignore_index=ignore_index)
    want = evaluate(direct, hidden, weight, target, ignore_index=ignore_index)
    torch.testing.assert_close(found, want)
    assert not found[1][target == ignore_index].any()


def test_all_rows_ignored():
    """Nothing to sum up, and no mean of it, as in ``F.cross_entropy``."""
    hidden, weight, _ = inputs_of(5, 4)
    target = torch.full((5,), -100)
    total, *gradients = evaluate(linear_cross_entropy, hidden, weight, target, reduction="sum")
    assert total == 0
    assert not any(gradient.any() for gradient in gradients)
    assert linear_cross_entropy(hidden, weight, target).isnan()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("upstream", [-2.5, 0.0, 1024.0])
def test_gradient_from_above_is_not_taken_for_one(upstream):
    hidden, weight, target = inputs_of(300, 5000)
    found = evaluate(linear_cross_entropy, hidden, weight, target, upstream)
    torch.testing.assert_close(found, evaluate(direct, hidden, weight, target, upstream))


@pytest.mark.parametrize("trained", ["hidden", "weight"])
def test_only_one_of_them_is_trained(trained):
    hidden, weight, target = inputs_of(300, 5000)
    want = dict(zip(("loss", "hidden", "weight"), evaluate(direct, hidden, weight, target), strict=True))
    leaf = {"hidden": hidden, "weight": weight}[trained].requires_grad_()
    linear_cross_entropy(hidden, weight, target).backward()
    torch.testing.assert_close(leaf.grad, want[trained])
    assert (weight if trained == "hidden" else hidden).grad is None


def test_tied_weight_gathers_both_gradients():
    """The same tensor as hidden and weight, as an embedding that is looked up and scored against."""
    _, weight, target = inputs_of(9, 9)
    gradients = []
    for function in (linear_cross_entropy, direct):
        leaf = weight.clone().requires_grad_()
        function(leaf.sin(), leaf, target).backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients)


def test_without_gradients():
    hidden, weight, target = inputs_of(300, 5000)
    with torch.no_grad():
        loss = linear_cross_entropy(hidden.requires_grad_(), weight.requires_grad_(), target)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, direct(hidden, weight, target).detach())


@both_types
def test_huge_logits_overflow_nothing(dtype):
    hidden, weight, target = inputs_of(30, 50, dtype)
    found = evaluate(linear_cross_entropy, 1e4 * hidden, weight, target)
    want = evaluate(direct, (1e4 * hidden).double(), weight.double(), target)
    for actual, expected in zip(found, want, strict=True):
        assert relative_error(actual, expected) < (1e-10 if dtype == torch.float64 else 1e-3)


def test_inputs_stay_as_they_are():
    hidden, weight, target = inputs_of(300, 5000)
    kept = [tensor.clone() for tensor in (hidden, weight, target)]
    evaluate(linear_cross_entropy, hidden, weight, target)
    linear_cross_entropy(hidden.requires_grad_(), weight, target).backward()
    assert all(torch.equal(*pair) for pair in zip((hidden, weight, target), kept, strict=True))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_backward_pass_is_the_derivative(reduction):
    hidden, weight, target = inputs_of(5, 4, width=3)
    leaves = (hidden.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradcheck(lambda h, w: linear_cross_entropy(h, w, target, reduction=reduction), leaves)


def test_second_derivative_is_right_or_refused():
    hidden, weight, target = inputs_of(9, 5)
    found = []
    for function in (linear_cross_entropy, direct):
        leaf = hidden.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(function(leaf, weight, target) ** 2, [leaf], create_graph=True)
        try:
            found.extend(torch.autograd.grad((gradient**2).sum(), [leaf]))
        except RuntimeError:
            return
    torch.testing.assert_close(*found)


def random_added(rows, classes, seed=0):
    """Seen items, and two groups of valued ones that share items with these; some of them are none."""
    generator = torch.Generator().manual_seed(rows * classes + seed)
    items = torch.randperm(classes, generator=generator)[:20]
    items[::4] = -1
    start = torch.randint(0, len(items), (rows, 3), generator=generator)
    end = torch.maximum(start, torch.randint(0, len(items) + 1, (rows, 3), generator=generator))
    values = randn(len(items), seed=seed + 7)
    weights = randn(rows, 1, seed=seed + 8), randn(rows, 2, seed=seed + 9)
    return RowItems(items, start[:, :1], end[:, :1]), RowItems(items.int(), start[:, 1:], end[:, 1:], values), *weights


def with_added(logits, seen, memory, by_seen, by_memory):
    """The logits (R, V) and what is added to them, entry by entry."""
    logits = logits + 0 * (by_seen.sum() + by_memory.sum())  # a gradient, also where no row has any
    for row in range(len(logits)):
        for to, weight in ((seen, by_seen), (memory, by_memory)):
            for group in range(weight.shape[1]):
                for place in range(to.start[row, group], to.end[row, group]):
                    if (item := int(to.items[place])) >= 0:
                        value = 1.0 if to.values is None else to.values[place]
                        more = torch.zeros_like(logits)
                        more[row, item] = value
                        logits = logits + more * weight[row, group]
    return logits


@pytest.mark.slow
@both_types
@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (7, 2), (33, 3), (40, 100), (73, 64)])
def test_biases_of_classes_and_additions_to_rows(rows, classes, dtype):
    """Loss and all gradients, against logits that the numbers are added to one by one."""
    hidden, weight, target = inputs_of(rows, classes, dtype)
    seen, memory, *weights = random_added(rows, classes)

    def leaves(dtype):
        given = hidden, weight, randn(classes, seed=3), *weights
        return [tensor.to(dtype).clone().requires_grad_() for tensor in given]

    found, want = leaves(dtype), leaves(torch.float64)
    added = Added(seen, found[3]), Added(memory, found[4])
    loss = linear_cross_entropy(*found[:2], target, bias=found[2], added=added)
    logits = with_added(want[0] @ want[1].T + want[2], seen, memory, *want[3:])
    assert_same_derivatives(loss, F.cross_entropy(logits, target), found, want)
    with torch.no_grad():
        again = linear_cross_entropy(*found[:2], target, bias=found[2], added=added)
    assert relative_error(again, loss.detach()) < TOLERANCE[dtype]


def test_additions_to_more_rows_than_a_block_holds():
    hidden, weight, target = inputs_of(450, 5000)
    seen, memory, *weights = random_added(450, 5000)
    leaves = [hidden, weight, *weights]
    found, want = ([leaf.clone().requires_grad_() for leaf in leaves] for _ in range(2))
    loss = linear_cross_entropy(*found[:2], target, added=[Added(seen, found[2]), Added(memory, found[3])])
    logits = want[0] @ want[1].T
    for to, by in ((seen, want[2]), (memory, want[3])):
        entries = to.of_rows()
        amount = by.flatten()[entries.place] * (1.0 if entries.values is None else entries.values)
        logits = logits.index_put((entries.row, entries.item), amount, accumulate=True)
    assert_same_derivatives(loss, F.cross_entropy(logits, target), found, want)


def test_an_addition_to_no_class_is_refused():
    hidden, weight, target = inputs_of(3, 4, torch.float32)
    to = RowItems(torch.tensor([4]), torch.zeros(3, 1, dtype=torch.int64), torch.ones(3, 1, dtype=torch.int64))
    with pytest.raises(IndexError):
        linear_cross_entropy(hidden, weight, target, added=[Added(to, torch.ones(3, 1))])


@pytest.mark.slow
@both_types
@pytest.mark.parametrize("biases", ["none", "both", "the teacher's"])
@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (7, 2), (33, 3), (40, 100)])
def test_a_teacher_has_a_share_of_the_targets(rows, classes, share, biases, dtype):
    """Loss and all gradients, against ``F.cross_entropy`` of targets that are distributions."""
    hidden, weight, target = inputs_of(rows, classes, dtype)
    taught = randn(rows, 5, seed=4), randn(classes, 5, seed=5)
    own, others = (random_added(rows, classes, seed=seed) for seed in (0, 20))
    by_teacher = () if biases == "none" else tuple(Added(*pair) for pair in zip(others[:2], others[2:], strict=True))

    def leaves(dtype):
        given = [hidden, weight] + [randn(classes, seed=3), *own[2:]] * (biases == "both")
        return [tensor.to(dtype).clone().requires_grad_() for tensor in given]

    found, want = leaves(dtype), leaves(torch.float64)
    teacher = Teacher(*(tensor.to(dtype) for tensor in taught), by_teacher, share)
    options = {}
    if biases == "both":
        added = tuple(Added(*pair) for pair in zip(own[:2], found[3:], strict=True))
        options = {"bias": found[2], "added": added}
    loss = linear_cross_entropy(*found[:2], target, teacher=teacher, **options)
    logits, predicted = want[0] @ want[1].T, taught[0] @ taught[1].T
    for each in by_teacher:
        each.add_to(predicted)
    if biases == "both":
        logits = with_added(logits + want[2], *own[:2], *want[3:])
    counts = target >= 0
    distribution = share * predicted.softmax(1) + (1 - share) * F.one_hot(target.clamp(min=0), classes).double()
    expected = F.cross_entropy(logits[counts], distribution[counts])
    assert_same_derivatives(loss, expected, found, want)
    with torch.no_grad():
        again = linear_cross_entropy(*found[:2], target, teacher=teacher, **options)
    assert relative_error(again, expected) < TOLERANCE[dtype]


def test_a_teacher_fits_into_half_precision():
    """The sum of a row's exponentials is greater than all that it holds."""
    hidden, weight, target = inputs_of(20, 90_000, torch.float32, width=4)
    teacher = Teacher(20 * randn(20, 4, seed=4), randn(90_000, 4, seed=5), share=1.0)
    want = evaluate(linear_cross_entropy, 0.01 * hidden, weight, target, teacher=teacher)
    found = evaluate(linear_cross_entropy, (0.01 * hidden).half(), weight.half(), target, teacher=teacher)
    for actual, expected in zip(found, want, strict=True):
        assert relative_error(actual.float(), expected) < 0.02


@pytest.mark.parametrize(
    ("rows", "items", "width", "share"), [(4, 7, 5, 0.5), (3, 6, 5, 0.5), (3, 7, 4, 0.5), (3, 7, 5, 2)]
)
def test_a_teacher_that_does_not_fit_is_refused(rows, items, width, share):
    with pytest.raises(ValueError, match="a teacher of 3 rows and 7 items"):
        linear_cross_entropy(*inputs_of(3, 7), teacher=Teacher(randn(rows, 5), randn(items, width), share=share))


@compiled
@pytest.mark.parametrize("width", [6, 16, 80])
def test_threads_and_machines_agree(width):
    """The C library's forms for each kind of machine, and shares of rows that are no multiple of anything."""
    hidden, weight, target = inputs_of(233, 333, torch.float32, width)
    want = evaluate(direct, hidden.double(), weight.double(), target)
    teacher = Teacher(randn(233, width, seed=4), randn(333, width, seed=5), share=0.7)
    with use_backend("torch"):
        want_taught = evaluate(linear_cross_entropy, hidden.double(), weight.double(), target, teacher=teacher)
    try:
        for threads, machine in ((1, 2), (3, 2), (2, 1), (1, 0)):
            torch.set_num_threads(threads)  # the fixture torch_for_tests sets it back
            library().recbole_ssm_use(machine)
            with use_backend("native"):
                found = evaluate(linear_cross_entropy, hidden, weight, target)
                taught = evaluate(linear_cross_entropy, hidden, weight, target, teacher=teacher)
            assert all(relative_error(*pair) < 1e-5 for pair in zip(found, want, strict=True))
            assert all(relative_error(*pair) < 1e-5 for pair in zip(taught, want_taught, strict=True))
    finally:
        library().recbole_ssm_use(2)


@pytest.mark.slow
def test_logits_of_all_rows_never_exist_together():
    """No tensor that either pass makes is near the size of rows times classes."""

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple | list) else (result,):
                if isinstance(tensor, torch.Tensor):
                    self.elements = max(self.elements, tensor.numel())
            return result

    rows, classes = 1200, 5000
    hidden, weight, target = inputs_of(rows, classes, torch.float32, width=4)
    with Largest() as largest:
        evaluate(linear_cross_entropy, hidden, weight, target)
    assert 0 < largest.elements < rows * classes / 4


@pytest.mark.parametrize("wrong", [4, 2**31, -1, -7])
def test_a_target_that_is_no_class_is_refused(wrong):
    hidden, weight, target = inputs_of(5, 4, torch.float32)
    target[-1] = wrong
    with pytest.raises(ValueError, match=f"target must be from 0 to 3, but has {wrong}"):
        linear_cross_entropy(hidden, weight, target)


def test_unknown_reduction_is_refused():
    with pytest.raises(ValueError, match="none"):
        linear_cross_entropy(*inputs_of(3, 4), reduction="none")
