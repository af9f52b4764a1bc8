"""The C library: all ops but attention and the linear recurrence, on a CPU in float32.

Built by ``pip install`` where a C compiler is there. Everything that it computes is also there in PyTorch.
"""

from recbole_ssm.ops.backends.base import Backend, Kernel
from recbole_ssm.ops.backends.native import (
    conv1d,
    cross_entropy,
    dropout,
    feed_forward,
    gated_norm,
    selective_scan,
    ssd,
)
from recbole_ssm.ops.backends.native.loading import missing, takes
from recbole_ssm.ops.backends.native.mixer_steps import STEPS

NATIVE = Backend(
    name="native",
    kernels={
        "ssd": Kernel(ssd.ssd),
        "selective_scan": Kernel(selective_scan.selective_scan),
        "conv1d": Kernel(conv1d.conv1d, conv1d.fits),
        "cross_entropy": Kernel(cross_entropy.cross_entropy, cross_entropy.fits),
        "feed_forward": Kernel(feed_forward.feed_forward, feed_forward.fits),
        "gated_norm": Kernel(gated_norm.gated_norm),
        "dropout": Kernel(dropout.dropout),
        **STEPS,
    },
    takes=takes,
    missing=missing,
)
