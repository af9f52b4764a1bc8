"""Recommendations to all users, some at a time, are those to each of them."""

import csv
from itertools import pairwise

import numpy as np
import pytest
from made import made_checkpoint
from torch.testing import assert_close

from recbole_ssm import InputError, Recommender
from recbole_ssm.serving import everybody
from recbole_ssm.serving.everybody import known_part, recommend_to_all
from recbole_ssm.serving.output import table_in
from recbole_ssm.serving.user_histories import UserHistories

NAMES = np.array(["[PAD]", "new", *(f"i{number}" for number in range(40, 0, -1))], dtype=object)
ADDITIONS = {"repeat_bias": True, "transition_memory": True, "memory_items": 3}


def some_histories(lengths=(3, 1, 9, 2, 30, 4), unknown=()):
    draw = np.random.default_rng(0)
    items = draw.integers(2, 42, sum(lengths))
    items[list(unknown)] = 1
    users = np.array([f"u{user}" for user in range(len(lengths))], dtype=object)
    times = {"timestamp": draw.integers(0, 9, sum(lengths)).cumsum().astype(np.float64)}
    return UserHistories(users, np.concatenate([[0], np.cumsum(lengths)]), items, NAMES, times)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("filter_seen", [False, True])
@pytest.mark.parametrize(
    ("model", "keys", "config"),
    [
        ("2Mamba4Rec", ADDITIONS, {}),
        ("LRURec", {"time_gaps": True}, {}),
        ("SSD4Rec", {}, {"MAX_ITEM_LIST_LENGTH": 4}),
    ],
)
def test_each_user_gets_what_he_gets_alone(tmp_path, monkeypatch, model, keys, config, filter_seen):
    recommender = Recommender(
        made_checkpoint(tmp_path / "m.pth", model, config=config, **keys), filter_seen=filter_seen
    )
    read = some_histories(unknown=(0, 3, 7))
    known = known_part(recommender, read)
    assert known.note == (
        "3 of 49 interactions are of items that the model does not know, and are passed over; 1 of 6 users have no "
        "others, and get none"
    )
    monkeypatch.setattr(everybody, "_TOKENS", 12)
    monkeypatch.setattr(everybody, "_SCORES", 41 * 2)
    parts = list(recommend_to_all(recommender, known, 38))
    assert [last for last, _ in parts] == [2, 3, 4, 5]
    rows = [row for _, some in parts for row in some]
    ranges = [slice(*pair) for pair in pairwise(read.borders)]
    histories = [read.item_names[read.items[each]].tolist() for each in ranges]
    times = [read.columns["timestamp"][each].tolist() for each in ranges]
    columns = {"timestamp": times} if recommender.columns else None
    found = recommender.recommend(histories, 38, skip_unknown=True, columns=columns)
    expected = [
        (user, rank, *item) for user, items in zip(read.users, found, strict=True) for rank, item in enumerate(items, 1)
    ]
    assert [row[:3] for row in rows] == [row[:3] for row in expected]
    assert_close([row[3] for row in rows], [row[3] for row in expected], rtol=1e-5, atol=1e-5)
    some = read.of(["u4", "u0"])
    assert some.item_names[some.items].tolist() == histories[4] + histories[0]
    assert some.columns["timestamp"].tolist() == times[4] + times[0]


def test_who_is_not_there_is_refused(tmp_path):
    with pytest.raises(InputError, match="no user 'x'"):
        some_histories().of(["u1", "x"])
    recommender = Recommender(made_checkpoint(tmp_path / "m.pth", "LRURec"))
    with pytest.raises(InputError, match="knows none of the items"):
        known_part(recommender, some_histories((2,), unknown=(0, 1)))


@pytest.mark.parametrize(("ending", "separator"), [("csv", ","), ("inter", "\t")])
def test_names_with_line_breaks_of_any_kind_are_read_back(tmp_path, ending, separator):
    names = ["a\rb", "a\nb", "a\r\nb", "a\tb", 'a "b"', "a,b", "plain\r", "\r\n"]
    file = tmp_path / f"best.{ending}"
    with table_in(file, ["user", "rank", "item", "score"]) as table:
        table.write([(name, 1, name, 0.5) for name in names])
    with file.open(newline="", encoding="utf-8") as text:
        assert [row[2] for row in csv.reader(text, delimiter=separator)][1:] == names
    assert file.read_bytes().endswith(b",0.5\n" if ending == "csv" else b"\t0.5\n")


@pytest.mark.parametrize("name", ["best.csv", "best.jsonl.gz", "best.json", "best.parquet"])
def test_after_an_error_a_file_is_as_it_was(tmp_path, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    file = tmp_path / name
    file.write_text("before")
    with pytest.raises(ZeroDivisionError), table_in(file, ["user", "rank", "item", "score"]) as table:
        table.write([("u", 1, "i", 0.5)] * 3)
        1 / 0  # noqa: B018
    assert file.read_text() == "before" and list(tmp_path.iterdir()) == [file]
