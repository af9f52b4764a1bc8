"""From atomic files to packed batches. Knows RecBole's datasets, and nothing of models."""

from recbole_ssm.data.dataset import PackedDataset
from recbole_ssm.data.loading import create_dataset
from recbole_ssm.data.preparation import check_topk, data_preparation

__all__ = ["PackedDataset", "check_topk", "create_dataset", "data_preparation"]
