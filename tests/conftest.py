"""Settings of all tests, a small dataset, and the number types and backends that the scans are tested with."""

import os
import signal
from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from atomic import interactions, write_dataset
from hypothesis import HealthCheck, settings

from recbole_ssm.ops import use_backend
from recbole_ssm.testing import unwritten_memory_is_nan

pytest.register_assert_rewrite("packed_cases", "scan_contract")

from packed_cases import compiled  # noqa: E402  (its asserts are to explain themselves)

HANDLERS = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}

settings.register_profile(
    "recbole-ssm",
    deadline=None,
    derandomize=True,
    max_examples=6,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("recbole-ssm")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests of the documentation are slow. Of a test that is marked ``sampled(n)`` all cases but each n-th are."""
    cases = Counter()
    for item in items:
        if item.get_closest_marker("docs") is not None:
            item.add_marker("slow")
        mark = item.get_closest_marker("sampled")
        if mark is not None:
            test = item.nodeid.partition("[")[0]
            if cases[test] % mark.args[0]:
                item.add_marker("slow")
            cases[test] += 1


@pytest.fixture(autouse=True)
def folder_of_its_own(tmp_path, monkeypatch):
    """What RecBole writes goes there, and the environment variable that gpu_id sets does not outlive the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", "0"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder with a dataset ``tiny``: 30 users, 40 items, histories of 4 to 20 items."""
    folder = tmp_path_factory.mktemp("datasets")
    write_dataset(folder, interactions())
    return folder


@pytest.fixture(autouse=True)
def handlers_of_signals():
    """Those of the beginning: Ray, for example, leaves its own behind."""
    for kind, handler in HANDLERS.items():
        signal.signal(kind, handler)


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors are small here, and more threads only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def poisoned_memory():
    """Nothing is read of ``torch.empty`` before it is written."""
    with unwritten_memory_is_nan():
        yield


@pytest.fixture(autouse=True)
def no_anomaly_detection():
    """RecBole's models turn it on when a test imports them, and everything then takes longer."""
    torch.autograd.set_detect_anomaly(False)


@pytest.fixture(params=["float64", "float32", "float32-compiled"])
def dtype(request) -> Iterator[torch.dtype]:
    """A number type; the ops in float32 both in PyTorch and, where it was built, in the C library."""
    kind, _, in_c = request.param.partition("-")
    if in_c and not compiled(torch.float32):
        pytest.skip("the C library is not built: pip install -e . with a C compiler builds it")
    with use_backend("native" if in_c else "torch"):
        yield getattr(torch, kind)
