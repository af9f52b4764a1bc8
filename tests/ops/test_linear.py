"""Products by oneDNN are those of float64, and whatever else is asked for is left to the module."""

import pytest
import torch
from packed_cases import relative_error
from torch import nn

from recbole_ssm.ops import linear as subject
from recbole_ssm.ops.linear import linear

needs_mkldnn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch is built without oneDNN")


class Counted(nn.Linear):
    """Another class, which is called."""


@pytest.fixture
def by_onednn(monkeypatch):
    """The rows that went to oneDNN, which do go there."""
    rows, suits = [], subject._suits

    def noted(x, weight):
        found = suits(x, weight)
        rows.extend([len(x)] * found)
        return found

    monkeypatch.setattr(subject, "_suits", noted)
    return rows


@needs_mkldnn
@pytest.mark.parametrize("rows", [16, 97])
@pytest.mark.parametrize(("width", "out", "bias"), [(256, 257, True), (300, 1000, False)])
@torch.no_grad()
def test_products_are_those_of_float64(by_onednn, rows, width, out, bias):
    torch.manual_seed(0)
    layer, x = nn.Linear(width, out, bias=bias), torch.randn(rows, 2 * width)[:, ::2]
    assert relative_error(linear(layer, x), layer.double()(x.double())) < 1e-6
    with torch.inference_mode():
        assert linear(layer.float(), x).shape == (rows, out)
    assert by_onednn == [rows, rows]


def test_what_learns_is_of_another_class_or_type_is_called(by_onednn):
    x, layer = torch.randn(20, 256), nn.Linear(256, 256)
    linear(layer, x).sum().backward()
    assert layer.weight.grad is not None
    with torch.no_grad():
        assert torch.equal(linear(layer, x[:3]), layer(x[:3]))
        other = Counted(256, 256)
        assert torch.equal(linear(other, x), other(x))
        half = nn.Linear(256, 256, dtype=torch.bfloat16)
        assert linear(half, x.bfloat16()).dtype == torch.bfloat16
        with torch.autocast("cpu"):
            assert linear(layer, x).dtype == torch.bfloat16
    assert by_onednn == []
