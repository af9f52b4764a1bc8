"""``recbole-ssm compare``: several models on the same data and test items, from their training to a report."""

from recbole_ssm.compare.command import compare
from recbole_ssm.compare.study import Study

__all__ = ["Study", "compare"]
