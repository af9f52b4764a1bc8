"""Several models, or settings of one, on the same data and test items, from their training to a report."""

from recbole_ssm.studies.compare.command import compare, values_of
from recbole_ssm.studies.compare.study import Study, Variant

__all__ = ["Study", "Variant", "compare", "values_of"]
