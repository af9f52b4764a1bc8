"""The types of RecBole's datasets and loaders, as far as this package uses them: RecBole itself declares none."""

# ruff: noqa: D102  (RecBole's own documentation describes the methods)

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from recbole.data.interaction import Interaction
from recbole.utils import FeatureSource, FeatureType
from torch.utils.data import Dataset as TorchDataset

if TYPE_CHECKING:
    from recbole_ssm.config import Config

    class Dataset(TorchDataset[Any]):
        """RecBole's dataset.

        ``inter_feat`` is a ``DataFrame`` when it is loaded, and an ``Interaction`` when it is built and split.
        """

        config: Config
        dataset_name: str
        dataset_path: str
        uid_field: str
        iid_field: str
        time_field: str
        inter_feat: Any
        item_feat: Any
        user_feat: Any
        feat_name_list: list[str]
        field2type: dict[str, FeatureType]
        field2source: dict[str, FeatureSource | str]
        field2seqlen: dict[str, int]
        field2bucketnum: dict[str, int]
        field2id_token: dict[str, NDArray[Any]]
        field2token_id: dict[str, dict[str, int]]
        alias: dict[str, NDArray[Any]]
        float_like_fields: list[str]
        user_num: int
        item_num: int
        file_size_list: list[int]
        benchmark_filename_list: list[str]
        _preloaded_weight: dict[str, Any]
        _rest_fields: NDArray[Any]

        def __init__(self, config: Config): ...
        def __len__(self) -> int: ...
        def build(self) -> list[Any]: ...
        def copy(self, new_inter_feat: Interaction) -> Any: ...
        def join(self, df: Interaction) -> Interaction: ...
        def field2feats(self, field: str) -> list[pd.DataFrame]: ...
        def set_field_property(
            self, field: str, field_type: FeatureType, field_source: FeatureSource | str, field_seqlen: int
        ) -> None: ...
        def leave_one_out(self, group_by: str | None, leave_one_mode: str) -> list[Any]: ...
        def _from_scratch(self) -> None: ...
        def _get_preset(self) -> None: ...
        def _get_field_from_config(self) -> None: ...
        def _build_feat_name_list(self) -> list[str]: ...
        def _init_alias(self) -> None: ...
        def _set_alias(self, alias_name: str, default_value: list[str]) -> None: ...
        def _load_inter_feat(self, token: str, dataset_path: str) -> None: ...
        def _load_feat(self, filepath: str, source: FeatureSource | str) -> pd.DataFrame | None: ...
        def _get_load_and_unload_col(self, source: FeatureSource | str) -> tuple[set[str] | None, set[str] | None]: ...
        def _filter_nan_user_or_item(self) -> None: ...
        def _reset_index(self) -> None: ...
        def _normalize(self) -> None: ...
        def _change_feat_format(self) -> None: ...
        def _dataframe_to_interaction(self, data: pd.DataFrame) -> Interaction: ...
        def _del_col(self, feat: Any, field: str) -> None: ...
        def _drop_unused_col(self) -> None: ...
        def _check_field(self, *field_names: str) -> None: ...
        def _create_sparse_matrix(
            self, df_feat: Interaction, source_field: str, target_field: str, form: str, value_field: str | None
        ) -> Any: ...

    class SequentialDataset(Dataset):
        """RecBole's dataset of histories and targets."""

        max_item_list_len: int
        item_list_length_field: str

        def _benchmark_presets(self) -> None: ...
        def data_augmentation(self) -> None: ...

else:
    from recbole.data.dataset import Dataset, SequentialDataset


class Loader(Protocol):
    """RecBole's loader of one split, for training or evaluation."""

    _dataset: Any
    collate_fn: Callable[[Any], Any]

    def __len__(self) -> int: ...


class EvalLoader(Loader, Protocol):
    """RecBole's loader of evaluation data. This package adds ``share_repeated``."""

    _sampler: Any
    is_sequential: bool
    uid_list: NDArray[np.int64]
    """What the loader has a row for: users, or where it ranks each sample alone the numbers of samples."""
    uid2index: Sequence[Any]
    """By what is in ``uid_list`` the slice of its samples."""
    share_repeated: float | None
    """The share of targets that their users have had before; None where items of the history are ranked like others."""


Loaders = tuple[Any, Any, Any]
"""Those of training, validation and test data: the first is a :class:`Loader`, the others are :class:`EvalLoader`."""

EvalBatch = tuple[Interaction, Any, Any, Any]
"""What the collate function of an :class:`EvalLoader` gives.

The batch; the users and items of the history, or the candidates' users; the users and items of the targets.
"""

__all__ = ["Dataset", "EvalBatch", "EvalLoader", "Loader", "Loaders", "SequentialDataset"]
