"""The dataset cache gives the same dataset as the files, and only for the same files and settings."""

import logging

import pytest
import torch
from atomic import LEAVE_ONE_OUT, ML_100K, interactions, make_config, make_splits, write_dataset
from recbole.data.dataset import Dataset

from recbole_ssm.data import PackedDataset, cache
from recbole_ssm.errors import InputError
from recbole_ssm.system import state_file


def assert_same_dataset(found, expected) -> None:
    """Equal to the last bit: numbers of users and items, fields, and every split with its histories."""
    (dataset, splits), (other, other_splits) = found, expected
    assert str(dataset) == str(other)
    for name in ("field2type", "field2source", "field2seqlen", "field2bucketnum", "field2token_id"):
        assert getattr(dataset, name) == getattr(other, name), name
    for one, two in zip(splits, other_splits, strict=True):
        rows = torch.arange(len(two))
        a, b = one[rows], two[rows]
        assert a.columns == b.columns
        assert all(torch.equal(a[field], b[field]) for field in b.columns)


@pytest.fixture
def tiny(tmp_path):
    """A dataset in random order of lines, some times equal, and items with a number and a word each."""
    frame = interactions(n_users=30, step=1)
    frame["timestamp"] = (frame["timestamp"] / 7).round()
    write_dataset(tmp_path, frame)
    items = sorted(set(frame["item_id"]))
    lines = "".join(f"{item}\t{len(item)}.5\tg{number % 3}\n" for number, item in enumerate(items))
    (tmp_path / "tiny" / "tiny.item").write_text("item_id:token\tprice:float\tgenre:token\n" + lines)
    return tmp_path


def no_reading(monkeypatch) -> None:
    """From here on a dataset that is read from its files is an error."""

    def refuse(*_):
        raise AssertionError("read from the files")

    for kind in (PackedDataset, Dataset):
        monkeypatch.setattr(kind, "_load_feat", refuse)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("time_order", ["recbole", "exact"])
@pytest.mark.parametrize("with_items", [False, True])
def test_what_is_kept_is_what_was_read(tiny, monkeypatch, time_order, with_items):
    keys = {"time_order": time_order, "item_inter_num_interval": "[2,inf)", "MAX_ITEM_LIST_LENGTH": 8}
    if with_items:
        keys["load_col"] = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "price", "genre"]}
    expected = make_splits(make_config(tiny, **keys))
    first = make_splits(make_config(tiny, dataset_cache="kept", **keys))
    no_reading(monkeypatch)
    second = make_splits(make_config(tiny, dataset_cache="kept", **keys))
    assert_same_dataset(first, expected)
    assert_same_dataset(second, expected)
    assert ("genre" in second[1][0][torch.arange(2)]) == with_items


def test_normalised_times_are_kept(tiny, monkeypatch):
    keys = {"dataset": "ml-100k", "user_inter_num_interval": "[0,30]", "dataset_cache": "kept"}
    first = make_splits(make_config(ML_100K.parent.parent, **keys))
    no_reading(monkeypatch)
    assert_same_dataset(make_splits(make_config(ML_100K.parent.parent, **keys)), first)
    assert first[0].inter_num > 1000


def test_another_run_may_order_or_split_what_is_kept_in_its_own_way(tiny, monkeypatch):
    make_splits(make_config(tiny, dataset_cache="kept"))
    other = {
        "time_order": "exact",
        "eval_args": {"split": {"RS": [0.5, 0.25, 0.25]}, "group_by": "user", "order": "TO", "mode": "full"},
    }
    expected = make_splits(make_config(tiny, **other))
    no_reading(monkeypatch)
    assert_same_dataset(make_splits(make_config(tiny, dataset_cache="kept", **other)), expected)


def test_other_files_or_filters_are_read(tiny):
    make_splits(make_config(tiny, dataset_cache="kept"))
    file = tiny / "tiny" / "tiny.inter"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[:-1]) + "\n")  # same header, a line less
    dataset, _ = make_splits(make_config(tiny, dataset_cache="kept"))
    assert len(dataset.history) == len(lines) - 2
    filtered, _ = make_splits(make_config(tiny, dataset_cache="kept", user_inter_num_interval="[10,inf)"))
    assert len(filtered.history) < len(dataset.history)
    assert len(list((tiny / "kept").glob("tiny-*.pth"))) == 3


def test_a_damaged_file_is_read_anew_and_written_again(tiny, caplog):
    expected = make_splits(make_config(tiny, dataset_cache="kept"))
    (file,) = (tiny / "kept").iterdir()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert_same_dataset(make_splits(make_config(tiny, dataset_cache="kept")), expected)
    assert "the dataset is read from its files" in caplog.text
    caplog.clear()
    make_splits(make_config(tiny, dataset_cache="kept"))
    assert not caplog.text


def test_columns_of_sequences_are_not_kept(tiny, caplog):
    lines = (tiny / "tiny" / "tiny.item").read_text().splitlines()
    (tiny / "tiny" / "tiny.item").write_text("\n".join(["item_id:token\tprice:float\tgenre:token_seq", *lines[1:]]))
    columns = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "genre"]}
    with caplog.at_level(logging.WARNING):
        make_splits(make_config(tiny, dataset_cache="kept", load_col=columns))
    assert "only single values can be kept" in caplog.text
    assert not list((tiny / "kept").iterdir())


def test_a_folder_that_cannot_be_is_named(tiny):
    with pytest.raises(InputError, match=r"dataset_cache '.*tiny.inter' cannot be used"):
        make_splits(make_config(tiny, dataset_cache=str(tiny / "tiny" / "tiny.inter")))


OTHER_SPLIT = {
    "eval_args": {"split": {"RS": [0.5, 0.25, 0.25]}, "group_by": "user", "order": "TO", "mode": "full"},
    "time_order": "exact",
}
WITH_ITEMS = {"inter": ["user_id", "item_id", "timestamp"], "item": ["item_id", "price", "genre"]}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("key", [{"save_dataset": True}, {"dataset_cache": "kept"}], ids=lambda key: next(iter(key)))
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR", "FM"])
def test_datasets_of_all_kinds_of_models_are_kept_as_columns(tiny, monkeypatch, model, key):
    """And are split and ordered as the next run asks for."""
    same = {"load_col": WITH_ITEMS, "metrics": ["AUC"], "valid_metric": "AUC"} if model == "FM" else {}
    mode = {"mode": "labeled" if same else "full"}
    make_splits(make_config(tiny, model, **key, **same, eval_args=LEAVE_ONE_OUT | mode))
    other = same | OTHER_SPLIT | {"eval_args": OTHER_SPLIT["eval_args"] | mode}
    expected = make_splits(make_config(tiny, model, **other))
    no_reading(monkeypatch)
    found = make_splits(make_config(tiny, model, **key, **other))
    assert type(found[0]) is type(expected[0])
    assert_same_dataset(found, expected)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR"])
def test_a_saved_dataset_is_never_that_of_other_files(tiny, model):
    """Whether they grew, shrank or were altered, and whether the next run asks for a saved dataset or not."""
    file = tiny / "tiny" / "tiny.inter"
    lines = file.read_text().splitlines()
    for changed in (lines, [*lines, "somebody\ti1\t9e8", "somebody\ti2\t9e8"], lines[:-20], [*lines[:-1], "u0\tx\t1"]):
        file.write_text("\n".join(changed) + "\n")
        for keys in ({"save_dataset": True}, {}):
            dataset, _ = make_splits(make_config(tiny, model, **keys))
            assert dataset.field2token_id["item_id"].keys() - {"[PAD]"} == {line.split("\t")[1] for line in changed[1:]}
            assert dataset.field2token_id["user_id"].keys() - {"[PAD]"} == {line.split("\t")[0] for line in changed[1:]}


def test_what_cannot_be_kept_is_said_and_read(tiny, caplog):
    (tiny / "tiny" / "tiny.link").write_text("item_id:token\tentity_id:token\ni1\te1\ni2\te2\n")
    (tiny / "tiny" / "tiny.kg").write_text("head_id:token\trelation_id:token\ttail_id:token\ne1\tr\te2\ne2\tr\te1\n")
    for _ in range(2):
        caplog.clear()
        dataset, _ = make_splits(make_config(tiny, "CKE", save_dataset=True))
        assert "the dataset of CKE cannot be kept" in caplog.text
        assert dataset.item_num > 2


@pytest.mark.sampled(2)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
def test_a_file_that_is_made_up_is_read_anew(tiny, caplog, model):
    """Numbers of items that do not exist would point outside of arrays."""
    expected = make_splits(make_config(tiny, model))
    make_splits(make_config(tiny, model, dataset_cache="kept"))
    (file,) = (tiny / "kept").iterdir()
    honest = {key: value for key, value in state_file.read(file, format=cache.FORMAT).items() if "format" not in key}
    items = honest["frames"]["inter_feat"]["item_id"]
    for column in (items + 10**6, items - 5, items[:-3], items.view(-1, 1), "word", items.float() * torch.nan, None):
        interactions = {**honest["frames"]["inter_feat"], "item_id": column}
        made_up = {**honest, "frames": {**honest["frames"], "inter_feat": interactions}}
        state_file.write(file, made_up, format=cache.FORMAT)
        caplog.clear()
        assert_same_dataset(make_splits(make_config(tiny, model, dataset_cache="kept")), expected)
        assert "the dataset is read from its files" in caplog.text
    for made_up in ({}, {"frames": 1, "fields": 2}, honest | {"fields": {}}, honest | {"frames": {}}):
        state_file.write(file, made_up, format=cache.FORMAT)
        assert_same_dataset(make_splits(make_config(tiny, model, dataset_cache="kept")), expected)
