"""A table of items gets types, and the columns beside the data are what reading the text would give."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from atomic import interactions, make_config

from recbole_ssm.data import cache, create_dataset, loading
from recbole_ssm.data.importing import from_dataframe
from recbole_ssm.errors import InputError
from recbole_ssm.system import state_file

CLICKS = pd.DataFrame({"user": list("aab"), "movie": ["1", "2", "9"], "time": [5, 6, 7]})


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_columns_of_items_get_types_and_every_title_comes_back():
    titles = ['Toy "Story" (1995)', '"quoted"', "tab\tbed", "line\nbreak", "'t NA", "NA", None, " x  y ", "1,000", "#a"]
    items = pd.DataFrame(
        {
            "movie": range(1, 11),
            "title": titles,
            "genres": ["Comedy|Sci Fi", "Drama", None, *["a|b"] * 7],
            "tags": [["x", "y z"], [], *[["w"]] * 8],
            "price": [1.5, None, *[2] * 8],
            "code": ["007", *["1"] * 9],
            "year": ["1995", "", *["2000"] * 8],
            "new : one": [True] * 10,
        }
    )
    found = from_dataframe(CLICKS, "shop", items=items)
    assert found.report["table of items"] == {
        "rows": 10,
        "cannot be used": 0,
        "columns": "title:token genres:token_seq tags:token_seq price:float code:token year:float new_one:token",
        "without interactions": 7,
        "without a row": 0,
    }
    wanted = ["item_id", "title", "genres", "price", "code"]
    load = {"inter": ["user_id", "item_id", "timestamp"], "item": wanted}
    dataset = create_dataset(make_config(Path("dataset"), dataset="shop", load_col=load), packed=False, samples=False)
    rows = dataset.item_feat.set_index(dataset.id2token("item_id", dataset.item_feat["item_id"]))
    said = dict(zip(rows.index, dataset.id2token("title", rows["title"].astype(int)), strict=True))
    assert [said[str(number)] for number in range(1, 11)] == ["[PAD]" if title is None else title for title in titles]
    assert dataset.id2token("genres", rows.loc["1", "genres"]).tolist() == ["Comedy", "Sci_Fi"]
    assert rows.loc["1", "price"] == 1.5 and dataset.id2token("code", int(rows.loc["1", "code"])) == "007"


@pytest.mark.parametrize(
    ("items", "options", "message"),
    [
        (
            {"movie": ["1", "1"]},
            {},
            r"1 of 2 rows of the table of items .*: row 1 \(from 0\): an item",
        ),
        ({"movie": ["1", None]}, {}, r"row 1 \(from 0\): no item"),
        ({"what": ["1", "2"]}, {}, "name it with items_id"),
        ({"movie": ["1", "2"]}, {"items_id": "film"}, "items_id: there is no column 'film'"),
        ({"movie": ["1", "2"], "x": ["a", "b"]}, {"items_columns": {"x": "float"}}, "holds 'a', which is no number"),
        (
            {"movie": ["1", "2"], "x": ["a", "b"]},
            {"items_columns": {"x": "text"}},
            "the type of 'x' must be one of",
        ),
        ({"movie": ["1", "2"], "x": ["a", "b"]}, {"items_columns": {"y": "token"}}, "there is no column 'y'"),
        ({"movie": ["1", "2"], "timestamp": [1, 2]}, {}, "would be called 'timestamp'"),
    ],
)
def test_tables_of_items_that_cannot_be_used(items, options, message):
    with pytest.raises(InputError, match=message):
        from_dataframe(CLICKS, "shop", items=pd.DataFrame(items), **options)
    assert not list(Path().glob("dataset/*"))


def test_the_columns_beside_the_data_are_what_reading_its_text_keeps(monkeypatch):
    """For every model of packed histories; with other settings, or changed files, the text is read."""
    frame = interactions(n_users=12, n_items=15).astype({"item_id": object})
    frame.loc[:3, "item_id"] = ["NA", 'q"t', "tab\tbed", "007"]
    found = from_dataframe(frame, "shop", item="item_id")
    (file,) = found.folder.glob("shop-*.pth")
    kept = state_file.read(file, format=cache.FORMAT)
    file.rename("aside.pth")
    create_dataset(make_config(Path("dataset"), dataset="shop", dataset_cache="kept"), packed=True)
    (parsed,) = Path("kept").glob("*.pth")
    expected = state_file.read(parsed, format=cache.FORMAT)
    assert parsed.name == file.name and str(kept["fields"]) == str(expected["fields"])
    for field, values in expected["frames"]["inter_feat"].items():
        assert torch.equal(kept["frames"]["inter_feat"][field], values), field
    Path("aside.pth").rename(file)
    used: list[bool] = []
    monkeypatch.setattr(loading, "PackedDataset", spying(loading.PackedDataset, used))
    for model in ("2Mamba4Rec", "PackedSASRec", "PCTM"):
        create_dataset(make_config(Path("dataset"), model, dataset="shop"), packed=True)
    create_dataset(make_config(Path("dataset"), dataset="shop", user_inter_num_interval="[5,inf)"), packed=True)
    with (found.folder / "shop.inter").open("a") as lines:
        lines.write("new\tNA\t1\n")
    create_dataset(make_config(Path("dataset"), dataset="shop"), packed=True)
    assert used == [True, True, True, False, False]


def spying(kind: type, used: list[bool]) -> type:
    class Spy(kind):
        def __init__(self, config, kept=None):
            used.append(kept is not None)
            super().__init__(config, kept)

    Spy.__name__ = kind.__name__  # which is part of the file's name
    return Spy
