"""The service, asked in this process: the same answers as the model's, in batches, for histories and for sessions."""

import json
import re
import sys
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from recbole.data.interaction import Interaction

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("httpx", reason="the service is asked with httpx")

from asking import asking
from atomic import ROOT

from recbole_ssm import InputError, Recommender
from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.popularity import popularity
from recbole_ssm.cli.main import main
from recbole_ssm.model.declarations import Column
from recbole_ssm.serving.index import ItemIndex
from recbole_ssm.serving.service.app import create_app
from recbole_ssm.serving.service.in_use import fingerprint
from recbole_ssm.serving.service.server import Server, _from_plain
from recbole_ssm.serving.service.settings import Settings
from recbole_ssm.serving.states import States
from recbole_ssm.testing.checkpoints import made_checkpoint

SMALL = {"hidden_size": 8, "headdim": 4, "d_state": 4, "num_layers": 1}
MODELS = {
    "2Mamba4Rec": {"repeat_bias": True, "item_bias": True, "transition_memory": True},
    "Mamba4Rec": {"num_layers": 2, "time_gaps": True},
    "LRURec": {},
    "PackedSASRec": {"repeat_bias": True},
    "PCTM": {},
}
"""With states and without, with times, and one that only counts."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")

    def made(model: str = "2Mamba4Rec", **keys):
        file = folder / f"{model}{'-'.join(map(str, keys.values()))}.pth"
        return file if file.exists() else made_checkpoint(file, 30, model, **{**SMALL, **keys})

    return made


@pytest.fixture(scope="module")
def client(files):
    with asking(create_app(Recommender(files()), Settings(warm=False))) as client:
        yield client


def names(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [each["item"] for each in answer.json()["items"]]


@pytest.mark.parametrize("model", MODELS)
def test_answers_are_those_of_the_model(files, model):
    recommender = Recommender(files(model, **MODELS[model]))
    history, more = ["i3", "i7", "i3"], ["i11", "i5"]
    times = [978300000.0 + 3600 * number for number in range(5)]
    columns = {"columns": {name: [times] for name in recommender.columns}}
    expected = recommender.recommend([history + more], 5, exclude=["i9"], **columns)[0]
    with asking(create_app(recommender, Settings(warm=False))) as client:
        asked = {"k": 5, "exclude": ["i9"]}
        whole = client.post("/recommend", json={**asked, "history": history + more, "times": times})
        client.post("/sessions/a/events", json={"items": history, "times": times[:3]})
        assert client.post("/sessions/a/events?k=1", json={"items": more, "times": times[3:]}).json()["events"] == 5
        stepped = client.post("/recommend", json={**asked, "session_id": "a"})
        for answer in (whole, stepped):
            assert names(answer) == [name for name, _ in expected]
            scores = [each["score"] for each in answer.json()["items"]]
            assert scores == pytest.approx([score for _, score in expected], rel=1e-4, abs=1e-5)
            assert answer.json()["source"] == "model"


@pytest.mark.slow
def test_answers_from_an_index_are_the_same(files, tmp_path):
    pytest.importorskip("faiss", reason="an index of items needs the extra ann")
    recommender = Recommender(files(repeat_bias=True, item_bias=True))
    ItemIndex.build(recommender, "exact").save(tmp_path / "items.index")
    asked = [{"history": ["i1", "i2"], "k": 5, "filter_seen": True, "exclude": ["i3"]}, {"history": ["i9"], "k": 7}]
    asked.append({"history": ["i4"], "candidates": ["i5", "i6"]})
    found = []
    for settings in (Settings(warm=False), Settings(index=tmp_path / "items.index", warm=False)):
        with asking(create_app(recommender, settings)) as client:
            found.append(
                [names(each) for each in client.at_once([("POST", "/recommend", {"json": each}) for each in asked])]
            )
    assert found[0] == found[1]
    with pytest.raises(InputError, match="of another model"):
        create_app(Recommender(files(seed=5)), settings)
    with pytest.raises(InputError, match="reads whole histories"):
        create_app(Recommender(files("PackedSASRec")), settings)


def test_a_model_that_reads_more_than_requests_have_is_not_served(files):
    recommender = Recommender(files())
    recommender.model.columns = (Column("hour"),)
    with pytest.raises(InputError, match="reads hour beside items and times"):
        create_app(recommender)


def test_a_session_is_known_until_it_is_deleted(client):
    assert client.get("/sessions/b").status_code == 404
    answer = client.post("/sessions/b/events?k=3", json={"items": ["i1", "unknown", "i2"]}).json()
    assert (answer["events"], answer["unknown"], len(answer["items"])) == (2, 1, 3)
    assert [each["item"] for each in client.get("/sessions/b").json()["items"]] == ["i1", "i2"]
    assert client.delete("/sessions/b").status_code == 204
    assert client.delete("/sessions/b").status_code == client.get("/sessions/b").status_code == 404


def test_similar_items_of_a_model_without_embeddings_are_refused(files, monkeypatch):
    recommender = Recommender(files())
    monkeypatch.setattr(recommender.model, "item_vectors", lambda: None)
    with asking(create_app(recommender, Settings(warm=False))) as client:
        answer = client.get("/items/i1/similar")
    assert answer.status_code == 422 and answer.json()["error"]["code"] == "no_embeddings"


def test_items_are_found_by_name(client):
    assert names(client.get("/items?query=I2&k=3")) == ["i2", "i20", "i21"]
    assert names(client.get("/items?query=nothing")) == []


def test_the_nearest_items_and_reasons(client):
    assert len(names(client.get("/items/i1/similar?k=4"))) == 4
    parts = client.post("/explain", json={"history": ["i1", "i2"], "item": "i3"}).json()["parts"]
    assert [part["item"] for part in parts] == ["i1", "i2"] and -1 <= parts[0]["similarity"] <= 1
    assert client.get("/items/none/similar").status_code == 404


def test_it_says_how_it_is(client):
    assert client.get("/healthz").json()["items"] == 30
    assert client.get("/readyz").status_code == 200
    assert "recbole_ssm_requests_total" in client.get("/metrics").text
    paths = client.get("/openapi.json").json()["paths"]
    page = client.get("/docs").text
    assert "/sessions/{session_id}/events" in paths
    assert all(f"{method.upper()} {path}</code>" in page for path, methods in paths.items() for method in methods)
    assert "<script" not in page and "http" not in page and "max-width" in client.get("/docs.css").text


def test_the_page_on_the_service_can_be_followed(tmp_path):
    """Each request of it is answered, with the fields that it shows; its Python runs."""
    page = (ROOT / "docs" / "serve.md").read_text(encoding="utf-8")
    file = made_checkpoint(tmp_path / "model.pth", ["242", "302", "377", "173", "204", "50", "286", "100"], **SMALL)
    lines = (
        "item_id:token\tmovie_title:token_seq\tclass:token_seq\n",
        *(f"{item}\tTitle\tComedy\n" for item in (173, 50)),
    )
    (tmp_path / "made.item").write_text("".join(lines))
    block = re.search(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)[1]
    space: dict = {}
    exec(compile(re.sub(r"saved/.*?\.pth", str(file), block), "serve.md", "exec"), space)
    assert space["app"].state.service.settings.limits.k == 50
    settings = Settings(items=tmp_path / "made.item", warm=False)
    asked = re.findall(r"^```http\nPOST (\S+)\n(.*?)```\n.*?^```json\n(.*?)```$", page, re.MULTILINE | re.DOTALL)
    with asking(create_app(Recommender(file), settings)) as client:
        for path, body, shown in asked:
            answer = client.post(path, json=json.loads(body)).json()
            assert answer.keys() == json.loads(shown).keys()
            assert len(answer["items"]) == len(json.loads(shown)["items"])
        comedies = client.post("/recommend", json={"history": ["242"], "categories": ["Comedy"]}).json()["items"]
        assert {each["item"]: (each["title"], each["categories"]) for each in comedies} == {
            "173": ("Title", ["Comedy"]),
            "50": ("Title", ["Comedy"]),
        }
        error = re.findall(r'^```json\n(\{"error".*?)```$', page, re.MULTILINE | re.DOTALL)[0]
        assert client.post("/recommend", json={"k": 101}).json() == json.loads(error)
        for method, path in re.findall(r"^\| `(GET|DELETE) (/[^`?]*)", page, re.MULTILINE):
            found = client.request(method, path.replace("{id}", "242" if "items" in path else "anna-7"))
            assert found.status_code in (200, 204), path
    assert len(asked) == 2


def test_cold_users_get_what_is_popular(files, tmp_path):
    (tmp_path / "popular.csv").write_text("item,count\ni7,30\nnone,25\ni9,40\n")
    (tmp_path / "ranked.txt").write_text("i5\ni6\n")
    for file, expected in ((None, ["i1", "i2"]), ("popular.csv", ["i9", "i7"]), ("ranked.txt", ["i5", "i6"])):
        settings = Settings(popular=None if file is None else tmp_path / file, warm=False)
        with asking(create_app(Recommender(files()), settings)) as client:
            for asked in ({}, {"history": []}, {"history": ["none"]}, {"session_id": "nobody"}):
                answer = client.post("/recommend", json={**asked, "k": 2})
                assert (names(answer), answer.json()["source"]) == (expected, "popular")
            limited = {"k": 3, "candidates": ["i7", "i6", "i2"], "exclude": ["i2"]}
            assert set(names(client.post("/recommend", json=limited))) <= {"i7", "i6"}
    (tmp_path / "popular.csv").write_text("i7,30\ni8,many\n")
    with pytest.raises(InputError, match="line 2: behind the item must be a number"):
        create_app(Recommender(files()), settings.__class__(popular=tmp_path / "popular.csv"))


def test_popular_are_the_items_of_late():
    """An interaction counts half as much as one that comes a tenth of all interactions later."""
    feat = Interaction({"item_id": torch.tensor([1, 2, 1, 3, 3, 3, 3, 3, 3, 2]), "timestamp": torch.arange(10.0)})
    data = SimpleNamespace(inter_feat=feat, iid_field="item_id", time_field="timestamp", item_num=5)
    found = popularity(data)
    assert found.tolist() == pytest.approx([0, 2**-9 + 2**-7, 2**-8 + 1, sum(2.0**-age for age in range(1, 7)), 0])
    data.time_field = "none"
    assert popularity(data).tolist() == [0, 2, 2, 6, 0]


def test_files_of_items_that_cannot_be_used(files, tmp_path):
    file = tmp_path / "made.item"
    for content, given, said in (
        (b"item_id:token\n", {"title": "name"}, "has no such column"),
        (b"item_id:token\ttitle:token\ni1\t\xff\n", {}, "is not a text in UTF-8"),
        (None, {}, "cannot be read"),
    ):
        file.unlink(missing_ok=True)
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(InputError, match=said):
            create_app(Recommender(files()), Settings(items=file, **given))


def test_the_command_line_says_how_it_runs(files, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(Server, "run", lambda server: ran.append(server))
    monkeypatch.setenv("RECBOLE_SSM_TOKEN", "secret")
    words = [
        "--host=0.0.0.0",
        "--port=81",
        "--workers=2",
        "--sessions=redis://r:1/0",
        "--filter_seen=True",
        "--items=a.item",
    ]
    assert main(["serve", f"--checkpoint={files()}", *words]) == main(["serve", "--checkpoint=x", "--hosts=shop"]) == 0
    first, second = ran
    assert (first.host, first.port, first.workers, first.filter_seen) == ("0.0.0.0", 81, 2, True)
    assert (first.settings.token, first.settings.sessions, str(first.settings.items)) == (
        "secret",
        "redis://r:1/0",
        "a.item",
    )
    assert first.settings.hosts == () and set(second.settings.hosts) == {"shop", "localhost", "127.0.0.1", "::1"}
    assert _from_plain(json.loads(json.dumps(asdict(first), default=str))) == first  # as workers get it
    monkeypatch.setitem(sys.modules, "recbole_ssm.serving.service.server", None)
    assert main(["serve", "--checkpoint=x"]) == 2
    assert "recbole-ssm[serve]" in capsys.readouterr().err


def test_large_catalogues_get_the_same_scores(files, monkeypatch):
    """There the items of a history are named, and not marked among all."""
    recommender = Recommender(files(**MODELS["2Mamba4Rec"]))
    torch.nn.init.ones_(recommender.model.repeat_bias)
    recommender.update([["i1", "i2", "i3", "i1", "i4"]])
    found, histories = States(recommender), [np.array([3, 7, 3, 1]), np.array([2])]
    with recommender.computing():
        states = found.begin(histories, {})
        marked = found.scores(states, histories, 5, list)
        monkeypatch.setattr("recbole_ssm.serving.states._MARKED", 5)
        torch.testing.assert_close(found.scores(states, histories, 5, list), marked)
    assert marked.max(1).indices.tolist()[1] == 2


@pytest.mark.parametrize(
    ("model", "setting", "kept"), [("PCTM", "smoothing", "frequency"), ("2Mamba4Rec", "memory_scale", None)]
)
def test_the_fingerprint_is_of_settings_and_counts_too(files, tmp_path, model, setting, kept):
    state = {key: value for key, value in checkpoint.read(files(model)).items() if not key.startswith("format")}

    def with_other(part, **changes):
        checkpoint.write(tmp_path / "other.pth", state | {part: state[part] | changes})
        return fingerprint(Recommender(tmp_path / "other.pth"))

    found = [with_other("config"), with_other("config", **{setting: 0.25})]
    if kept is not None:
        found.append(with_other("other_parameter", **{kept: state["other_parameter"][kept] + 1}))
    assert found[0] == fingerprint(Recommender(files(model))) and len(set(found)) == len(found)
