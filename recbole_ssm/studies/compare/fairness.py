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
    """Raise InputError, before anything is trained, if models would be tested on, or rank, different items.

    Of models that split and read items alike one split is made, of sequential ones as packed data.
    """
    kinds: dict[tuple, str] = {}
    for name, config in configs.items():
        sequential = config.MODEL_TYPE == ModelType.SEQUENTIAL
        read = config.load_col is None or "item" in config.load_col
        kinds.setdefault((sequential, read if sequential else (config.MODEL_TYPE, str(config.load_col))), name)
    if len(kinds) == 1:
        return
    (first, (tested, ranked)), *others = ((name, _items(configs[name])) for name in kinds.values())
    for other, (tested_there, ranked_there) in others:
        if alone := tested ^ tested_there:
            user, item = min(alone)
            has, lacks = (first, other) if (user, item) in tested else (other, first)
            raise InputError(
                f"{first} and {other} would not be tested on the same items and cannot be compared: {has} is tested on "
                f"item {item!r} of user {user!r}, and {lacks} is not ({len(alone)} such test items); leave the "
                "split at its default, the last item of each user"
            )
        if why := _counted_by_user(configs[first], configs[other], tested):
            raise InputError(why)
        if ranked != ranked_there:
            most = max((first, ranked), (other, ranked_there), key=lambda each: len(each[1]))[0]
            raise InputError(
                f"{first} ranks {len(ranked):,} items and {other} {len(ranked_there):,}, and they cannot be compared: "
                "where the .item file is read, its items without interactions are ranked, too; read it for all, "
                f'--load_col="{configs[most].load_col}"'
            )


def _counted_by_user(one: Config, other: Config, tested: set[tuple[str, str]]) -> str:
    """Check that models both have a row for each user, or both one for each test item.

    Args:
        one: of a model.
        other: of a model of another kind.
        tested: users and items of the test data of both.

    Returns:
        Why they are not compared; empty if they can be.
    """
    sequential = [each.MODEL_TYPE == ModelType.SEQUENTIAL for each in (one, other)]
    if all(sequential) or not any(sequential) or one.temporal is not None or len(dict(tested)) == len(tested):
        return ""
    by_sample, by_user = (one, other) if sequential[0] else (other, one)
    return (
        f"{by_user.model} is not sequential and ranks once for each user, all test items of the user together, and "
        f"{by_sample.model} once for each test item, of which some users have several here; compare models of one kind"
    )


def _items(config: Config) -> tuple[set[tuple[str, str]], set[str]]:
    """Names of users and items of the test data, and of all items that are ranked."""
    set_seed(config)
    dataset: Any = create_dataset(config, packed=config.MODEL_TYPE == ModelType.SEQUENTIAL)
    test = dataset.build()[2]
    fields = (dataset.uid_field, dataset.iid_field)
    tested = zip(*(dataset.id2token(field, test.inter_feat[field].numpy()) for field in fields), strict=True)
    return set(tested), set(dataset.field2id_token[dataset.iid_field][1:])  # the first one stands for padding
