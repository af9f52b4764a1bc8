"""The optional C library: found, loaded, described to ctypes, and wrapped for autograd.

Built by ``pip install`` where a C compiler is there. Everything that it computes is also there in PyTorch.
"""

from recbole_ssm.ops.native.conv1d import conv1d
from recbole_ssm.ops.native.loading import takes
from recbole_ssm.ops.native.scan import scan
from recbole_ssm.ops.native.ssd import ssd

__all__ = ["conv1d", "scan", "ssd", "takes"]
