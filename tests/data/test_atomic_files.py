"""Are the files there, and have they what a run needs?"""

import numpy as np
import pandas as pd
import pytest
import torch
from atomic import interactions, make_config, make_loaders, make_splits, write_dataset

from recbole_ssm.data.atomic_files import check_atomic_files, find_datasets, read_header, read_plain_columns
from recbole_ssm.errors import InputError


def test_datasets_are_the_folders_with_a_file_of_their_own_name(tmp_path):
    for name in ("zeta", "alpha"):
        write_dataset(tmp_path, interactions(n_users=3), name)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "parts.train.inter").touch()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "another.inter").touch()
    (tmp_path / "file.inter").touch()
    assert find_datasets(tmp_path) == ["alpha", "parts", "zeta"]
    assert find_datasets(str(tmp_path)) == ["alpha", "parts", "zeta"]


def test_no_folder_holds_no_datasets(tmp_path):
    assert find_datasets(tmp_path / "none") == []


def test_a_good_file_passes(tiny):
    check_atomic_files(make_config(tiny))


def test_line_ends_of_windows_pass(tmp_path):
    frame = interactions()
    file = write_dataset(tmp_path, frame)
    expected = make_splits(make_config(tmp_path))[0].history
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert torch.equal(make_splits(make_config(tmp_path))[0].history, expected)


def test_columns_may_have_other_names_and_another_order(tmp_path):
    frame = interactions()
    write_dataset(tmp_path, frame)
    expected = make_splits(make_config(tmp_path))[0].history
    renamed = frame.rename(columns={"user_id": "who", "item_id": "what", "timestamp": "when"})
    renamed.insert(1, "comment", "nothing")
    write_dataset(tmp_path, renamed[["when", "what", "comment", "who"]], "renamed")
    names = {"USER_ID_FIELD": "who", "ITEM_ID_FIELD": "what", "TIME_FIELD": "when"}
    config = make_config(tmp_path, dataset="renamed", **names)
    dataset, splits = make_splits(config)
    assert torch.equal(dataset.history, expected)
    assert "what_list" in splits[0][torch.tensor([0])]


def test_another_separator(tmp_path):
    file = write_dataset(tmp_path, interactions())
    expected = make_splits(make_config(tmp_path))[0].history
    file.write_text(file.read_text().replace("\t", ","))
    assert torch.equal(make_splits(make_config(tmp_path, field_separator=","))[0].history, expected)
    with pytest.raises(InputError, match="user_id:token"):
        check_atomic_files(make_config(tmp_path))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("user:token\titem_id:token\ttimestamp:float", ["user_id:token", "users", "USER_ID_FIELD", "'user:token"]),
        ("user_id:token\titem:token\ttimestamp:float", ["item_id:token", "items", "ITEM_ID_FIELD"]),
        ("user_id:token\titem_id:token\ttime:float", ["timestamp:float", "order", "TIME_FIELD"]),
        ("user_id:token\titem_id:token\ttimestamp:token", ["timestamp:float", "not timestamp:token"]),
        ("user_id:float\titem_id:token\ttimestamp:float", ["user_id:token", "not user_id:float"]),
        ("user_id\titem_id\ttimestamp", ["user_id:token"]),
    ],
    ids=["user", "item", "time", "time_as_words", "user_as_numbers", "no_types"],
)
def test_a_wrong_header_is_named_with_what_it_should_be(tmp_path, header, words):
    file = write_dataset(tmp_path, interactions(), header=header)
    with pytest.raises(InputError) as error:
        check_atomic_files(make_config(tmp_path))
    assert all(word in str(error.value) for word in [str(file), *words]), str(error.value)


def test_a_model_that_needs_no_order_needs_no_time(tmp_path):
    write_dataset(tmp_path, interactions()[["user_id", "item_id"]])
    check_atomic_files(make_config(tmp_path, "BPR", load_col={"inter": ["user_id", "item_id"]}))
    with pytest.raises(InputError, match="timestamp"):
        check_atomic_files(make_config(tmp_path))


def test_columns_that_are_not_loaded_are_named(tiny):
    with pytest.raises(InputError, match=r"load_col.*timestamp"):
        check_atomic_files(make_config(tiny, load_col={"inter": ["user_id", "item_id"]}))


def test_a_dataset_that_is_not_there_says_where_it_was_looked_for_and_what_is(tiny):
    with pytest.raises(InputError) as error:
        check_atomic_files(make_config(tiny, dataset="huge"))
    for word in ("'huge'", str(tiny / "huge"), "--data_path", "huge/huge.inter", "tiny", "ml-100k"):
        assert word in str(error.value)


def test_a_missing_file_is_named(tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty\.inter"):
        check_atomic_files(make_config(tmp_path, dataset="empty"))


def test_ready_made_splits_are_read_as_they_are(tmp_path):
    """``benchmark_filename``: histories stand in the files, and a model of this package takes them."""
    rows = [("u1", "a b c", "d"), ("u2", "b", "c"), ("u3", "d a", "b"), ("u4", "c d", "a")]
    for part, some in (("train", rows[:2]), ("valid", rows[2:3]), ("test", rows[3:])):
        frame = pd.DataFrame(some, columns=["user_id", "item_id_list", "item_id"])
        file = write_dataset(
            tmp_path,
            frame.assign(timestamp=1.0),
            header="user_id:token\titem_id_list:token_seq\titem_id:token\ttimestamp:float",
        )
        file.rename(file.with_name(f"tiny.{part}.inter"))
    keys = {
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": None,
        "alias_of_item_id": ["item_id_list"],
        "MAX_ITEM_LIST_LENGTH": 5,
    }
    dataset, (train, valid, test) = make_loaders(make_config(tmp_path, **keys))
    interaction, _, _, positive_i = next(iter(test))
    assert dataset.id2token("item_id", interaction["item_id_list"][0, :2].numpy()).tolist() == ["c", "d"]
    assert dataset.id2token("item_id", positive_i.numpy()).tolist() == ["a"]
    assert [len(loader._dataset) for loader in (train, valid, test)] == [2, 1, 1]
    (tmp_path / "tiny" / "tiny.valid.inter").unlink()
    with pytest.raises(InputError, match=r"tiny\.valid\.inter"):
        check_atomic_files(make_config(tmp_path, **keys))


def test_plain_columns_are_read_to_the_last_bit(tmp_path):
    """As pandas' Python parser, which RecBole uses, reads them; columns that are not wanted are left out."""
    numbers = [0.1, 1 / 3, 978300760.0, 1e-310, 123456789012345678.0, float("nan")]
    frame = pd.DataFrame(
        {"user:token": ["007", "é b", "1.0", "NaNa", "x", "-"], "n:float": numbers, "t:token_seq": "a b"}
    )
    frame.to_csv(tmp_path / "a.inter", sep="\t", index=False)
    assert read_header(tmp_path / "a.inter", "\t", "utf-8") == {"user": "token", "n": "float", "t": "token_seq"}
    read = read_plain_columns(tmp_path / "a.inter", {"user": "token", "n": "float"}, "\t", "utf-8")
    types = {"user:token": str, "n:float": np.float64}
    expected = pd.read_csv(tmp_path / "a.inter", delimiter="\t", usecols=list(types), dtype=types, engine="python")
    assert list(read) == ["user", "n"]
    assert read["user"].tolist() == expected["user:token"].tolist() == frame["user:token"].tolist()
    assert read["n"].to_numpy().tobytes() == expected["n:float"].to_numpy().tobytes()


def test_a_value_that_is_no_number_is_named_with_its_line(tmp_path):
    (tmp_path / "a.inter").write_text("user:token\tn:float\nu\t1\nv\t\nw\tsoon\n")
    with pytest.raises(InputError, match=r"a.inter, line 4: column n:float holds 'soon'"):
        read_plain_columns(tmp_path / "a.inter", {"user": "token", "n": "float"}, "\t", "utf-8")
