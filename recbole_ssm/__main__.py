"""``python -m recbole_ssm``."""

from recbole_ssm.cli.main import program

program()
