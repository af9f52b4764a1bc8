"""State-space sequential recommenders for RecBole."""

from recbole_ssm.errors import InputError
from recbole_ssm.quick_start import run
from recbole_ssm.recommender import Recommender

__version__ = "0.1.0"
__all__ = ["InputError", "Recommender", "__version__", "run"]
