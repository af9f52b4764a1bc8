"""The backends of this package. A new one is a file or a folder here, and its object in this list."""

from recbole_ssm.ops.backends.base import Backend
from recbole_ssm.ops.backends.gpu_packages import GPU_PACKAGES
from recbole_ssm.ops.backends.native.backend import NATIVE
from recbole_ssm.ops.backends.pytorch.backend import PYTORCH
from recbole_ssm.ops.backends.triton.backend import TRITON

SHIPPED: tuple[Backend, ...] = (NATIVE, GPU_PACKAGES, TRITON, PYTORCH)
"""The preferred first. PyTorch is last, since it takes everything."""
