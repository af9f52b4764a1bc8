"""A model that reads more than items: its columns go from the file through every loader, and into use."""

import json

import numpy as np
import pytest
import torch
from atomic import interactions, make_config, make_loaders, make_splits, write_dataset
from torch import nn

from recbole_ssm import InputError, Recommender, run
from recbole_ssm.cli.main import main
from recbole_ssm.config.config import Config
from recbole_ssm.errors import CheckpointError
from recbole_ssm.model import registry
from recbole_ssm.model.declarations import Column
from recbole_ssm.model.mamba4rec import Mamba4Rec
from recbole_ssm.model.ssd4rec import SSD4Rec
from recbole_ssm.serving.columns import read_columns


def hour_of(seconds):
    return (seconds // 3600 % 24).long()


class Hourly(Mamba4Rec):
    """Mamba4Rec with the hour, and a price as it is."""

    columns = (Column("hour", "TIME_FIELD", hour_of), Column("price"))

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.hour_embedding = nn.Embedding(24, self.hidden_size)

    def embed(self, tokens, cu_seqlens, *, hour, price):
        assert price.dtype == torch.float64
        return self.item_embedding(tokens) + self.hour_embedding(hour) * price[:, None].float()


class BothWays(SSD4Rec):
    """Reads the hour and leaves it, in both directions."""

    columns = (Column("hour", "TIME_FIELD", hour_of),)

    def encode(self, tokens, cu_seqlens, readout=None, *, hour, cut=None):
        assert hour.shape == tokens.shape and hour.min() >= 0 and hour.max() < 24
        return super().encode(tokens, cu_seqlens, readout, cut=cut)


DEFAULTS = {"hidden_size": 8, "headdim": 4, "d_state": 4, "num_layers": 1, "d_conv": 2, "expand": 2}
DEFAULTS |= {"dropout_prob": 0.0, "loss_type": "CE", "initializer_range": 0.02, "MAX_ITEM_LIST_LENGTH": None}
DEFAULTS |= {"train_samples": "whole_sequence", "valid_metric": "NDCG@10", "train_batch_tokens": 99}
OF_SSD = {"beta": 0.1, "norm_embedding": True, "dropout_after_norm": True, "align_backward": False}
OF_SSD |= {"train_samples": "prefix_lm", "mask_ratio": 0.2}


@pytest.fixture
def frame(tmp_path, monkeypatch):
    """Interactions with prices, which float32 has not; the models have names."""
    names = {"Hourly": f"{__name__}:Hourly", "BothWays": f"{__name__}:BothWays"}
    classes = {"Hourly": Hourly, "BothWays": BothWays}
    monkeypatch.setattr(registry, "_installed", lambda: {name: [value] for name, value in names.items()})
    monkeypatch.setattr(
        registry, "_packed_model", lambda name, of=registry._packed_model: classes.get(name) or of(name)
    )
    frame = interactions()
    frame["timestamp"] += 1  # an odd number, which float32 has not either
    frame["price"] = np.arange(len(frame)) + 2.0**30 + 0.5
    write_dataset(tmp_path, frame)
    return frame


def config_of(folder, model="Hourly", **keys):
    keys = DEFAULTS | (OF_SSD if model == "BothWays" else {}) | keys
    return make_config(folder, model, **keys)


def expected(frame, names, prices):
    """The hours of the interactions with these items and prices; no two have the same price."""
    rows = frame.set_index("price").loc[prices]
    assert list(rows["item_id"]) == list(names)
    return (rows["timestamp"] // 3600 % 24).tolist()


def check(frame, dataset, batch):
    items = dataset.id2token("item_id", batch["item_id_list"].numpy())
    assert batch["hour_list"].dtype == torch.int64
    assert batch["hour_list"].tolist() == expected(frame, items, batch["price_list"].tolist())


@pytest.mark.sampled(3)
@pytest.mark.parametrize("samples", ["all_prefixes", "sampled_prefixes", "whole_sequence"])
@pytest.mark.parametrize("mode", ["full", "uni5"])
def test_every_loader_has_the_columns(tmp_path, frame, samples, mode):
    split = {"split": {"LS": "valid_and_test"}, "order": "TO", "group_by": "user", "mode": mode}
    keys = {"train_samples": samples, "prefixes_per_user": 2, "eval_args": split}
    for longest in (None, 3):
        dataset, (train, valid, test) = make_loaders(config_of(tmp_path, **keys, MAX_ITEM_LIST_LENGTH=longest))
        for batch in [*train, *(each[0] for each in valid), *(each[0] for each in test)]:
            check(frame, dataset, batch)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["dataset_cache", "workers", "masked"])
def test_columns_come_the_same_by_other_ways(tmp_path, frame, how):
    keys = {"dataset_cache": {"dataset_cache": str(tmp_path / "kept")}, "workers": {"worker": 1}}
    keys = keys.get(how, {"mask_ratio": 0.5})
    plain = list(make_loaders(config_of(tmp_path))[1][0])
    for _ in range(2):
        for one, other in zip(plain, make_loaders(config_of(tmp_path, **keys))[1][0], strict=True):
            for field in ("hour_list", "price_list"):
                assert torch.equal(one[field], other[field])


@pytest.mark.slow
@pytest.mark.parametrize("model", ["Hourly", "BothWays"])
def test_a_trained_model_recommends_by_its_columns(tmp_path, frame, model, capsys):
    keys = {"checkpoint_dir": str(tmp_path / "saved"), "dropout_prob": 0.1}
    config = config_of(tmp_path, model, **keys)
    file = run(model, "tiny", config_dict=config.external_config_dict | keys)["checkpoint"]
    recommender = Recommender(file)
    _, (_, _, test) = make_loaders(config)
    batch = test.collate_fn(list(range(test.sample_size)))[0]
    with torch.no_grad():
        scores = recommender.model.full_sort_predict(batch)
    users = test._dataset.id2token("user_id", batch["user_id"].numpy())
    known, columns = recommender.histories_and_columns(command_line=[f"--data_path={tmp_path}"])
    assert recommender.columns == list(columns) == {"Hourly": ["timestamp", "price"], "BothWays": ["timestamp"]}[model]
    values = {name: [of[user][:-1] for user in users] for name, of in columns.items()}
    found = recommender.recommend([known[user][:-1] for user in users], k=3, columns=values)
    for row, best in enumerate(found):
        scores[row, 0] = -torch.inf
        torch.testing.assert_close(torch.tensor([score for _, score in best]), scores[row].topk(3).values)
    user = users[0]
    session = recommender.session(known[user][:2], {name: of[user][:2] for name, of in columns.items()})
    for place in range(2, len(known[user]) - 1):
        session.add(known[user][place], {name: of[user][place] for name, of in columns.items()})
    for (name, score), (other, same) in zip(session.recommend(3), found[0], strict=True):
        assert name == other and score == pytest.approx(same, abs=1e-5)
    begun = recommender.session()
    begun.add(known[user][0], {name: of[user][0] for name, of in columns.items()})
    history = ",".join(known[user][:-1])
    given = json.dumps({name: of[user][:-1] for name, of in columns.items()})
    capsys.readouterr()
    assert main(["recommend", f"--checkpoint={file}", f"--history={history}", f"--columns={given}", "--k=3"]) == 0
    assert found[0][0][0] in capsys.readouterr().out
    assert main(["recommend", f"--checkpoint={file}", f"--data_path={tmp_path}", "--k=3"]) == 0
    for wrong in (None, {}, {"timestamp": [[1.0]], "price": [[1.0]]}, {"price": [[1.0] * 3]}):
        with pytest.raises(InputError, match="columns"):
            recommender.recommend([known[user][:3]], columns=wrong)


def test_a_value_that_is_no_finite_number_is_refused(tmp_path, frame):
    settings = config_of(tmp_path, epochs=1).external_config_dict | {"checkpoint_dir": str(tmp_path / "saved")}
    recommender = Recommender(run("Hourly", "tiny", config_dict=settings)["checkpoint"])
    first, second = recommender.items[1:3]
    said = "columns: price must have finite numbers, but has "
    for value in ("1", None, np.nan, np.inf, [1.0], 10**400, {}):
        with pytest.raises(InputError, match=said):
            recommender.recommend([[first, second]], columns={"timestamp": [[1, 2]], "price": [[1, value]]})
        with pytest.raises(InputError, match=said):
            recommender.session([first], {"timestamp": [1], "price": [value]})
        session = recommender.session([first], {"timestamp": [1], "price": [2]})
        with pytest.raises(InputError, match=said):
            session.add(second, {"timestamp": 2, "price": value})
        assert session.history == [first] and session.columns == {"timestamp": [1.0], "price": [2.0]}


def test_missing_values_are_counted_and_infinite_ones_refused(tmp_path, frame, caplog):
    frame.loc[3, "price"] = np.nan
    file = write_dataset(tmp_path, frame)
    file.write_text(file.read_text().replace("nan", ""))
    _, (train, _, _) = make_loaders(config_of(tmp_path))
    assert f"tiny.inter: 1 of {len(frame)} lines have no price, which Hourly reads" in caplog.text
    assert torch.isfinite(train._dataset.history_columns["price_list"]).all()
    frame.loc[3, "price"] = -np.inf
    write_dataset(tmp_path, frame)
    with pytest.raises(InputError, match=r"tiny.inter, line 5: price, which Hourly reads, is -inf; give it"):
        make_loaders(config_of(tmp_path))


@pytest.mark.parametrize("given", [5, "price", [[1.0]], {"price": 5}, {"price": [1.0]}, {"price": "a"}], ids=repr)
def test_columns_of_another_shape_are_refused(given):
    with pytest.raises(InputError, match="columns"):
        read_columns(given, ["price"], [1])


def test_columns_may_come_in_whatever_holds_numbers():
    for values in (torch.tensor([[1, 2]]), np.array([[1.0, 2.0]]), iter([range(1, 3)])):
        assert read_columns({"price": values}, ["price"], [2]) == {"price": [[1.0, 2.0]]}


@pytest.mark.parametrize("read", [lambda numbers: numbers[1:], lambda numbers: numbers.tolist(), torch.Tensor.sum])
def test_a_column_has_one_number_for_each_value(read):
    with pytest.raises(InputError, match=r"read of the column hour must give a tensor \(3,\), but gives"):
        Column("hour", read=read).values(torch.zeros(3, dtype=torch.float64))


def test_the_state_of_a_model_with_columns_is_that_of_its_history(tmp_path, frame):
    config = config_of(tmp_path)
    dataset, splits = make_splits(config)
    model = Hourly(config, dataset).eval()
    batch = splits[2][torch.arange(4)]
    (tokens, borders), columns = model.packed(batch), model.columns_of(batch)
    whole = model.forward(batch)
    torch.testing.assert_close(model.prefill(tokens, borders, **columns)[0], whole)
    state = None
    for place in range(int(borders[1])):
        hidden, state = model.step(
            tokens[place : place + 1], state, **{k: v[place : place + 1] for k, v in columns.items()}
        )
    torch.testing.assert_close(hidden[0], whole[0])
    del batch.interaction["price_list"]
    with pytest.raises(ValueError, match="the batch has no price_list, which Hourly reads beside item_id_list"):
        model.forward(batch)


def test_a_padded_batch_has_them_too(tmp_path, frame):
    config = config_of(tmp_path)
    dataset, splits = make_splits(config)
    model = Hourly(config, dataset).eval()
    batch = splits[2][torch.arange(3)]
    parts = {
        name: batch[name].split(batch["cu_seqlens"].diff().tolist())
        for name in ("item_id_list", "hour_list", "price_list")
    }
    padded = {name: nn.utils.rnn.pad_sequence(rows, batch_first=True) for name, rows in parts.items()}
    padded["item_length"] = batch["cu_seqlens"].diff().long()
    torch.testing.assert_close(model.full_sort_predict(type(batch)(padded)), model.full_sort_predict(batch))


@pytest.mark.slow
def test_teachers_and_ensembles_have_the_columns_of_the_student(tmp_path, frame):
    keys = {"checkpoint_dir": str(tmp_path / "saved")}
    files = {}
    for model in ("Hourly", "BothWays"):
        given = config_of(tmp_path, model, **keys).external_config_dict
        files[model] = run(model, "tiny", config_dict=given)["checkpoint"]
    taught = config_of(tmp_path, "Hourly", **keys, teacher=f"{files['Hourly']},{files['BothWays']}")
    assert run("Hourly", "tiny", config_dict=taught.external_config_dict)["epochs"] == 1
    taught = config_of(tmp_path, "BothWays", **keys, teacher=files["Hourly"])
    with pytest.raises(CheckpointError, match="reads the column price, which BothWays does not"):
        run("BothWays", "tiny", config_dict=taught.external_config_dict)


def test_a_column_that_is_not_there_is_named(tmp_path, frame):
    write_dataset(tmp_path, frame.drop(columns="price"), "poor")
    write_dataset(tmp_path, frame.assign(price="much"), "words")
    for dataset, words in (
        ("poor", "no column 'price', which Hourly reads"),
        ("words", "write price:float in the head"),
    ):
        with pytest.raises(InputError, match=words):
            make_splits(config_of(tmp_path, dataset=dataset))
    only = {"load_col": {"inter": ["user_id", "item_id", "timestamp"]}}
    with pytest.raises(InputError, match="load_col"):
        make_splits(config_of(tmp_path, **only))
    all_of_them = {"load_col": {"inter": ["user_id", "item_id", "timestamp", "price"]}}
    assert not any("load_col" in note for note in config_of(tmp_path, **all_of_them).notes)


def test_presplit_files_have_lists_of_the_columns(tmp_path, frame):
    lines = ["user_id:token\titem_id_list:token_seq\titem_id:token\tprice:float\tprice_list:float_seq\t"]
    lines[0] += "timestamp:float\ttimestamp_list:float_seq"
    for user, rows in frame.groupby("user_id"):
        for end in range(1, len(rows)):
            part, last = rows.iloc[:end], rows.iloc[end]
            lists = [" ".join(map(str, part[name])) for name in ("item_id", "price", "timestamp")]
            lines.append(f"{user}\t{lists[0]}\t{last.item_id}\t{last.price}\t{lists[1]}\t{last.timestamp}\t{lists[2]}")
    folder = tmp_path / "split"
    folder.mkdir()
    for name in ("train", "valid", "test"):
        (folder / f"split.{name}.inter").write_text("\n".join(lines) + "\n")
    keys = {"benchmark_filename": ["train", "valid", "test"], "load_col": None}
    dataset, loaders = make_loaders(config_of(tmp_path, dataset="split", train_samples="all_prefixes", **keys))
    for batch in [*loaders[0], *(each[0] for each in loaders[2])]:
        check(frame, dataset, batch)
    assert isinstance(dataset.config, Config)


@pytest.mark.slow
def test_scaling_measures_models_with_columns(tmp_path, frame):
    sizes = [f"--{key}={DEFAULTS[key]}" for key in ("hidden_size", "d_state", "num_layers", "d_conv")]
    given = [*sizes, "--use_gpu=False", f"--out={tmp_path / 'found'}"]
    assert main(["scaling", "--models=Hourly", "--lengths=4,8", "--catalogues=none", *given]) == 0
    found = json.loads((tmp_path / "found" / "scaling.json").read_text())
    assert [point["size"] for point in found["lengths"]] == [4, 8]
