"""Pure functions over packed streams of tokens. They know nothing of models, and nothing of RecBole."""

from recbole_ssm.ops.attention import causal_attention
from recbole_ssm.ops.backend import use_backend
from recbole_ssm.ops.conv1d import causal_conv1d, causal_conv1d_step, causal_conv1d_window, centred_conv1d
from recbole_ssm.ops.linear_cross_entropy import linear_cross_entropy
from recbole_ssm.ops.linear_recurrence import linear_recurrence
from recbole_ssm.ops.selective_scan import selective_scan, selective_scan_step
from recbole_ssm.ops.ssd import ssd, ssd_step
from recbole_ssm.ops.teacher import Teacher

__all__ = [
    "Teacher",
    "causal_attention",
    "causal_conv1d",
    "causal_conv1d_step",
    "causal_conv1d_window",
    "centred_conv1d",
    "linear_cross_entropy",
    "linear_recurrence",
    "selective_scan",
    "selective_scan_step",
    "ssd",
    "ssd_step",
    "use_backend",
]
