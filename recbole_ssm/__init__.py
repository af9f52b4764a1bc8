"""State-space sequential recommenders for RecBole."""

# ruff: noqa: E402  (threads that wait are told to sleep before anything imports torch)
from recbole_ssm.system.threads import wait_passively

wait_passively()
__version__ = "0.1.0"  # before what writes it into files is imported

from recbole_ssm.errors import InputError
from recbole_ssm.quick_start import run
from recbole_ssm.recommender import Recommender

__all__ = ["InputError", "Recommender", "__version__", "run"]
