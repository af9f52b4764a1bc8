"""Comparisons: several models, or several settings of one, are trained and tested on the same data."""

from recbole_ssm.studies.compare.command import compare, values_of
from recbole_ssm.studies.compare.study import Study, Variant

__all__ = ["Study", "Variant", "compare", "values_of"]
