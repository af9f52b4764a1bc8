"""What a run is to be: keys, their defaults and checks."""

from recbole_ssm.config.config import Config

__all__ = ["Config"]
