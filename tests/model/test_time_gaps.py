"""``time_gaps``: from the times of a file to the step of the recurrence, in training, checkpoints and sessions."""

import numpy as np
import pytest
import torch
from atomic import interactions, make_config, make_loaders, small, write_dataset

from recbole_ssm import InputError, Recommender, run
from recbole_ssm.config.config import Config
from recbole_ssm.model.mamba4rec import Mamba4Rec
from recbole_ssm.testing import check_model

SMALL = {"hidden_size": 8, "num_layers": 2, "time_gaps": True}
OF_SSM = {"d_state": 4}
HEADS = {"headdim": 4}
MODELS = {
    "Mamba4Rec": SMALL | OF_SSM,
    "2Mamba4Rec": SMALL | OF_SSM | HEADS,
    "SSD4Rec": SMALL | OF_SSM | HEADS,
    "Hydra4Rec": SMALL | OF_SSM | HEADS,
    "LRURec": SMALL,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_reads_times_keeps_what_models_promise(name):
    check_model(name, MODELS[name], dtype=torch.float64)


@pytest.mark.slow
def test_an_aligned_backward_direction_reads_times_too():
    check_model("SSD4Rec", MODELS["SSD4Rec"] | {"align_backward": True}, dtype=torch.float64)


@pytest.fixture
def frame(tmp_path):
    frame = interactions()
    frame["timestamp"] += 1  # an odd number, which float32 has not
    write_dataset(tmp_path, frame)
    return frame


def trained(tmp_path, model="2Mamba4Rec", **keys):
    settings = {"time_gaps": True, "checkpoint_dir": str(tmp_path / "saved")} | keys
    config = make_config(tmp_path, model, **settings)
    return run(model, "tiny", config_dict=config.external_config_dict)["checkpoint"]


def median_gap(frame):
    """Of the gaps before the targets of the training, without the two items that are held out."""
    times = frame.sort_values("timestamp").groupby("user_id")["timestamp"]
    return np.median(np.concatenate([np.diff(each)[:-2] for _, each in times if len(each) > 3]))


def test_the_scale_is_the_median_gap_and_stays_with_the_model(tmp_path, frame):
    recommender = Recommender(trained(tmp_path))
    gaps = recommender.model.time_gaps
    assert abs(float(gaps.scale) - median_gap(frame)) <= 3600  # torch takes the lower one of two in the middle
    assert "time_gaps.scale" in recommender.model.state_dict()
    assert recommender.columns == ["timestamp"]
    assert all(weight.any() for name, weight in recommender.model.named_parameters() if "gap_weight" in name)


@pytest.mark.slow
def test_a_service_gives_what_the_evaluation_has(tmp_path, frame):
    recommender = Recommender(trained(tmp_path))
    config = make_config(tmp_path, "2Mamba4Rec", time_gaps=True)
    _, (_, _, test) = make_loaders(config)
    batch = test.collate_fn(list(range(test.sample_size)))[0]
    with torch.no_grad():
        scores = recommender.model.full_sort_predict(batch)
    users = test._dataset.id2token("user_id", batch["user_id"].numpy())
    known, columns = recommender.histories_and_columns(command_line=[f"--data_path={tmp_path}"])
    times = columns["timestamp"]
    for row, user in list(enumerate(users))[:5]:
        session = recommender.session()
        for item, time in zip(known[user][:-1], times[user], strict=False):
            session.add(item, {"timestamp": time})
        whole = recommender.recommend([known[user][:-1]], 3, columns={"timestamp": [times[user][:-1]]})[0]
        scores[row, 0] = -torch.inf
        expected = scores[row].topk(3).values
        for found in (session.recommend(3), whole):
            torch.testing.assert_close(torch.tensor([score for _, score in found]), expected)
    later = [time + 10_000 * place for place, time in enumerate(times[user][:-1])]
    assert recommender.recommend([known[user][:-1]], 3, columns={"timestamp": [later]})[0] != whole
    with pytest.raises(InputError, match="columns must have timestamp, which the model reads beside the items"):
        recommender.recommend([known[user][:-1]])


def test_times_that_say_nothing_are_refused(tmp_path, frame):
    frame = frame.sort_values("timestamp")
    frame["timestamp"] = frame.groupby("user_id").cumcount() * 1.0
    write_dataset(tmp_path, frame)
    with pytest.raises(InputError, match="same distance between all items"):
        trained(tmp_path)


def test_histories_must_be_in_order_of_time(tmp_path, frame):
    with pytest.raises(InputError, match="time_gaps needs histories in order of time"):
        make_config(tmp_path, "LRURec", time_gaps=True, time_order="recbole")


def test_a_model_without_a_recurrence_reads_no_times(tmp_path, frame):
    assert make_config(tmp_path, "PackedSASRec", time_gaps=True).columns == ()


def test_an_encode_that_takes_no_times_is_refused_only_with_the_key(tmp_path, frame):
    blind = type("Mamba4Rec", (Mamba4Rec,), {"encode": lambda self, tokens, cu_seqlens, readout=None: tokens})
    settings = make_config(tmp_path, "Mamba4Rec").external_config_dict
    assert Config(blind, "tiny", config_dict=settings).columns == ()
    with pytest.raises(InputError, match="encode must take 'time'"):
        Config(blind, "tiny", config_dict=settings | {"time_gaps": True})


def test_without_the_key_no_times_are_read(tmp_path, frame):
    config = make_config(tmp_path, "2Mamba4Rec")
    assert config.columns == ()
    _, (train, _, _) = make_loaders(config)
    assert "time_list" not in next(iter(train))


def test_times_are_read_as_they_stand_in_the_file():
    """RecBole's settings of ml-100k bring all numbers into the range from 0 to 1."""
    settings = {"use_gpu": False, **small("2Mamba4Rec")}
    assert Config("2Mamba4Rec", "ml-100k", config_dict=settings)["normalize_all"] is True
    assert Config("2Mamba4Rec", "ml-100k", config_dict=settings | {"time_gaps": True})["normalize_all"] is False
