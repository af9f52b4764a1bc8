"""Pure functions over packed streams of tokens. They know nothing of models, and nothing of RecBole.

Each op has a folder: what it is (``__init__.py``), its formula in plain code (``reference.py``), and for streaming its
step (``step.py``). The code that computes it stands in ``backends/``.
"""

from recbole_ssm.ops.added import Added
from recbole_ssm.ops.attention import causal_attention
from recbole_ssm.ops.backends import use_backend
from recbole_ssm.ops.convolution import causal_conv1d, causal_conv1d_step, causal_conv1d_window, centred_conv1d
from recbole_ssm.ops.cross_entropy import linear_cross_entropy
from recbole_ssm.ops.dropping import dropout
from recbole_ssm.ops.mixer_steps import (
    LruWeights,
    Mamba2Weights,
    MambaWeights,
    MixedWeights,
    lru_step,
    mamba2_step,
    mamba_step,
    mixed_step,
)
from recbole_ssm.ops.norm import gated_rms_norm
from recbole_ssm.ops.position_wise import feed_forward
from recbole_ssm.ops.recurrence import linear_recurrence
from recbole_ssm.ops.selective_state_space import selective_scan, selective_scan_step
from recbole_ssm.ops.state_space_duality import ssd, ssd_step
from recbole_ssm.ops.teacher import Teacher

__all__ = [
    "Added",
    "LruWeights",
    "Mamba2Weights",
    "MambaWeights",
    "MixedWeights",
    "Teacher",
    "causal_attention",
    "causal_conv1d",
    "causal_conv1d_step",
    "causal_conv1d_window",
    "centred_conv1d",
    "dropout",
    "feed_forward",
    "gated_rms_norm",
    "linear_cross_entropy",
    "linear_recurrence",
    "lru_step",
    "mamba2_step",
    "mamba_step",
    "mixed_step",
    "selective_scan",
    "selective_scan_step",
    "ssd",
    "ssd_step",
    "use_backend",
]
