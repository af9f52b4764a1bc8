"""Checks that models can be compared: the same ranking rule, and the same test items of the same users."""

from __future__ import annotations

from typing import Any

from recbole.utils import ModelType

from recbole_ssm.config.config import Config
from recbole_ssm.data import create_dataset
from recbole_ssm.errors import InputError
from recbole_ssm.training.assembly import set_seed


def check_ranked_alike(configs: dict[str, Config]) -> None:
    """Raise InputError if some models may recommend what a user has had and others may not."""
    always = [name for name, config in configs.items() if config.excludes_seen and not config.filter_seen]
    if always and not all(config.excludes_seen for config in configs.values()):
        raise InputError(
            f"RecBole does not let {', '.join(always)} recommend items of the history; add --filter_seen=True, so "
            "that no model does"
        )


def check_same_test_items(configs: dict[str, Config]) -> None:
    """Raise InputError, before anything is trained, if models of different kinds would be tested on different items.

    Sequential models have the same test items whatever the model is, so of them one split is made, as packed data.
    """
    kinds: dict[tuple, str] = {}
    for name, config in configs.items():
        sequential = config.MODEL_TYPE == ModelType.SEQUENTIAL
        kinds.setdefault((sequential, None if sequential else (config.MODEL_TYPE, str(config.load_col))), name)
    if len(kinds) == 1:
        return
    tested = {name: _test_items(configs[name]) for name in kinds.values()}
    first, *others = tested
    for other in others:
        if alone := tested[first] ^ tested[other]:
            user, item = min(alone)
            has, lacks = (first, other) if (user, item) in tested[first] else (other, first)
            raise InputError(
                f"{first} and {other} would not be tested on the same items and cannot be compared: {has} is tested on "
                f"item {item!r} of user {user!r}, and {lacks} is not ({len(alone)} such test items); leave the "
                "split at its default, the last item of each user"
            )


def _test_items(config: Config) -> set[tuple[str, str]]:
    """Names of users and items of the test data."""
    set_seed(config)
    dataset: Any = create_dataset(config, packed=config.MODEL_TYPE == ModelType.SEQUENTIAL)
    test = dataset.build()[2]
    fields = (dataset.uid_field, dataset.iid_field)
    return set(zip(*(dataset.id2token(field, test.inter_feat[field].numpy()) for field in fields), strict=True))
