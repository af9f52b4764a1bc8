"""Settings of all tests, and the number types and backends that the scans are tested with."""

from collections.abc import Iterator

import pytest
import torch
from hypothesis import HealthCheck, settings

from recbole_ssm.ops import use_backend

pytest.register_assert_rewrite("packed_cases", "scan_contract")

from packed_cases import compiled  # noqa: E402  (its asserts are to explain themselves)

settings.register_profile(
    "recbole-ssm",
    deadline=None,
    derandomize=True,
    max_examples=6,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("recbole-ssm")


@pytest.fixture(autouse=True)
def one_thread():
    """Tensors are small here, and more threads only wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
