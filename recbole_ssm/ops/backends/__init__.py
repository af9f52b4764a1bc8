"""The code behind the ops, in several forms. ``docs/your-own-backend.md`` says how to add one."""

from recbole_ssm.ops.backends.base import OPS, Backend, Kernel
from recbole_ssm.ops.backends.choice import (
    backend_names,
    backends_of,
    bound,
    check_backend,
    choose,
    compute,
    compute_in_float32,
    compute_in_type,
    use_backend,
)

__all__ = [
    "OPS",
    "Backend",
    "Kernel",
    "backend_names",
    "backends_of",
    "bound",
    "check_backend",
    "choose",
    "compute",
    "compute_in_float32",
    "compute_in_type",
    "use_backend",
]
