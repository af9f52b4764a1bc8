"""Settings of all tests, a small dataset, and the number types and backends that the scans are tested with.

What takes seconds to import is imported by the fixtures: the process that only hands out tests to others needs none.
"""

from __future__ import annotations

import gc
import os
import signal
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    import torch

pytest.register_assert_rewrite("packed_cases", "scan_contract")
gc.disable()  # until all is imported, which makes no garbage

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


def pytest_collection_finish():
    """From here on the garbage collector passes over what was imported, and seldom looks through the rest."""
    gc.freeze()
    gc.set_threshold(20_000, 20)
    gc.enable()


@pytest.fixture(autouse=True)
def folder_of_its_own(tmp_path, monkeypatch):
    """What RecBole writes goes there, and the environment variable that gpu_id sets does not outlive the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", "0"))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder with a dataset ``tiny``: 30 users, 40 items, histories of 4 to 20 items."""
    from atomic import interactions, write_dataset

    folder = tmp_path_factory.mktemp("datasets")
    write_dataset(folder, interactions())
    return folder


@pytest.fixture(autouse=True)
def handlers_of_signals():
    """Those of the beginning: Ray, for example, leaves its own behind."""
    for kind, handler in HANDLERS.items():
        signal.signal(kind, handler)


@pytest.fixture(autouse=True)
def torch_for_tests():
    """One thread, since tensors are small here; nothing is read of ``torch.empty`` before it is written.

    And no detection of anomalies: RecBole's models turn it on when a test imports them, and all then takes longer.
    """
    import torch

    from recbole_ssm.testing import unwritten_memory_is_nan

    torch.autograd.set_detect_anomaly(False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with unwritten_memory_is_nan():
        yield
    torch.set_num_threads(before)


@pytest.fixture(params=["float64", "float32", "float32-compiled"])
def dtype(request) -> Iterator[torch.dtype]:
    """A number type; the ops in float32 both in PyTorch and, where it was built, in the C library."""
    import torch
    from packed_cases import compiled

    from recbole_ssm.ops import use_backend

    kind, _, in_c = request.param.partition("-")
    if in_c and not compiled(torch.float32):
        pytest.skip("the C library is not built: pip install -e . with a C compiler builds it")
    with use_backend("native" if in_c else "torch"):
        yield getattr(torch, kind)
