"""Intervals and values to filter by: a wrong one is refused in one sentence before anything is read."""

import pytest
from atomic import interactions, make_config, write_dataset

from recbole_ssm.config.intervals import check_interval
from recbole_ssm.data import create_dataset
from recbole_ssm.data.atomic_files import check_atomic_files
from recbole_ssm.errors import InputError

RIGHT = ["[3,inf)", "(-inf, 5.5]", " [ 1e-1 ,2 ) ", "[0,1];(2,3]", "[4,4]", "[-3,-1]", [3, 5]]
WRONG = [">=3", "3", 3, "[3,5", "[3;inf)", "[3,)", "", "[,]", "[nan,3]", "[1,2,3]", "[0,1];", True, {}, "3,5", None]
HOLDS_NOTHING = ["[5,3]", "(3,3]", "[3,3)", "[0,1];[9,8]", "[inf,-inf]"]


@pytest.mark.parametrize("value", RIGHT, ids=str)
def test_intervals_as_recbole_writes_them_are_taken(value):
    check_interval("k", value)


@pytest.mark.parametrize("value", WRONG, ids=str)
def test_what_is_none_is_refused(value):
    with pytest.raises(InputError) as error:
        check_interval("val_interval: rating", value)
    assert str(error.value) == f"val_interval: rating must be like '[3,inf)', but is {value!r}"


@pytest.mark.parametrize("value", HOLDS_NOTHING)
def test_an_interval_without_numbers_is_refused(value):
    with pytest.raises(InputError, match="no number lies within"):
        check_interval("k", value)


@pytest.mark.parametrize("model", ["2Mamba4Rec", "CKE"])
@pytest.mark.parametrize(
    "key", ["user_inter_num_interval", "item_inter_num_interval", "entity_kg_num_interval", "relation_kg_num_interval"]
)
def test_all_intervals_of_numbers_are_checked(tiny, model, key):
    for value in ("5", "[9,2]"):
        with pytest.raises(InputError, match=key):
            make_config(tiny, model, **{key: value})
    for value in ("[2,inf)", "[2,9]", [2, 9]):
        make_config(tiny, model, **{key: value})


@pytest.fixture
def rated(tmp_path):
    """A folder with interactions that have ratings 1 to 5, and items with a colour and with tags."""
    frame = interactions()
    frame["rating"] = [1.0 + row % 5 for row in range(len(frame))]
    write_dataset(tmp_path, frame)
    lines = [f"i{number}\t{'red' if number % 2 else 'NA'}\ta b" for number in range(40)]
    (tmp_path / "tiny" / "tiny.item").write_text(
        "\n".join(["item_id:token\tcolour:token\ttags:token_seq", *lines, ""]), encoding="utf-8"
    )
    return tmp_path


READ = {"inter": ["user_id", "item_id", "timestamp", "rating"], "item": ["item_id", "colour", "tags"]}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR"])
@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        ({"rating": "[3,inf)"}, lambda row: row.rating >= 3),
        ({"rating": "[1,1];(4,5]"}, lambda row: row.rating in (1, 5)),
        ({"rating": [2, 3]}, lambda row: 2 <= row.rating <= 3),
        ({"colour": ["NA"]}, lambda row: int(row.item_id[1:]) % 2 == 0),
        ({"item_id": ("i1", "i2")}, lambda row: row.item_id in ("i1", "i2")),
    ],
    ids=lambda value: "" if callable(value) else str(value),  # a function's words differ between processes
)
def test_what_lies_within_is_kept(rated, model, wanted, kept):
    config = make_config(rated, model, val_interval=wanted, load_col=READ)
    dataset = create_dataset(config, packed=config.is_packed, samples=False)
    frame = interactions()
    frame["rating"] = [1.0 + row % 5 for row in range(len(frame))]
    expected = sorted(row.timestamp for row in frame.itertuples() if kept(row))
    assert 0 < len(expected) < len(frame)
    assert sorted(dataset.inter_feat["timestamp"]) == expected


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("wanted", "read", "words"),
    [
        ({"rating": ">=3"}, READ, ["val_interval: rating must be like '[3,inf)', but is '>=3'"]),
        ({"rating": "[5,3]"}, READ, ["val_interval: rating is '[5,3]'", "lower end comes first"]),
        ({"rating": ["3"]}, READ, ["val_interval: rating must be like"]),
        ({"rating": "[3,inf)"}, {"inter": READ["inter"][:3]}, ["column rating of tiny.inter", "add it to load_col"]),
        ({"colour": ["red"]}, {"inter": READ["inter"]}, ["column colour of tiny.item", "add it to load_col"]),
        ({"item_id": "i1"}, READ, ["item_id must be a list of names", "but is 'i1'"]),
        ({"item_id": "[1,3]"}, READ, ["item_id must be a list of names"]),
        ({"item_id": [1, 2]}, READ, ["item_id must be a list of names", "but is [1, 2]"]),
        ({"tags": ["a"]}, READ, ["tags:token_seq holds lists"]),
        ({"ratng": "[3,inf)"}, READ, ["no column 'ratng' in tiny.inter, tiny.item", "Did you mean rating?"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR"])
def test_what_cannot_be_filtered_by_is_refused(rated, model, wanted, read, words):
    with pytest.raises(InputError) as error:
        check_atomic_files(make_config(rated, model, val_interval=wanted, load_col=read))
    assert all(word in str(error.value) for word in words), str(error.value)
