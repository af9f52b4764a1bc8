"""PyTorch alone: every op, on any device and in any number type."""

from recbole_ssm.ops.backends.base import Backend, Kernel
from recbole_ssm.ops.backends.pytorch.attention import attention
from recbole_ssm.ops.backends.pytorch.conv1d import conv1d
from recbole_ssm.ops.backends.pytorch.cross_entropy import cross_entropy
from recbole_ssm.ops.backends.pytorch.layers import dropout, feed_forward, gated_norm
from recbole_ssm.ops.backends.pytorch.linear_recurrence import linear_recurrence
from recbole_ssm.ops.backends.pytorch.mixer_steps import lru_step, mamba2_step, mamba_step, mixed_step
from recbole_ssm.ops.backends.pytorch.selective_scan import selective_scan
from recbole_ssm.ops.backends.pytorch.ssd import ssd

PYTORCH = Backend(
    name="torch",
    kernels={
        "ssd": Kernel(ssd),
        "selective_scan": Kernel(selective_scan),
        "conv1d": Kernel(conv1d),
        "cross_entropy": Kernel(cross_entropy),
        "feed_forward": Kernel(feed_forward),
        "gated_norm": Kernel(gated_norm),
        "dropout": Kernel(dropout),
        "linear_recurrence": Kernel(linear_recurrence),
        "attention": Kernel(attention),
        "mamba2_step": Kernel(mamba2_step),
        "mamba_step": Kernel(mamba_step),
        "lru_step": Kernel(lru_step),
        "mixed_step": Kernel(mixed_step),
    },
    takes=lambda tensor: True,
)
