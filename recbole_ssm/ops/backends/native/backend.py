"""The C library: all ops but attention and the linear recurrence, on a CPU in float32.

Built by ``pip install`` where a C compiler is there. Everything that it computes is also there in PyTorch.
"""

from recbole_ssm.ops.backends.base import Backend, Kernel
from recbole_ssm.ops.backends.native.conv1d import conv1d, has_so_many_taps
from recbole_ssm.ops.backends.native.cross_entropy import cross_entropy, is_small
from recbole_ssm.ops.backends.native.dropout import dropout
from recbole_ssm.ops.backends.native.feed_forward import feed_forward, has_such_widths
from recbole_ssm.ops.backends.native.gated_norm import gated_norm
from recbole_ssm.ops.backends.native.loading import missing, takes
from recbole_ssm.ops.backends.native.selective_scan import selective_scan
from recbole_ssm.ops.backends.native.ssd import ssd

NATIVE = Backend(
    name="native",
    kernels={
        "ssd": Kernel(ssd),
        "selective_scan": Kernel(selective_scan),
        "conv1d": Kernel(conv1d, has_so_many_taps),
        "cross_entropy": Kernel(cross_entropy, is_small),
        "feed_forward": Kernel(feed_forward, has_such_widths),
        "gated_norm": Kernel(gated_norm),
        "dropout": Kernel(dropout),
    },
    takes=takes,
    missing=missing,
)
