"""The service, asked in this process: the same answers as the model's, in batches, for histories and for sessions."""

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("httpx", reason="the service is asked with httpx")

from asking import asking

from recbole_ssm import Recommender
from recbole_ssm.serving.service.app import create_app
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
    with asking(create_app(Recommender(files()))) as client:
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
    with asking(create_app(recommender)) as client:
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


def test_a_session_is_known_until_it_is_deleted(client):
    assert client.get("/sessions/b").status_code == 404
    answer = client.post("/sessions/b/events?k=3", json={"items": ["i1", "unknown", "i2"]}).json()
    assert (answer["events"], answer["unknown"], len(answer["items"])) == (2, 1, 3)
    assert [each["item"] for each in client.get("/sessions/b").json()["items"]] == ["i1", "i2"]
    assert client.delete("/sessions/b").status_code == 204
    assert client.delete("/sessions/b").status_code == client.get("/sessions/b").status_code == 404


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
    assert "/sessions/{session_id}/events" in client.get("/openapi.json").json()["paths"]
