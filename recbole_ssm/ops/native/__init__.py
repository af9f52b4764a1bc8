"""The optional C library: found, loaded, described to ctypes, and wrapped for autograd.

Built by ``pip install`` where a C compiler is there. Everything that it computes is also there in PyTorch.
"""

from recbole_ssm.ops.native.conv1d import MOST_TAPS, conv1d
from recbole_ssm.ops.native.cross_entropy import cross_entropy, fits_cross_entropy
from recbole_ssm.ops.native.dropout import dropout
from recbole_ssm.ops.native.feed_forward import WIDTHS, feed_forward
from recbole_ssm.ops.native.gated_norm import gated_norm
from recbole_ssm.ops.native.loading import library, takes
from recbole_ssm.ops.native.selective_scan import selective_scan
from recbole_ssm.ops.native.ssd import ssd

__all__ = [
    "MOST_TAPS",
    "WIDTHS",
    "conv1d",
    "cross_entropy",
    "dropout",
    "feed_forward",
    "fits_cross_entropy",
    "gated_norm",
    "library",
    "selective_scan",
    "ssd",
    "takes",
]
