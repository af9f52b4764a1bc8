"""From a table of clicks to recommendations, an evaluation and a file, in Python alone."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from atomic import histories, interactions, small
from near import near

import recbole_ssm
from recbole_ssm import InputError, Recommender

KEYS = {"epochs": 2, "use_gpu": False, "show_progress": False, **small("2Mamba4Rec")}


@pytest.fixture(scope="module")
def clicks() -> pd.DataFrame:
    """A shop's table: its own names of columns, whole numbers as names, and dates."""
    frame = interactions()
    return pd.DataFrame(
        {
            "when": pd.to_datetime(frame["timestamp"], unit="s", utc=True),
            "product": frame["item_id"].str[1:].astype(int),
            "who": frame["user_id"].str[1:].astype(np.int32),
        }
    ).sample(frac=1, random_state=0)


@pytest.fixture(scope="module")
def fitted(clicks, tmp_path_factory) -> Recommender:
    folder = tmp_path_factory.mktemp("fitted")
    before, arguments = clicks.copy(), list(sys.argv)
    sys.argv = ["notebook", "--epochs=many", "-f", "kernel.json"]
    try:
        places = {"data_path": str(folder), "checkpoint_dir": str(folder / "saved")}
        found = recbole_ssm.fit(clicks, user="who", **KEYS, **places)
        assert sys.argv == ["notebook", "--epochs=many", "-f", "kernel.json"]
    finally:
        sys.argv = arguments
    pd.testing.assert_frame_equal(clicks, before)
    return found


def names(clicks: pd.DataFrame) -> dict[str, list[str]]:
    words = clicks.astype({"who": str, "product": str, "when": int})
    return histories(words.rename(columns={"who": "user_id", "product": "item_id", "when": "timestamp"}))


@pytest.mark.slow
def test_a_table_becomes_recommendations_as_a_table(fitted, clicks):
    known = names(clicks)
    for asked in (clicks, list(known), [int(user) for user in known], np.array(list(known))):
        found = fitted.recommend(asked, 3, candidates=["1", "2", "3", "4"], exclude=["4"])
        assert list(found.columns) == ["who", "product", "score", "rank"]
        assert (found["who"].dtype, found["product"].dtype) == (np.int32, np.int64)
        assert len(found) == 3 * len(known)
        for user, rows in found.groupby("who"):
            expected = fitted.recommend([known[str(user)]], 3, candidates=["1", "2", "3"])[0]
            assert list(zip(rows["product"].astype(str), rows["score"], strict=True)) == [
                (name, pytest.approx(score, abs=1e-5)) for name, score in expected
            ]
            assert rows["rank"].tolist() == [1, 2, 3]


def test_a_table_of_items_comes_with_the_clicks(clicks, tmp_path):
    """Its features are read, and an item that nobody has had is known by them."""
    items = pd.DataFrame({"product": range(50), "title": [f"Thing {number}" for number in range(50)]})
    items["kind"] = [["even", "odd"][number % 2] for number in range(50)]
    places = {"data_path": str(tmp_path), "checkpoint_dir": str(tmp_path / "saved")}
    model = recbole_ssm.fit(
        clicks, user="who", items=items, item_features="kind", **KEYS | {"epochs": 1}, **places, console="none"
    )
    assert 49 not in set(clicks["product"]) and "49" in model
    assert len(model.recommend([["1", "2"]], 2, candidates=["48", "49"])[0]) == 2
    with pytest.raises(InputError, match="items is for a DataFrame"):
        recbole_ssm.fit("ml-100k", items=items)


def test_a_training_that_was_interrupted_goes_on(clicks, tmp_path, monkeypatch):
    asked = {}

    def stopped(*_, **given):
        asked.update(given)
        raise KeyboardInterrupt

    monkeypatch.setattr("recbole_ssm.serving.fitting.run", stopped)
    with pytest.raises(KeyboardInterrupt):
        recbole_ssm.fit(clicks, user="who", resume=True, data_path=str(tmp_path))
    assert asked["resume"] is True


@pytest.mark.slow
def test_a_table_is_read_as_the_one_of_the_training(clicks, tmp_path):
    """Dates of the same format, conditions and sessions; and times for a model that reads them."""
    table = clicks.assign(day=clicks["when"].dt.strftime("%d.%m.%Y %H:%M"), kind="view").drop(columns="when")
    table = pd.concat([table, table.assign(kind="cart", product=99)])
    reading = {"time": "day", "time_format": "%d.%m.%Y %H:%M", "where": "kind = view", "session_gap": 40 * 3600.0}
    places = {"data_path": str(tmp_path), "checkpoint_dir": str(tmp_path / "saved")}
    model = recbole_ssm.fit(table, user="who", **reading, **KEYS, **places, time_gaps=True)
    assert "99" not in model
    assert model.columns == ["timestamp"]
    assert model.evaluate(table)["hit@10"] == pytest.approx(model.metrics["test"]["hit@10"], abs=0.05)
    found = model.recommend(table, 1)
    sessions = model.histories()
    assert found["who"].tolist() and set(found["who"]) == set(sessions)
    again = model.recommend(list(sessions), 1).set_index("who")
    assert (found.set_index("who")["product"] == again.loc[found["who"], "product"]).all()
    model.save(tmp_path / "shop.pth")
    saved = recbole_ssm.load(tmp_path / "shop.pth")
    for loaded in (saved, recbole_ssm.load(model.file)):
        pd.testing.assert_frame_equal(loaded.recommend(table, 1), found, rtol=1e-4, atol=1e-5)
    saved.save(tmp_path / "shop.pth")  # it goes on to be known
    assert recbole_ssm.load(tmp_path / "shop.pth")._reading == model._reading
    saved._stored["reading"] = {"file": "x"}
    saved.save(tmp_path / "forged.pth")
    with pytest.raises(
        InputError, match=r"forged\.pth .*reading is not how a table can be read: an import has no option 'file'"
    ):
        recbole_ssm.load(tmp_path / "forged.pth")


def test_what_was_had_is_left_out_of_a_table_if_that_is_asked_for(fitted, clicks):
    found = fitted.recommend(clicks, 100, filter_seen=True)
    had = {user: set(map(int, items)) for user, items in names(clicks).items()}
    for user, rows in found.groupby("who"):
        assert not had[str(user)] & set(rows["product"])
        assert len(rows) == len(fitted.items) - 1 - len(had[str(user)])


def test_unknown_items_of_a_table_are_passed_over_and_counted(fitted, caplog):
    new = pd.DataFrame({"who": ["b", "b", "a"], "product": ["1", "new", "new"], "when": [2, 1, 3]})
    found = fitted.recommend(new, 2)
    assert found["who"].tolist() == ["b", "b"]
    assert found["product"].tolist() == [name for name, _ in fitted.recommend([["1"]], 2)[0]]
    assert "2 of 3 interactions are of items that the model does not know" in caplog.text
    with pytest.raises(InputError, match="knows no item 'newer'"):
        fitted.recommend(new, candidates=["newer"])


def test_an_evaluation_of_the_whole_table_is_the_one_of_the_training(fitted, clicks):
    again, of_table = fitted.evaluate(), fitted.evaluate(clicks)
    assert again == fitted.metrics["test"]
    for metric in ("ndcg@10", "hit@10", "mrr@10"):
        assert of_table[metric] == pytest.approx(again[metric], abs=1e-4)
    assert fitted.evaluate(clicks.assign(product="7", who=1)) != of_table
    history = [["1", "2"], ["1"]]
    assert fitted.evaluate({"tested": history[0], "too short": history[1]})["hit@10"] in (0, 1)
    assert set(fitted.evaluate({"a": ["1", "never seen"]}).values()) == {0}
    with pytest.raises(InputError, match="nothing can be tested"):
        fitted.evaluate({"too short": history[1]})


def test_what_is_saved_is_loaded(fitted, clicks, tmp_path):
    fitted.save(tmp_path / "shop.pth")
    loaded = recbole_ssm.load(tmp_path / "shop.pth", clicks.rename(columns={"who": "user"}))
    assert loaded.recommend([["1", "2"]]) == near(fitted.recommend([["1", "2"]]))
    assert loaded.metrics == {"valid": pytest.approx(fitted.metrics["valid"], abs=1e-4), "test": None}
    assert loaded.history == fitted.history[: len(loaded.history)] != []
    found = loaded.recommend(["3"], 2)
    assert list(found.columns) == ["user", "product", "score", "rank"]
    by_name = recbole_ssm.load(tmp_path / "shop.pth", {"anna": ["1", "2"]}).recommend(["anna"], 2)
    assert list(by_name.columns) == ["user_id", "item_id", "score", "rank"]
    with pytest.raises(InputError, match="load the model with their histories="):
        recbole_ssm.load(tmp_path / "shop.pth").recommend(["3"])


@pytest.mark.slow
def test_what_was_counted_later_is_saved_too(trained, tmp_path):
    recommender = Recommender(trained("PCTM"))
    recommender.update([["i1", "i2"]] * 5)
    recommender.save(tmp_path / "later.pth")
    assert recbole_ssm.load(tmp_path / "later.pth").recommend([["i1"]]) == near(recommender.recommend([["i1"]]))


def test_one_line_says_what_it_is(fitted):
    metric = f"{fitted.metrics['test']['ndcg@10']:.4f}"
    name = Path(fitted._stored["config"]["dataset"]).name
    assert repr(fitted) == f"Recommender(2Mamba4Rec on {name}: {len(fitted.items) - 1} items, test ndcg@10 {metric})"
    session = fitted.session(["1", "2"])
    assert repr(session) == "Session(2Mamba4Rec: 2 items, the latest '2')"
    assert repr(fitted.session()) == "Session(2Mamba4Rec: 0 items)"


@pytest.mark.slow
def test_a_data_set_is_fitted_by_its_name(tiny, tmp_path):
    found = recbole_ssm.fit("tiny", "MarkovChain", data_path=str(tiny), use_gpu=False, show_progress=False)
    table = found.recommend(["u1"], 2)
    assert list(table.columns) == ["user_id", "item_id", "score", "rank"]
    assert table["user_id"].tolist() == ["u1"] * 2
    with pytest.raises(InputError, match="there is no user 'nobody'; a history is a list of its own"):
        found.recommend(["u1", "nobody"])


@pytest.mark.parametrize(
    ("data", "model", "keys", "words"),
    [
        (None, "2Mamba4Rek", {}, "there is no model '2Mamba4Rek'. Did you mean 2Mamba4Rec"),
        (None, "SASRec", {}, "SASRec is RecBole's; train it with recbole_ssm.run"),
        (None, "2Mamba4Rec", {"epoch": 3}, "unknown key 'epoch'. Did you mean epochs"),
        (None, "2Mamba4Rec", {"epochs": -1}, "epochs"),
        (None, "2Mamba4Rec", {"user": "whose"}, "there is no column 'whose'"),
        (None, "2Mamba4Rec", {"dataset": "tiny"}, "dataset is no key of fit"),
        (pd.DataFrame(), "2Mamba4Rec", {}, "column"),
        (pd.DataFrame({"user": [], "item": [], "time": []}), "2Mamba4Rec", {}, "no rows"),
        (pd.DataFrame({"a": [1], "b": [2]}), "2Mamba4Rec", {}, "cannot be told from the names a, b"),
        ([("anna", "mug")], "2Mamba4Rec", {}, "data must be a DataFrame"),
        ("clicks.csv", "2Mamba4Rec", {}, "is a file; read it with pandas, or import it"),
        ("nowhere", "2Mamba4Rec", {}, "nowhere"),
        ("tiny", "2Mamba4Rec", {"user": "who"}, "user is for a DataFrame"),
    ],
)
def test_mistakes_are_named_before_any_work(clicks, data, model, keys, words):
    with pytest.raises(InputError) as error:
        recbole_ssm.fit(clicks if data is None else data, model, **keys)
    assert words in str(error.value)
    assert not Path("dataset").exists() and not Path("saved").exists()


def test_a_table_that_is_none_of_clicks_is_refused(fitted):
    with pytest.raises(InputError, match="call its columns user_id, item_id and timestamp"):
        fitted.recommend(pd.DataFrame({"a": [1], "b": [2]}))
    with pytest.raises(InputError, match="histories are a table of clicks"):
        fitted.evaluate("clicks.csv")
