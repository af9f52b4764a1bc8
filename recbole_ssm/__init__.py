"""State-space sequential recommenders for RecBole."""

from recbole_ssm.errors import InputError
from recbole_ssm.quick_start import run

__version__ = "0.1.0"
__all__ = ["InputError", "__version__", "run"]
