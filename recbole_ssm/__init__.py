"""State-space sequential recommenders for RecBole."""

# ruff: noqa: E402  (threads that wait are told to sleep before anything imports torch)
from recbole_ssm.system.openmp import wait_passively

wait_passively()

from recbole_ssm.data.importing import from_dataframe, import_files
from recbole_ssm.errors import InputError
from recbole_ssm.serving.fitting import fit, load
from recbole_ssm.serving.recommender import Recommender
from recbole_ssm.system.version import __version__
from recbole_ssm.training.run import run

__all__ = ["InputError", "Recommender", "__version__", "fit", "from_dataframe", "import_files", "load", "run"]
