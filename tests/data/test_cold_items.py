"""Items that are held back from the training, and tested alone."""

import numpy as np
import pytest
from atomic import LEAVE_ONE_OUT, histories, interactions, make_config, make_splits, write_dataset

from recbole_ssm import InputError, run
from recbole_ssm.data.cold_items import are_cold

SHARE = 0.3


def names(dataset, numbers) -> list[str]:
    return dataset.field2id_token["item_id"][np.asarray(numbers)].tolist()


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "Pop"])
def test_a_cold_item_is_in_no_training_and_is_tested(tmp_path, model):
    """Whatever the model: the same users are tested, each on the last item, after what else he has had."""
    frame = interactions(n_users=60, shortest=1, longest=6)
    write_dataset(tmp_path, frame)
    cold = {name for name in set(frame["item_id"]) if are_cold(["", name], SHARE)[1]}
    assert 5 < len(cold) < 20
    tested = {}
    for user, items in histories(frame).items():
        before = [item for item in items[:-1] if item not in cold]
        if items[-1] in cold and len(before) >= 2:
            tested[user] = before, items[-1]
    of_model = {"eval_args": LEAVE_ONE_OUT} if model == "Pop" else {}
    config = make_config(tmp_path, model, cold_items=SHARE, **of_model)
    assert config.split_in_words.endswith("; only cold items are tested, 0.3 of all")
    dataset, (train, valid, test) = make_splits(config)
    for part in (train, valid):
        assert not cold & set(names(dataset, part.inter_feat["item_id"]))
    users = dataset.field2id_token["user_id"][np.asarray(test.inter_feat["user_id"])].tolist()
    found = dict(zip(users, names(dataset, test.inter_feat["item_id"]), strict=True))
    assert found == {user: target for user, (_, target) in tested.items()} and len(users) == len(found) > 3
    if model == "2Mamba4Rec":
        for row, user in enumerate(users):
            assert names(dataset, test[[row]]["item_id_list"]) == tested[user][0]
        assert not cold & set(names(dataset, train.whole_sequences()[0]))


def test_other_splits_are_refused(tmp_path):
    write_dataset(tmp_path, interactions())
    settings = {"data_path": str(tmp_path), "cold_items": 0.1}
    with pytest.raises(InputError, match="cold_items needs the split that tests each user's last item"):
        run("Pop", "tiny", config_dict=settings)
    with pytest.raises(InputError, match="none of them is the last one of a user; take a larger share"):
        run("LRURec", "tiny", config_dict={**settings, "cold_items": 1e-9})
