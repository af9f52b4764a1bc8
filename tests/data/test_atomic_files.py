"""The checks of atomic files: a missing or malformed one is refused in one sentence."""

import gzip

import numpy as np
import pandas as pd
import pytest
import torch
from atomic import interactions, make_config, make_loaders, make_splits, write_dataset

from recbole_ssm.data import create_dataset
from recbole_ssm.data.atomic_files import check_atomic_files, find_datasets
from recbole_ssm.data.reading import read_columns, read_header
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


@pytest.mark.parametrize("column", ["readout", "cu_seqlens"])
def test_a_column_with_the_name_of_a_field_of_batches_is_refused(tmp_path, column):
    write_dataset(tmp_path, interactions().assign(**{column: 1.0}))
    assert len(make_splits(make_config(tmp_path))[0].history)  # where it is not loaded, it is in nobody's way
    with pytest.raises(InputError, match=f"dataset 'tiny': a column '{column}' would be taken.*unload_col"):
        make_splits(make_config(tmp_path, load_col=None))


def test_a_dataset_that_is_not_there_says_where_it_was_looked_for_and_what_is(tiny):
    with pytest.raises(InputError) as error:
        check_atomic_files(make_config(tiny, dataset="huge"))
    for word in ("'huge'", str(tiny / "huge"), "--data_path", "huge/huge.inter", "tiny", "ml-100k"):
        assert word in str(error.value)


def test_a_missing_file_is_named(tiny, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty\.inter is missing; the folder holds nothing"):
        check_atomic_files(make_config(tmp_path, dataset="empty"))
    (tmp_path / "empty" / "empty.csv").touch()
    with pytest.raises(InputError, match=r"empty\.inter is missing; the folder holds empty\.csv"):
        check_atomic_files(make_config(tmp_path, dataset="empty"))


def test_plain_columns_are_read_to_the_last_bit(tmp_path):
    """As pandas' Python parser, which RecBole uses, reads them; columns that are not wanted are left out."""
    numbers = [0.1, 1 / 3, 978300760.0, 1e-310, 123456789012345678.0, float("nan")]
    frame = pd.DataFrame(
        {"user:token": ["007", "é b", "1.0", "NaNa", "x", "-"], "n:float": numbers, "t:token_seq": "a b"}
    )
    frame.to_csv(tmp_path / "a.inter", sep="\t", index=False)
    assert read_header(tmp_path / "a.inter", "\t", "utf-8") == {"user": "token", "n": "float", "t": "token_seq"}
    read = read_columns(tmp_path / "a.inter", {"user": "token", "n": "float"}, "\t", "utf-8")
    types = {"user:token": str, "n:float": np.float64}
    expected = pd.read_csv(tmp_path / "a.inter", delimiter="\t", usecols=list(types), dtype=types, engine="python")
    assert list(read) == ["user", "n"]
    assert read["user"].tolist() == expected["user:token"].tolist() == frame["user:token"].tolist()
    assert read["n"].to_numpy().tobytes() == expected["n:float"].to_numpy().tobytes()


HEADER = "user_id:token\titem_id:token\ttimestamp:float"
LINES = [f"u{line % 7}\ti{line % 5}\t{978300000 + line}" for line in range(60)]


def text(*lines: str, header: str = HEADER, at: int = 10) -> bytes:
    """A good file, with some lines before its line ``at + 2``."""
    return "\n".join([header, *LINES[:at], *lines, *LINES[at:], ""]).encode()


MALFORMED = {
    "empty": (b"", ["is empty", "user_id:token"]),
    "only a line end": (b"\n", ["is empty"]),
    "only a header": (HEADER.encode() + b"\n", ["is empty after filtering"]),
    "binary": (bytes(range(256)), ["is not a text in UTF-8", "--encoding"]),
    "another encoding": (text("u1\tü\t978300000").decode().encode("latin-1"), ["UTF-8", "latin-1"]),
    "compressed": (gzip.compress(text()), ["is not a text"]),
    "UTF-16": (text().decode().encode("utf-16"), ["is not a text"]),
    "another separator": (text().replace(b"\t", b","), ["user_id:token"]),
    "a column twice": (text().replace(b"timestamp:float", b"timestamp:float\titem_id:token"), ["item_id", "once"]),
    "a line too short": (text("u1\ti1"), ["line 12", "2 columns", "3"]),
    "a line too long": (text("u1\ti1\t978300000\tx"), ["line 12", "4 columns"]),
    "one too short, one too long": (text("u1\ti1", "u1\ti1\t978300000\tx"), ["line 12", "timestamp"]),
    "cut off": (text()[:-14], ["line 61"]),
    "no time": (text("u1\ti1\t"), ["line 12", "timestamp", "give it a time"]),
    "no times": (text("u1\ti1\t", "u1\ti1\t"), ["line 12", "1 other line"]),
    "NaN for a time": (text("u1\ti1\tnan"), ["line 12", "timestamp:float holds 'nan'", "leave the field empty"]),
    "NA for a time": (text("u1\ti1\tNA"), ["line 12", "'NA'"]),
    "infinite time": (text("u1\ti1\tinf"), ["line 12", "inf"]),
    "a word for a time": (text("u1\ti1\tsoon"), ["line 12", "'soon'"]),
    "a date for a time": (text("u1\ti1\t2001-01-01"), ["line 12", "'2001-01-01'"]),
    "a quotation mark": (text('u1\t"i1\t978300000'), ["cannot be read", "quotation mark"]),
    "an unknown type": (text(header=HEADER.replace("float", "flaot")), ["timestamp:float", "timestamp:flaot"]),
    "a space behind a type": (text(header=HEADER.replace("token", "token ")), ["user_id:token"]),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
@pytest.mark.parametrize(("content", "words"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_file_is_one_sentence(tmp_path, model, content, words):
    """The same for RecBole's models, before RecBole reads it."""
    write_dataset(tmp_path, interactions()).write_bytes(content)
    with pytest.raises(InputError) as error:
        create_dataset(make_config(tmp_path, model), packed=model != "SASRec")
    assert all(word in str(error.value) for word in words), str(error.value)
    assert len(str(error.value).splitlines()) == 1


WELL_FORMED = {
    "as it is": text(),
    "a mark of UTF-8 before it": b"\xef\xbb\xbf" + text(),
    "line ends of Windows": text().replace(b"\n", b"\r\n"),
    "no end of the last line": text()[:-1],
    "lines in another order": "\n".join([HEADER, *reversed(LINES)]).encode(),
    "blank lines": text("", ""),
    "times before 1970": text().replace(b"\t9783", b"\t-9783"),
}


@pytest.mark.parametrize("content", WELL_FORMED.values(), ids=WELL_FORMED)
def test_what_is_unusual_but_clear_is_read(tmp_path, content):
    write_dataset(tmp_path, interactions()).write_bytes(content)
    _, splits = make_splits(make_config(tmp_path, time_order="exact"))
    lines = [line.split("\t") for line in content.decode("utf-8-sig").splitlines()[1:] if line]
    lines.sort(key=lambda line: float(line[2]))
    expected = [item for user in splits[0].id2token("user_id", range(1, 8)) for u, item, _ in lines if u == user]
    assert splits[0].id2token("item_id", splits[0].history.numpy()).tolist() == expected


@pytest.mark.parametrize("name", ["two words ", "日本", "é" * 300, "-1", "0", "1e5", "[PAD]", "'", "a,b;c|d"])
def test_names_of_items_are_any_words(tmp_path, name):
    write_dataset(tmp_path, interactions()).write_bytes(text().replace(b"\ti1\t", f"\t{name}\t".encode()))
    _, splits = make_splits(make_config(tmp_path))
    found = splits[0].id2token("item_id", splits[0].history.numpy()).tolist()
    assert found.count(name) == 12


@pytest.mark.slow
def test_a_history_longer_than_16_bits_count(tmp_path):
    """One user with 70,000 interactions, which two batches hold: the training and the test history."""
    rows = range(70_000)
    frame = pd.DataFrame({"user_id": "u", "item_id": [f"i{row % 50}" for row in rows], "timestamp": map(float, rows)})
    write_dataset(tmp_path, frame)
    _, (train, _, test) = make_loaders(make_config(tmp_path))
    (batch,) = train
    assert len(batch["item_id_list"]) == len(batch["item_id"]) == 69_997
    ((interaction, *_),) = test
    assert interaction["cu_seqlens"].tolist() == [0, 69_999]


def test_items_that_only_the_test_holds_are_ranked_like_all_others(tmp_path):
    frame = interactions()
    last = frame.sort_values("timestamp").groupby("user_id").tail(1).index
    frame.loc[last[0], "item_id"] = "unheard of"
    write_dataset(tmp_path, frame)
    dataset, (_, _, test) = make_loaders(make_config(tmp_path))
    number = dataset.token2id("item_id", "unheard of")
    targets = torch.cat([positive_i for *_, positive_i in test])
    assert (targets == number).sum() == 1


def test_a_value_that_is_no_number_is_named_with_its_line(tmp_path):
    (tmp_path / "a.inter").write_text("user:token\tn:float\nu\t1\nv\t\nw\tsoon\n")
    with pytest.raises(InputError, match=r"a.inter, line 4: column n:float holds 'soon'"):
        read_columns(tmp_path / "a.inter", {"user": "token", "n": "float"}, "\t", "utf-8")


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "FM"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"seq_len": {"item_id_list": 5}}, "seq_len: there is no column 'item_id_list' .* MAX_ITEM_LIST_LENGTH"),
        ({"seq_len": {"item": 5}}, r"seq_len: there is no column 'item' in tiny\.inter"),
        ({"threshold": {"ratng": 3}}, "threshold: there is no column 'ratng'"),
        (
            {"preload_weight": {"item_idd": "vector"}},
            "preload_weight: there is no column 'item_idd'.*Did you mean item_id",
        ),
        (
            {"numerical_features": ["timestmp"]},
            "numerical_features: there is no column 'timestmp'.*Did you mean timestamp",
        ),
        ({"discretization": {"prices": {"method": "LD"}}}, "discretization: there is no column 'prices'"),
    ],
)
def test_columns_that_keys_name_are_there(tmp_path, model, given, words):
    """Where the model reads the key at all, and else that is said."""
    write_dataset(tmp_path, interactions())
    config = make_config(tmp_path, model, **given)
    (key,) = given
    if key in config.passed_over:
        check_atomic_files(config)
    else:
        with pytest.raises(InputError, match=words):
            check_atomic_files(config)
    assert key not in config.passed_over or key != "seq_len"


@pytest.mark.parametrize("value", [3, 0, True, "item", ["item"], {"item": "3"}, {"item": 0}, {"item": None}])
def test_seq_len_must_be_lengths_of_columns(tmp_path, value):
    frame = interactions().assign(item="a b")
    write_dataset(tmp_path, frame, header="user_id:token\titem_id:token\ttimestamp:float\titem:token_seq")
    with pytest.raises(InputError, match=r"seq_len.* must be .*but is "):
        check_atomic_files(make_config(tmp_path, "SASRec", load_col=None, seq_len=value))
    check_atomic_files(make_config(tmp_path, "SASRec", load_col=None, seq_len={"item": 1}))


def test_a_column_that_a_key_names_is_read(tmp_path):
    write_dataset(tmp_path, interactions().assign(price=1.0))
    given = {"numerical_features": ["price"], "load_col": {"inter": ["user_id", "item_id"]}}
    with pytest.raises(InputError, match=r"numerical_features: column price of tiny\.inter is not read; add it"):
        check_atomic_files(make_config(tmp_path, "FM", **given))
    check_atomic_files(make_config(tmp_path, "FM", **given | {"load_col": None}))
