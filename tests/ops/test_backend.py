"""The choice of a backend, and the C library's forms for other machines than this one."""

from dataclasses import replace
from importlib import import_module
from pkgutil import walk_packages
from threading import Thread
from types import ModuleType

import pytest
import scan_contract as contract
import torch
from packed_cases import borders, compiled, randn, relative_error
from scan_contract import SelectiveScanCase, SsdCase

from recbole_ssm import ops
from recbole_ssm.ops import causal_conv1d, use_backend
from recbole_ssm.ops.backends import OPS, Backend, Kernel, backend_names, backends_of, check_backend, choose
from recbole_ssm.ops.backends.native import loading
from recbole_ssm.ops.backends.native.loading import library
from recbole_ssm.ops.convolution.reference import depthwise_conv1d

needs_library = pytest.mark.skipif(not compiled(torch.float32), reason="the C library is not built")


def test_a_backend_holds_for_the_block_alone():
    example = torch.empty(0)
    before = choose("ssd", example)
    with use_backend("torch"):
        assert choose("ssd", example) == "torch"
        with use_backend("auto"):
            assert choose("ssd", example) == before
        assert choose("ssd", example) == "torch"
    assert choose("ssd", example) == before


def test_a_backend_is_left_when_the_block_fails():
    before = choose("ssd", torch.empty(0))
    with pytest.raises(RuntimeError, match="inside"), use_backend("torch"):
        raise RuntimeError("inside")
    assert choose("ssd", torch.empty(0)) == before


@pytest.mark.parametrize(("name", "message"), [("cuda", "one of auto, torch, native, mamba_ssm, triton, not 'cuda'")])
def test_an_unknown_backend_is_refused(name, message):
    with pytest.raises(ValueError, match=message), use_backend(name):
        pass


def test_an_unknown_op_is_refused():
    with pytest.raises(ValueError, match="op is one of"):
        choose("sorting", torch.empty(0))


def test_a_backend_that_is_not_installed_is_refused(monkeypatch):
    monkeypatch.setattr("recbole_ssm.ops.backends.native.loading.library", lambda: None)
    with pytest.raises(ValueError, match="no C compiler was found"), use_backend("native"):
        pass


def test_what_a_backend_does_not_take_runs_in_pytorch():
    assert choose("ssd", torch.empty(0, dtype=torch.float64)) == "torch"
    assert choose("ssd", torch.empty(0, device="meta")) == "torch"


def test_backends_are_described():
    with use_backend("torch"):
        assert backends_of(torch.device("cpu")) == dict.fromkeys(OPS, "torch")
    numbers = Backend("numbers", {"linear_recurrence": Kernel(print)}, takes=lambda tensor: tensor.is_complex())
    with use_backend(numbers):
        assert backends_of(torch.device("cpu"))["linear_recurrence"] == "numbers"


def test_no_function_shadows_a_module():
    """``recbole_ssm.ops.x.y`` is the module wherever there is one, and never a function of the same name."""
    for module in walk_packages(ops.__path__, "recbole_ssm.ops."):
        package, name = module.name.rsplit(".", 1)
        if "triton." not in module.name:  # which may be missing
            found = getattr(import_module(package), name, None)
            assert found is None or isinstance(found, ModuleType), module.name


def test_a_backend_holds_in_its_thread_alone():
    found = []
    with use_backend("torch"):
        other = Thread(target=lambda: found.append(choose("ssd", torch.empty(0))))
        other.start()
        other.join()
        assert choose("ssd", torch.empty(0)) == "torch"
    assert found == [choose("ssd", torch.empty(0))]


LOUD = Backend("loud", {"dropout": Kernel(lambda x, p: 3 * x)}, takes=lambda tensor: tensor.dtype == torch.float64)


def test_a_backend_may_be_given_as_an_object():
    x = torch.ones(2, dtype=torch.float64)
    with use_backend(LOUD):
        assert torch.equal(ops.dropout(x, 0.5), 3 * x)
        assert choose("dropout", x.float()) == choose("ssd", x) == "torch"


def test_a_backend_that_is_missing_something_is_refused_with_what_to_do():
    with (
        pytest.raises(ValueError, match="backend loud is not there: buy a horn, or use auto"),
        use_backend(replace(LOUD, missing=lambda: "buy a horn")),
    ):
        pass


@pytest.mark.parametrize(("name", "op", "message"), [("auto", "ssd", "auto is not the name"), ("x", "so", "op is one")])
def test_a_backend_that_cannot_be_is_refused(name, op, message):
    with pytest.raises(ValueError, match=message):
        Backend(name, {op: Kernel(max)}, takes=bool)


def test_other_packages_bring_backends(tmp_path, monkeypatch):
    """By an entry point, as an installed package has it; they are used where they are named."""
    (tmp_path / "horn.py").write_text(
        "from recbole_ssm.ops.backends import Backend, Kernel\n"
        "HORN = Backend('horn', {'dropout': Kernel(lambda x, p: 2 * x)}, takes=lambda tensor: True)\n"
    )
    info = tmp_path / "horn-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: horn\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[recbole_ssm.backends]\nhorn = horn:HORN\nother = horn:HORN\nlost = horn:LOST\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert {"horn", "other"} <= set(backend_names())
    x = torch.ones(2)
    with use_backend("horn"):
        assert torch.equal(ops.dropout(x, 0.5), 2 * x)
    assert choose("dropout", x) != "horn"
    with pytest.raises(ValueError, match=r"the entry point other of .* must be a Backend of this name"):
        check_backend("other")
    with pytest.raises(ValueError, match=r"the backend lost .* cannot be imported: .*LOST"):
        check_backend("lost")


@pytest.fixture(params=["any", "AVX2", "AVX-512"])
def machine(request):
    """The C library as a machine of each kind runs it."""
    kind = ["any", "AVX2", "AVX-512"].index(request.param)
    if library().recbole_ssm_use(kind) != kind:
        library().recbole_ssm_use(2)
        pytest.skip(f"this machine has no {request.param}")
    with use_backend("native"):
        yield request.param
    library().recbole_ssm_use(2)


@pytest.mark.slow
@needs_library
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("headdim", [1, 3, 4, 32])
def test_ssd_on_every_machine(machine, headdim, reverse):
    case = SsdCase((7, 1, 70, 9), d_state=21, groups=2, heads_per_group=3, headdim=headdim, reverse=reverse)
    contract.check_recurrence(case, torch.float32)
    contract.check_recurrence_without_states(case, torch.float32)


@pytest.mark.sampled(3)
@needs_library
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("channels", [1, 19, 64])
def test_selective_scan_on_every_machine(machine, channels, reverse):
    contract.check_recurrence(
        SelectiveScanCase((7, 1, 70, 9), channels=channels, d_state=5, reverse=reverse), torch.float32
    )


@pytest.mark.sampled(5)
@needs_library
@pytest.mark.parametrize("channels", [1, 19, 96])
@pytest.mark.parametrize("width", [1, 4, 5, 7])
def test_convolution_on_every_machine(machine, channels, width):
    lengths = (1, 3, 40)
    inputs = randn(sum(lengths), channels), randn(channels, width, seed=1), randn(channels, seed=2)
    expected = torch.nn.functional.silu(depthwise_conv1d(*inputs, borders(lengths), ahead=0))
    found = causal_conv1d(*(tensor.float() for tensor in inputs), borders(lengths))
    assert relative_error(found, expected) < 1e-6


@needs_library
def test_a_library_of_other_sources_is_told_of_and_not_used(monkeypatch, caplog):
    """As after git pull in a checkout, where nothing is built anew."""
    monkeypatch.setattr(loading, "_INTERFACE", 0)
    monkeypatch.setattr(loading, "_found", loading._found.__wrapped__)
    assert loading.library() is None
    assert "install the package again" in caplog.text
    with pytest.raises(ValueError, match="built from other sources of this package"):
        check_backend("native")
