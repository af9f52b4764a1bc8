"""A DataFrame becomes a data set that training reads: names exact, times in seconds, rows filtered."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from atomic import make_config

import recbole_ssm
from recbole_ssm.checkpoints import reading
from recbole_ssm.data import create_dataset
from recbole_ssm.errors import InputError

CLICKS = pd.DataFrame(
    {
        "customer": ["anna", "anna", "007", "007", "007"],
        "product": ["Blue mug", 'Tea "Earl Grey"', "tab\tbed", "NA", "NA"],
        "time": ["2026-11-02 09:15:00", "2026-11-02T09:16:30+02:00", "2026-11-03", *["2026-11-03 18:40:13"] * 2],
        "event": ["view", "buy", "buy", "view", "view"],
    }
)


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def read_back(found: recbole_ssm.data.importing.ImportedData) -> list[tuple]:
    """Users, items and times of a data set, as training reads them."""
    dataset = create_dataset(make_config(Path(found.data_path), dataset=found.name), packed=True, samples=False)
    feat = dataset.inter_feat
    names = [dataset.id2token(field, feat[field]).tolist() for field in ("user_id", "item_id")]
    return list(zip(*names, feat["timestamp"].tolist(), strict=True))


def test_names_and_times_are_exact_and_the_same_rows_are_imported_once():
    found = recbole_ssm.from_dataframe(CLICKS)
    assert read_back(found) == [
        ("anna", 'Tea "Earl Grey"', 1793603790),
        ("anna", "Blue mug", 1793610900),
        ("007", "tab\tbed", 1793664000),
        ("007", "NA", 1793731213),
    ]
    assert found.report["guessed"] == ["user", "item", "time"] and found.report["other columns"] == ["event"]
    assert found.report["rows"]["duplicates"] == 1
    again = recbole_ssm.from_dataframe(CLICKS)
    assert again == found and "4 interactions, 2 users, 4 items" in repr(again)


def test_the_report_says_how_later_tables_are_read():
    """One of an earlier version does not: the same rows are imported again. One that was altered is not believed."""
    found = recbole_ssm.from_dataframe(CLICKS, where="event = buy", k_core=1, items_id="product")
    expected = {"where": "event = buy", "user": "customer", "item": "product", "time": "time"}
    dataset = SimpleNamespace(config={"data_path": str(found.folder)})
    assert found.report["reading"] == reading.of_import(dataset) == expected
    file = found.folder / "import-report.json"
    for forged in ({"file": "x"}, [1], "x", None, {"session_gap": "x"}):
        file.write_text(json.dumps(found.report | {"reading": forged}))
        assert reading.of_import(dataset) == {}
    file.write_text(json.dumps({key: value for key, value in found.report.items() if key != "reading"}))
    assert reading.of_import(dataset) == {}
    assert recbole_ssm.from_dataframe(CLICKS, where="event = buy", k_core=1, items_id="product") == found
    assert reading.of_import(dataset) == expected


BASE = 1_700_000_000


@pytest.mark.parametrize(
    ("times", "seconds", "text"),
    [
        (np.array([BASE, BASE + 0.5]), [BASE, BASE + 0.5], "numbers, taken for seconds"),
        (np.array([BASE * 1000, BASE * 1000 + 500]), [BASE, BASE + 0.5], "numbers, taken for milliseconds"),
        (np.array([BASE * 10**6, BASE * 10**6 + 1]), [BASE, BASE + 1e-6], "numbers, taken for microseconds"),
        ([str(BASE), str(BASE + 1)], [BASE, BASE + 1], "numbers, taken for seconds"),
        ([1, 2], [1, 2], "numbers that are too small for dates"),
        ([-5, 3], [-5, 3], "numbers that are too small for dates"),
        (pd.to_datetime(["2023-11-14 22:13:20", "2023-11-14 22:13:21"]), [BASE, BASE + 1], "dates"),
        (pd.to_datetime(["2023-11-14 23:13:20+01:00", "2023-11-14 23:13:21+01:00"]), [BASE, BASE + 1], "dates"),
        (["2023-11-14T22:13:20Z", "2023-11-14 22:13:21"], [BASE, BASE + 1], "dates"),
        (["2023-11-14T23:13:21.25+01:00", "2023-11-14 22:13:21"], [BASE + 1, BASE + 1.25], "dates"),
    ],
)
def test_times_of_every_kind_become_seconds(times, seconds, text):
    frame = pd.DataFrame({"user": ["a", "a"], "item": ["x", "y"], "time": times})
    found = recbole_ssm.from_dataframe(frame)
    assert [row[2] for row in read_back(found)] == seconds
    assert found.report["times"] == text


@pytest.mark.parametrize("kind", ["category", "string", "Int64", "Float64", "arrow"])
def test_columns_of_every_type_of_pandas_are_read(kind):
    if kind == "arrow":
        pa = pytest.importorskip("pyarrow")
        types = {"user": pd.ArrowDtype(pa.int64()), "time": pd.ArrowDtype(pa.timestamp("us"))}
    else:
        types = {"user": kind, "time": "string" if kind == "category" else "datetime64[ns]"}
    frame = pd.DataFrame({"user": [7, 7, 8], "item": ["x", "y", "x"], "time": pd.to_datetime(["2026-11-02"] * 3)})
    frame = frame.astype({"user": "int64" if kind != "string" else str}).astype(types).set_axis([5, 5, 5])
    found = recbole_ssm.from_dataframe(frame, items=pd.DataFrame({"item": ["x", "y"]}, index=[1, 1]))
    assert read_back(found) == [("7", "x", 1793577600), ("7", "y", 1793577600), ("8", "x", 1793577600)]
    assert found.report["table of items"]["without a row"] == 0


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"customer": None}, {}, r"5 of 5 rows cannot be used: row 0 \(from 0\): no user.*keep_default_na=False"),
        ({"time": [BASE, BASE, BASE * 1000, None, np.inf]}, {}, r"3 of 5 rows .*row 2 \(from 0\): no time"),
        ({"time": "soon"}, {}, "'time' holds no times that can be read, for example 'soon'"),
        ({"product": 1.5}, {}, "'product' holds 1.5; names must be words or whole numbers"),
        ({"product": [[1]] * 5}, {}, "'product' holds lists"),
        ({"product": "[PAD]"}, {}, "no item that can be used"),
        ({"product": "a\0b"}, {}, "no item that can be used"),
        ({"product": "\ud83d"}, {}, "no item that can be used"),  # as JSON has where a text was cut
        ({"product": pd.Timestamp(0)}, {}, "'product' is of type datetime64"),
        ({}, {"user": "product", "item": "product"}, "given as user and as item"),
        ({}, {"user": "custmer"}, "no column 'custmer'. Did you mean customer?"),
        ({}, {"where": "evnt=buy"}, "no column 'evnt'. Did you mean event?"),
        ({}, {"where": "event>buy"}, "'buy' must be a number"),
        ({}, {"where": "time>nan"}, "'nan' must be a number or a date"),
        ({}, {"where": "event"}, "must be like event=purchase"),
        ({}, {"where": "event=sale"}, "no row is left of 5; left out: 5 by where"),
        ({}, {"k_core": 9}, "left out: 1 as duplicates, 4 of users or items with too few"),
        ({}, {"k_core": 0}, "k_core must be"),
        ({}, {"duplicates": "some"}, "duplicates must be one of"),
        ({}, {"session_gap": -1}, "session_gap must be"),
        ({}, {"time_zone": "Mars"}, "time_zone 'Mars' is unknown"),
        ({}, {"k_cor": 2}, "no option 'k_cor'. Did you mean k_core?"),
        ({}, {"name": "../up"}, "the name of a data set must be"),
        ({}, {"name": "ml-100k"}, "comes with RecBole"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error_and_leaves_nothing(change, options, message):
    with pytest.raises(InputError, match=message):
        recbole_ssm.from_dataframe(CLICKS.assign(**change), **options)
    assert not list(Path().glob("dataset/*"))


def test_an_earlier_data_set_is_replaced_only_where_asked_and_only_if_it_was_imported():
    recbole_ssm.from_dataframe(CLICKS, "shop")
    with pytest.raises(InputError, match=r"dataset.shop exists"):
        recbole_ssm.from_dataframe(CLICKS, "shop")
    assert len(read_back(recbole_ssm.from_dataframe(CLICKS[:2], "shop", overwrite=True))) == 2
    Path("dataset/shop/import-report.json").unlink()
    with pytest.raises(InputError, match="was not made by an import"):
        recbole_ssm.from_dataframe(CLICKS, "shop", overwrite=True)
    assert [file.name for file in Path("dataset").iterdir()] == ["shop"]
