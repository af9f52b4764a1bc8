"""Requests that mean no good, or cannot be meant: each gets one clear error, or an answer that does no harm."""

import json

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("httpx", reason="the service is asked with httpx")

from asking import asking

from recbole_ssm import Recommender
from recbole_ssm.serving.service.app import create_app
from recbole_ssm.serving.service.settings import Limits, Settings
from recbole_ssm.testing.checkpoints import made_checkpoint

LIMITS = Limits(body=20_000, history=50, events=5, k=20, names=60, name=40)
ODD = [
    "<script>alert(1)</script>",
    "a/b",
    "../../etc/passwd",
    "é☃",
    'say "hi"',
    "two words",
    "new\nline",
    "%2e%2e",
    "nul\0",
]
"""Names of items that a catalogue may have."""

RECOMMEND, EVENTS = "/recommend", "/sessions/s/events"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    small = {"hidden_size": 8, "headdim": 4, "d_state": 4, "num_layers": 1}
    file = made_checkpoint(folder / "model.pth", [*(f"i{number}" for number in range(1, 20)), *ODD], **small)
    lines = ["item_id:token\ttitle:token_seq\tgenre:token_seq", "i1\t<b>Bold</b> & \x1b[31mred\tDrama <i>"]
    (folder / "made.item").write_text("\n".join(lines), encoding="utf-8")
    settings = Settings(items=folder / "made.item", limits=LIMITS, warm=False, hosts=("localhost",))
    with asking(create_app(Recommender(file), settings)) as client:
        yield client


def nested(depth: int) -> bytes:
    return b'{"history":' + b"[" * depth + b"]" * depth + b"}"


BODIES = [
    (RECOMMEND, b"", 400, "bad_json"),
    (RECOMMEND, b"{", 400, "bad_json"),
    (RECOMMEND, b"null", 422, "not_valid"),
    (RECOMMEND, b"[]", 422, "not_valid"),
    (RECOMMEND, b'"history"', 422, "not_valid"),
    (RECOMMEND, b"1e999", 422, "not_valid"),
    (RECOMMEND, b"{'history': ['i1']}", 400, "bad_json"),
    (RECOMMEND, b'{"history": ["i1"],}', 400, "bad_json"),
    (RECOMMEND, b'{"history": ["i1"]} {}', 400, "bad_json"),
    (RECOMMEND, b'{"history": ["\xff\xfe"]}', 400, "bad_json"),
    (RECOMMEND, b'{"history": ["\xc0\xae"]}', 400, "bad_json"),
    (RECOMMEND, b'{"history": ["\\ud800"]}', 400, "bad_json"),
    (RECOMMEND, '{"history": ["i1"]}'.encode("utf-16"), 400, "bad_json"),
    (RECOMMEND, b"\xef\xbb\xbf{}", 400, "bad_json"),
    (RECOMMEND, b'{"history": ["a\nb"]}', 400, "bad_json"),
    (RECOMMEND, nested(100), 422, "not_valid"),
    (RECOMMEND, nested(9_000), 400, "bad_json"),
    (RECOMMEND, b'{"a":' * 3_000, 400, "bad_json"),
    (RECOMMEND, b" " * 20_001, 413, "too_large"),
    (RECOMMEND, b'{"history": null, "hystory": ["i1"]}', 422, "not_valid"),
    (RECOMMEND, b'{"__proto__": {}, "history": ["i1"]}', 422, "not_valid"),
    (RECOMMEND, b'{"<script>": 1}', 422, "not_valid"),
    (RECOMMEND, {"history": "i1"}, 422, "not_valid"),
    (RECOMMEND, {"history": {"0": "i1"}}, 422, "not_valid"),
    (RECOMMEND, {"history": [1]}, 422, "not_valid"),
    (RECOMMEND, {"history": [None]}, 422, "not_valid"),
    (RECOMMEND, {"history": [["i1"]]}, 422, "not_valid"),
    (RECOMMEND, {"history": [True]}, 422, "not_valid"),
    (RECOMMEND, {"history": ["i1"] * 51}, 422, "too_many"),
    (RECOMMEND, {"history": ["x" * 41]}, 422, "too_long"),
    (RECOMMEND, {"history": ["i1"], "session_id": "s"}, 422, "not_valid"),
    (RECOMMEND, {"session_id": "../../etc/passwd"}, 422, "not_valid"),
    (RECOMMEND, {"session_id": "a b"}, 422, "not_valid"),
    (RECOMMEND, {"session_id": "s\n"}, 422, "not_valid"),
    (RECOMMEND, {"session_id": "s" * 129}, 422, "not_valid"),
    (RECOMMEND, {"session_id": ""}, 422, "not_valid"),
    (RECOMMEND, {"session_id": 7}, 422, "not_valid"),
    (RECOMMEND, {"history": ["i1"], "k": 0}, 422, "not_valid"),
    (RECOMMEND, {"history": ["i1"], "k": -1}, 422, "not_valid"),
    (RECOMMEND, {"history": ["i1"], "k": 21}, 422, "too_many"),
    (RECOMMEND, {"history": ["i1"], "k": 10**30}, 422, "not_valid|too_many"),
    (RECOMMEND, {"history": ["i1"], "k": "3"}, 422, "not_valid"),
    (RECOMMEND, {"history": ["i1"], "k": 2.5}, 422, "not_valid"),
    (RECOMMEND, {"history": ["i1"], "k": True}, 422, "not_valid"),
    (RECOMMEND, {"history": ["i1"], "k": None}, 422, "not_valid"),
    (RECOMMEND, b'{"history": ["i1"], "k": NaN}', 422, "not_valid"),
    (RECOMMEND, b'{"history": ["i1"], "k": Infinity}', 422, "not_valid"),
    (RECOMMEND, b'{"history": ["i1"], "times": [NaN]}', 422, "not_valid"),
    (RECOMMEND, b'{"history": ["i1"], "times": [1e400]}', 422, "not_valid"),
    (RECOMMEND, {"history": ["i1"], "times": [1e12]}, 422, "not_valid"),
    (RECOMMEND, {"history": ["i1"], "times": []}, 422, "not_valid"),
    (RECOMMEND, {"history": ["i1"], "times": ["now"]}, 422, "not_valid"),
    (RECOMMEND, {"history": ["i1"], "time": "2026-11-27"}, 422, "not_valid"),
    (RECOMMEND, {"history": ["i1"], "exclude": "i1"}, 422, "not_valid"),
    (RECOMMEND, {"history": ["i1"], "exclude": ["i1"] * 61}, 422, "too_many"),
    (RECOMMEND, {"history": ["i1"], "candidates": [1]}, 422, "not_valid"),
    (RECOMMEND, {"history": ["i1"], "candidates": ["i1"] * 61}, 422, "too_many"),
    (RECOMMEND, {"history": ["i1"], "categories": "Drama"}, 422, "not_valid"),
    (RECOMMEND, {"history": ["i1"], "filter_seen": "yes"}, 422, "not_valid"),
    (EVENTS, {"items": []}, 422, "not_valid"),
    (EVENTS, {"items": "i1"}, 422, "not_valid"),
    (EVENTS, {}, 422, "not_valid"),
    (EVENTS, {"items": ["i1"] * 6}, 422, "too_many"),
    (EVENTS, {"items": ["i1"], "times": [1.0, 2.0]}, 422, "not_valid"),
    (EVENTS + "?k=21", {"items": ["i1"]}, 422, "too_many"),
    (EVENTS + "?k=-1", {"items": ["i1"]}, 422, "not_valid"),
    (EVENTS + "?k=x", {"items": ["i1"]}, 422, "not_valid"),
    (EVENTS + "?k=%33%00", {"items": ["i1"]}, 422, "not_valid"),
    (EVENTS + "?k=99999999999999999999999", {"items": ["i1"]}, 422, "not_valid|too_many"),
    ("/sessions/" + "s" * 129 + "/events", {"items": ["i1"]}, 422, "not_valid"),
    ("/sessions/a%00b/events", {"items": ["i1"]}, 422, "not_valid"),
    ("/sessions/a%0d%0aX:1/events", {"items": ["i1"]}, 422, "not_valid"),
    ("/sessions/%2e%2e%2fitems/events", {"items": ["i1"]}, 404, "not_found"),
    ("/sessions//events", {"items": ["i1"]}, 404, "not_found"),
    ("/explain", {"item": "i1"}, 422, "not_valid"),
    ("/explain", {"item": "none", "history": ["i1"]}, 404, "no_item"),
    ("/explain", {"item": ["i1"], "history": ["i1"]}, 422, "not_valid"),
    ("/explain", {"item": "i1", "session_id": "nobody"}, 404, "no_session"),
    ("/healthz", {}, 405, "method_not_allowed"),
    ("/", {}, 405, "method_not_allowed"),
    ("/admin", {}, 404, "not_found"),
]


def check_error(answer, status: int, code: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.json().keys() == {"error"} and answer.json()["error"].keys() == {"code", "message"}
    assert answer.json()["error"]["code"] in code.split("|")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(answer.content) < 500 and "Traceback" not in answer.text and "/work" not in answer.text


@pytest.mark.parametrize(("path", "body", "status", "code"), BODIES, ids=lambda value: str(value)[:40])
def test_a_body_that_cannot_be_used(client, path, body, status, code):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = client.post(path, content=content, headers={"content-type": "application/json"})
    check_error(answer, status, code)


def pieces(*parts: bytes):
    async def sent():
        for part in parts:
            yield part

    return sent()


JSON = {"content-type": "application/json"}
REQUESTS = [
    ("GET", "/items?k=0", {}, 422, "not_valid"),
    ("GET", "/items?k=21", {}, 422, "too_many"),
    ("GET", "/items?query=" + "x" * 41, {}, 422, "too_long"),
    ("GET", "/items/none/similar", {}, 404, "no_item"),
    ("GET", "/items/..%2f..%2fetc%2fpasswd%00/similar", {}, 404, "no_item"),
    ("GET", "/items/i1/similar?k=1e3", {}, 422, "not_valid"),
    ("GET", "/sessions/nobody", {}, 404, "no_session"),
    ("GET", "/sessions/<script>", {}, 422, "not_valid"),
    ("DELETE", "/sessions/nobody", {}, 404, "no_session"),
    ("GET", "/page/../service/settings.py", {}, 404, "not_found"),
    ("GET", "/page/%2e%2e/service/settings.py", {}, 404, "not_found"),
    ("GET", "/page/..%5cservice%5csettings.py", {}, 404, "not_found"),
    ("GET", "//etc/passwd", {}, 404, "not_found"),
    ("GET", "/recommend", {}, 405, "method_not_allowed"),
    ("PUT", "/recommend", {"json": {}}, 405, "method_not_allowed"),
    ("TRACE", "/recommend", {}, 405, "method_not_allowed"),
    ("BREW", "/recommend", {}, 405, "method_not_allowed"),
    ("OPTIONS", "/recommend", {"headers": {"origin": "https://elsewhere"}}, 405, "method_not_allowed"),
    ("POST", "/recommend", {"content": b"{}"}, 415, "not_json"),
    ("POST", "/recommend", {"content": b"{}", "headers": {"content-type": "text/plain"}}, 415, "not_json"),
    ("POST", "/recommend", {"data": {"history": "i1"}}, 415, "not_json"),
    ("POST", "/recommend", {"content": b"{}", "headers": {**JSON, "content-length": "-5"}}, 413, "too_large"),
    ("POST", "/recommend", {"content": b"{}", "headers": {**JSON, "content-length": "9" * 30}}, 413, "too_large"),
    ("POST", "/recommend", {"content": pieces(*[b" " * 9_000] * 3), "headers": JSON}, 413, "too_large"),
    ("GET", "/healthz", {"headers": {"host": "elsewhere.example"}}, 421, "other_host"),
    ("GET", "/healthz", {"headers": {"host": "localhost.elsewhere.example:8000"}}, 421, "other_host"),
    ("GET", "/healthz", {"headers": {"host": ""}}, 421, "other_host"),
]


@pytest.mark.parametrize(("method", "path", "options", "status", "code"), REQUESTS, ids=lambda value: str(value)[:40])
def test_a_request_that_cannot_be_used(client, method, path, options, status, code):
    check_error(client.request(method, path, **options), status, code)


@pytest.mark.parametrize("body", [b'{"history": ["i1"], "history": ["i2"]}', b'{"k": 5, "k": 1e400, "k": 2}'])
def test_of_keys_that_are_double_the_last_one_counts(client, body):
    answer = client.post(RECOMMEND, content=body, headers=JSON)
    last = {key: value for key, value in json.loads(body).items()}
    assert answer.status_code == 200
    assert answer.json()["items"] == client.post(RECOMMEND, json=last).json()["items"]


@pytest.mark.parametrize("name", ODD)
def test_items_may_be_called_anything(client, name):
    """Names go out as JSON, never as HTML, and come in again as they went out."""
    answer = client.post(RECOMMEND, json={"history": [name], "candidates": [*ODD, "i1"], "k": 20})
    assert answer.json()["unknown"] == 0 and {each["item"] for each in answer.json()["items"]} == {*ODD, "i1"}
    assert answer.headers["content-type"] == "application/json"
    assert client.post("/sessions/odd/events", json={"items": [name]}).json()["unknown"] == 0
    assert client.get("/sessions/odd").json()["items"][-1]["item"] == name
    assert client.get("/items", params={"query": name, "k": 1}).json()["items"][0]["item"] == name
    quoted = "".join(f"%{byte:02x}" for byte in name.encode())
    if "\n" not in name:  # which no address may have
        assert len(client.get(f"/items/{quoted}/similar?k=3").json()["items"]) == 3
    assert client.delete("/sessions/odd").status_code == 204


def test_unknown_names_are_counted_and_nothing_else(client):
    names = ["\u202eevil", "\x1b[31m", "'; DROP TABLE items; --", "[PAD]", "", "i1 "]
    answer = client.post(RECOMMEND, json={"history": names}).json()
    assert (answer["unknown"], answer["source"]) == (6, "popular")
    assert all(name not in json.dumps(answer) for name in names if name)


def test_the_token_is_asked_for_everywhere_but_for_health(tmp_path):
    small = {"hidden_size": 8, "headdim": 4, "d_state": 4, "num_layers": 1}
    recommender = Recommender(made_checkpoint(tmp_path / "model.pth", 5, **small))
    with asking(create_app(recommender, Settings(token="secret", warm=False))) as client:
        for path in ("/items", "/sessions/a", "/metrics", "/openapi.json", "/docs", "/none", "/page", "/healthz/x"):
            for header in (
                {},
                {"authorization": "secret"},
                {"authorization": "Bearer secre"},
                {"authorization": "Bearer é"},
            ):
                check_error(
                    client.get(path, headers={key: value.encode() for key, value in header.items()}), 401, "no_token"
                )
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        token = {"authorization": "Bearer secret"}
        assert client.post("/recommend", json={"history": ["i1"]}, headers=token).status_code == 200
        assert client.get("/metrics", headers=token).status_code == 200
