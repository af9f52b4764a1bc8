"""``eval_users``: the same users are evaluated whatever the model is and however its loader names its rows."""

import numpy as np
import pytest
from atomic import interactions, make_config, make_loaders, make_trainer, write_dataset

from recbole_ssm.data.eval_users import evaluated_rows
from recbole_ssm.studies.compare.measuring import by_sample, latency

LEAVE_ONE_OUT = {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO"}
TEMPORAL = {"split": {"temporal": {"quantile": 0.5, "target": "successive"}}, "mode": "full", "order": "TO"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder, interactions(n_users=25, seed=3))
    return folder


def evaluated(folder, model, mode="full", args=LEAVE_ONE_OUT, **keys) -> list[str]:
    """The names of users with a row in the test, a row each."""
    config = make_config(folder, model, eval_args={**args, "mode": mode}, filter_seen=True, eval_batch_size=7, **keys)
    dataset, (_, _, test) = make_loaders(config)
    found = []
    for batch in test:
        if mode == "full":
            found += batch[0]["user_id"].tolist()
        elif "user_id" in batch[0]:
            found += batch[0]["user_id"][np.unique(batch[1], return_index=True)[1]].tolist()
    return dataset.id2token("user_id", found).tolist() if found else evaluated_rows(test).tolist()


def test_the_same_users_for_all_models(folder):
    kept = evaluated(folder, "PCTM", eval_users=8)
    assert len(kept) == len(set(kept)) == 8
    for model in ("SASRec", "Pop"):
        for mode in ("full", "uni10"):
            assert set(evaluated(folder, model, mode, eval_users=8)) == set(kept), (model, mode)
    assert len(evaluated(folder, "PCTM", "uni10", eval_users=8)) == 8
    assert set(evaluated(folder, "PCTM", eval_users=5)) < set(kept)
    assert evaluated(folder, "PCTM", eval_users=1000) == evaluated(folder, "PCTM")


def test_all_rows_of_a_user_stay_together(folder):
    everybody, kept = (evaluated(folder, "PCTM", args=TEMPORAL, eval_users=n) for n in (None, 3))
    assert len(set(kept)) == 3 and len(kept) > 3
    assert kept == [user for user in everybody if user in set(kept)]
    assert set(evaluated(folder, "Pop", args=TEMPORAL, eval_users=3)) == set(kept)


def test_metrics_are_those_of_these_users(folder):
    results = {}
    keys = {"eval_args": {**LEAVE_ONE_OUT, "mode": "full"}, "metrics": ["Hit", "NDCG", "MRR"], "topk": [10]}
    for model in ("PCTM", "BPR"):
        for n in (None, 6):
            config = make_config(folder, model, filter_seen=True, eval_users=n, **keys)
            _, trainer, (train, _, test) = make_trainer(config)
            trainer.eval_collector.data_collect(train)
            samples = by_sample(trainer, train, test)
            results[n] = dict(zip(samples["user"].tolist(), samples["ndcg"].tolist(), strict=True))
            assert latency(trainer, test, 1024, seconds=0)["users"] == (n or 25)
        assert len(results[6]) == 6
        assert {user: results[None][user] for user in results[6]} == results[6]


def test_is_said_with_the_split(folder):
    assert "6 users at most, drawn, are evaluated" in make_config(folder, "PCTM", eval_users=6).split_in_words
    assert "drawn" not in make_config(folder, "PCTM").split_in_words
