"""Sessions of the service: bounded, shared through Redis, and alive after a kill and after a new checkpoint."""

import asyncio
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("httpx", reason="the service is asked with httpx")

import processes
from asking import asking

from recbole_ssm import InputError, Recommender
from recbole_ssm.errors import FolderMissing
from recbole_ssm.serving.index import ItemIndex
from recbole_ssm.serving.service.app import create_app
from recbole_ssm.serving.service.engine import Ask, Engine
from recbole_ssm.serving.service.errors import Refused
from recbole_ssm.serving.service.in_use import InUse
from recbole_ssm.serving.service.item_file import NOTHING
from recbole_ssm.serving.service.server import Server
from recbole_ssm.serving.service.sessions import InMemory, Record
from recbole_ssm.serving.service.settings import Settings
from recbole_ssm.serving.service.watch import Watch
from recbole_ssm.testing.checkpoints import made_checkpoint

SMALL = {"hidden_size": 8, "headdim": 4, "d_state": 4, "num_layers": 1}
CLICKS = ["i3", "i7", "i3", "i11", "i5", "i2"]


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return made_checkpoint(tmp_path_factory.mktemp("made") / "model.pth", 30, **SMALL)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory):
    """The address of a Redis server of this module's own."""
    pytest.importorskip("redis", reason="sessions in Redis need the package redis")
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    port, folder = free_port(), tmp_path_factory.mktemp("redis")
    server = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)],
        stdout=subprocess.DEVNULL,
    )
    for _ in range(200):
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.02)
    yield f"redis://127.0.0.1:{port}/0"
    server.terminate()
    server.wait()


def click(client, session: str, *items: str, k: int = 0):
    answer = client.post(f"/sessions/{session}/events?k={k}", json={"items": list(items)})
    assert answer.status_code == 200, answer.text
    return answer.json()


def scores(answer) -> dict[str, float]:
    return {each["item"]: each["score"] for each in answer["items"]}


def test_memory_forgets_the_session_that_was_not_used_for_longest():
    sessions = InMemory(2, 60)
    for id in ("a", "b"):
        sessions.save({id: Record(used=time.time())})
    sessions.load(["a"])
    sessions.save({"c": Record(used=time.time())})
    assert [record is not None for record in sessions.load(["a", "b", "c"])] == [True, False, True]
    sessions.save({"d": Record(used=time.time() - 61)})
    assert sessions.load(["d"]) == [None]


@pytest.mark.parametrize("kept", [3, 500])
def test_a_session_keeps_its_latest_items_and_has_read_all(file, kept):
    recommender = Recommender(file)
    with asking(create_app(recommender, Settings(session_items=kept, warm=False))) as client:
        for item in CLICKS:
            found = click(client, "a", item, k=30)
        assert [each["item"] for each in client.get("/sessions/a").json()["items"]] == CLICKS[-kept:]
    expected = dict(recommender.recommend([CLICKS], 30)[0])
    assert found["events"] == 6 and scores(found) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SSD4Rec"])
def test_items_that_the_next_model_does_not_know_are_passed_over(tmp_path, model):
    """Also where a session has more than it keeps, and with their times."""
    keys = {**SMALL, "time_gaps": True}
    old, new = (Recommender(made_checkpoint(tmp_path / f"{n}.pth", n, model, **keys)) for n in (30, 20))
    engine = Engine(InUse(old, NOTHING), InMemory(9, 60), Settings(session_items=3))

    def add(*items: str, hours: list[float]):
        asked = Ask("a", items, [978300000.0 + 3600 * hour for hour in hours], k=20)
        (reply,) = engine.run([asked])
        return dict(reply.items)

    add("i3", "i29", "i7", hours=[0, 1, 5])
    engine.in_use = InUse(new, NOTHING)
    for item, hour, left in (("i5", 9, ["i7", "i5"]), ("i6", 12, ["i7", "i5", "i6"])):
        found = add(item, hours=[hour])
        times = [978300000.0 + 3600 * {"i7": 5, "i5": 9, "i6": 12}[each] for each in left]
        expected = dict(new.recommend([left], 20, columns={name: [times] for name in new.columns})[0])
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_many_at_once_are_as_each_alone(file):
    """Of one session, too: its requests are computed one after another, in their order."""
    recommender = Recommender(file)
    with asking(create_app(recommender, Settings(max_batch=4, warm=False))) as client:
        sessions = {f"s{number}": [f"i{1 + (number * 7 + place) % 30}" for place in range(5)] for number in range(7)}
        asked = [
            ("POST", f"/sessions/{id}/events?k=30", {"json": {"items": [items[place]]}})
            for place in range(5)
            for id, items in sessions.items()
        ]
        answers = client.at_once(asked)
        for (_, url, _), answer in zip(asked, answers, strict=True):
            found, items = answer.json(), sessions[url.split("/")[2]]
            expected = dict(recommender.recommend([items[: found["events"]]], 30)[0])
            assert scores(found) == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert [answer.json()["events"] for answer in answers] == [1 + place for place in range(5) for _ in sessions]


def test_who_comes_when_the_queue_is_full_is_told_to_come_back(file):
    with asking(create_app(Recommender(file), Settings(max_queue=3, warm=False))) as client:
        answers = client.at_once([("POST", "/recommend", {"json": {"history": ["i1"]}})] * 12)
        refused = [answer for answer in answers if answer.status_code == 503]
        assert len(refused) == 9 and refused[0].headers["retry-after"] == "1"
        assert {answer.status_code for answer in answers} == {200, 503}


def test_a_stop_answers_what_waits(file):
    app = create_app(Recommender(file), Settings(warm=False))
    with asking(app) as client:

        async def stop_with_some_waiting():
            asked = [
                asyncio.ensure_future(client.session.post("/recommend", json={"history": ["i1"]})) for _ in range(9)
            ]
            await asyncio.sleep(0.01)
            await app.state.service.batcher.close()
            return [answer.status_code for answer in await asyncio.gather(*asked)]

        assert client.run(stop_with_some_waiting()) == [200] * 9
        assert client.post("/recommend", json={"history": ["i1"]}).json()["error"]["code"] == "stopping"
        assert client.get("/readyz").status_code == 503


def test_workers_share_sessions_in_redis(file, redis_server):
    recommender = Recommender(file)
    settings = Settings(sessions=redis_server, warm=False)
    with asking(create_app(recommender, settings)) as one, asking(create_app(recommender, settings)) as other:
        for number, item in enumerate(CLICKS):
            found = click((one, other)[number % 2], "shared", item, k=30)
        assert found["events"] == 6
        assert scores(found) == pytest.approx(dict(recommender.recommend([CLICKS], 30)[0]), rel=1e-4, abs=1e-5)
        assert one.get("/readyz").status_code == 200
        answers = [None, None]

        def ask(place, client):
            answers[place] = client.at_once([("POST", "/sessions/both/events", {"json": {"items": ["i1"]}})] * 8)

        threads = [threading.Thread(target=ask, args=each) for each in enumerate((one, other))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        counted = [answer.json().get("events") for answer in answers[0] + answers[1] if answer.status_code == 200]
        assert len(set(counted)) == len(counted) == one.get("/sessions/both").json()["events"]
        assert {answer.status_code for answer in answers[0] + answers[1]} <= {200, 409}
        assert one.delete("/sessions/both").status_code == 204
        assert other.get("/sessions/both").status_code == 404


@pytest.fixture(params=["memory", "redis"])
def kept_in(request):
    """Where sessions are kept."""
    return "memory" if request.param == "memory" else request.getfixturevalue("redis_server")


def test_an_event_that_is_sent_again_counts_once(file, kept_in):
    """Also where the first answer was lost after the session was kept; the oldest ids are forgotten."""
    app = create_app(Recommender(file), Settings(sessions=kept_in, event_ids=2, warm=False))
    sessions = app.state.service.sessions
    keep = sessions.save

    def keep_and_fail(records):
        keep(records)
        raise Refused(503, "no_sessions", "the sessions cannot be reached")

    with asking(app) as client:

        def add(item: str, event_id: str) -> tuple[int, int, bool]:
            answer = client.post("/sessions/once/events?k=3", json={"items": [item], "event_id": event_id})
            found = answer.json()
            return answer.status_code, found.get("events"), found.get("repeated")

        assert add("i1", "a") == (200, 1, False) and add("i1", "a") == (200, 1, True)
        sessions.save = keep_and_fail
        assert add("i2", "b") == (503, None, None)
        sessions.save = keep
        assert add("i2", "b") == (200, 2, True) and add("i3", "c") == (200, 3, False)
        assert add("i1", "a") == (200, 4, False)
        assert [each["item"] for each in client.get("/sessions/once").json()["items"]] == ["i1", "i2", "i3", "i1"]


def test_a_record_that_is_sent_to_redis_again_is_found_to_be_there(redis_server):
    """The client does so where the server's answer was lost."""
    from recbole_ssm.serving.service.redis_sessions import InRedis

    sessions = InRedis(redis_server, 60)
    record = Record(("i1",), (0.0,), 1, version=1, used=time.time(), event_ids=("a", "b"))
    assert sessions.save({"again": record}) == sessions.save({"again": record}) == set()
    assert sessions.save({"again": record._replace(used=record.used + 1)}) == {"again"}
    assert sessions.load(["again"]) == [record]


def test_what_others_wrote_to_redis_is_a_new_session_and_hurts_no_other(file, redis_server):
    import redis

    from recbole_ssm.serving.service.redis_sessions import _PREFIX

    server = redis.Redis.from_url(redis_server)
    with asking(create_app(Recommender(file), Settings(sessions=redis_server, warm=False))) as client:
        click(client, "mine", "i1")
        server.set(f"{_PREFIX}word", "x")
        server.hset(f"{_PREFIX}hash", mapping={"about": "{}", "state": b"", "version": "7"})
        server.hset(f"{_PREFIX}state", mapping=server.hgetall(f"{_PREFIX}mine") | {b"state": b"abc"})
        names = ["word", "hash", "state", "mine"]
        asked = [("POST", f"/sessions/{name}/events", {"json": {"items": ["i2"]}}) for name in names]
        answers = [answer.json() for answer in client.at_once([*asked, ("POST", "/recommend", {"json": {}})])]
        assert [answer.get("events") for answer in answers] == [1, 1, 2, 2, None] and "items" in answers[-1]


def test_a_redis_that_refuses_is_an_error_at_the_start_and_one_that_is_away_is_in_the_log(redis_server, caplog):
    import redis

    from recbole_ssm.serving.service.redis_sessions import PASSWORD, InRedis

    with pytest.raises(InputError, match="refuses: DB index is out of range"):
        InRedis(redis_server.removesuffix("/0") + "/9999", 60)
    server = redis.Redis.from_url(redis_server)
    server.config_set("requirepass", "secret")
    try:
        with pytest.raises(InputError, match=f"refuses: Authentication required.*{PASSWORD}"):
            InRedis(redis_server, 60)
    finally:
        server.config_set("requirepass", "")
    port = free_port()
    sessions = InRedis(f"redis://127.0.0.1:{port}/0", 60)
    with pytest.raises(Refused):
        sessions.check()
    sessions._server = server
    sessions.check()
    away, again = caplog.messages
    assert f"cannot be reached: Error 111 connecting to 127.0.0.1:{port}" in away and "can be reached again" in again


def test_without_redis_only_sessions_fail(file):
    pytest.importorskip("redis")
    settings = Settings(sessions=f"redis://127.0.0.1:{free_port()}/0", warm=False)
    with asking(create_app(Recommender(file), settings)) as client:
        session = ("POST", "/sessions/a/events", {"json": {"items": ["i1"]}})
        answers = client.at_once([("POST", "/recommend", {"json": {"history": ["i1"]}}), session])
        assert [answer.status_code for answer in answers] == [200, 503]
        assert answers[1].json()["error"]["code"] == "no_sessions"
        assert client.get("/readyz").status_code == 503
    for address in ("mysql://x", "redis://127.0.0.1:1/abc", "redis://127.0.0.1:1/0?nothing=1"):
        with pytest.raises(InputError, match="must be memory, or like redis://"):
            create_app(Recommender(file), Settings(sessions=address))
    with pytest.raises(InputError, match="several workers need sessions that they share"):
        Server(Settings(checkpoint=file), workers=2).run()


@pytest.mark.parametrize("place", [("127.0.0.1", 99_999), ("nowhere.invalid", 8000), ("127.0.0.1", 0)])
def test_where_nobody_can_listen_is_said_before_the_model_is_read(place):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host, port = place
        with pytest.raises(InputError, match=rf"^--host={host} and --port=\d+ cannot be listened at"):
            Server(Settings(checkpoint=Path("none.pth")), host, port or taken.getsockname()[1]).run()


def test_another_checkpoint_takes_over_while_requests_come(file, tmp_path):
    """No request fails, and sessions go on: their items are read by the new model."""
    link, models = tmp_path / "current.pth", [file]
    models += [made_checkpoint(tmp_path / f"{seed}.pth", 25, seed=seed, **SMALL) for seed in (1, 2)]
    link.symlink_to(file)
    watch = Watch(link, Recommender)
    app = create_app(watch.load(), Settings(watch=0.01, warm=False), watch)

    def point_to(model):
        (tmp_path / "new").symlink_to(model)
        os.replace(tmp_path / "new", link)

    async def until_another_answers(client):
        before = app.state.service.in_use.fingerprint
        for number in range(2000):
            answer = await client.session.post(f"/sessions/s{number % 3}/events?k=5", json={"items": ["i4"]})
            assert answer.status_code == 200
            if answer.json()["model"] != before:
                return answer.json()["model"]
            await asyncio.sleep(0.002)
        raise AssertionError(f"only {before}")

    with asking(app) as client:
        click(client, "a", "i29", "i3", "i7")
        for model in (models[1], models[2], models[0], models[1]):
            point_to(model)
            before = client.run(until_another_answers(client))
        found = click(client, "a", "i5", k=25)
        expected = dict(Recommender(models[1]).recommend([["i3", "i7", "i5"]], 25)[0])
        assert found["events"] == 4 and scores(found) == pytest.approx(expected, rel=1e-4, abs=1e-5)
        (tmp_path / "broken.pth").write_bytes(b"no checkpoint")
        point_to(tmp_path / "broken.pth")
        for _ in range(500):
            if client.get("/healthz").json()["old_model"]:
                break
            client.run(asyncio.sleep(0.01))
        assert click(client, "a", "i6")["model"] == before
        assert 'checkpoint_swaps_total{result="done"} 4.0' in client.get("/metrics").text


def test_a_checkpoint_without_its_folder_is_refused_in_words_of_the_command(file, tmp_path, caplog):
    """The language model of its adapters is not there; ``language_model=`` would be Python's words."""
    used = tmp_path / "used.pth"
    shutil.copy(file, used)

    def read(checkpoint):
        if checkpoint.read_bytes() == b"adapters":
            raise FolderMissing("the folder of their model is not there")
        return Recommender(checkpoint)

    watch = Watch(used, read)
    app = create_app(watch.load(), Settings(watch=0.01, warm=False), watch)
    with asking(app) as client:
        used.write_bytes(b"adapters")
        for _ in range(500):
            if client.get("/healthz").json()["old_model"]:
                break
            client.run(asyncio.sleep(0.01))
        assert client.get("/healthz").json()["old_model"]
    (said,) = [record.getMessage() for record in caplog.records if "the old model goes on" in record.getMessage()]
    assert said.endswith("is not there; name the folder where it is now, as --language_model=FOLDER")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("first", [None, "checkpoint", "index"])
def test_an_index_is_replaced_with_its_checkpoint(file, tmp_path, first):
    """Built by the service for each checkpoint; or a file, which may be replaced before or after the checkpoint."""
    pytest.importorskip("faiss", reason="an index of items needs the extra ann")
    used, index = tmp_path / "used.pth", tmp_path / "items.index"
    new = made_checkpoint(tmp_path / "new.pth", 25, seed=1, **SMALL)
    shutil.copy(file, used)
    if first is not None:
        ItemIndex.build(Recommender(used)).save(index)
    settings = Settings(checkpoint=used, index=index if first else Path("exact"), watch=0.01, warm=False)
    app = Server(settings).app()
    before = app.state.service.in_use.fingerprint
    with asking(app) as client:

        def until(done):
            for _ in range(1000):
                found = click(client, "a", "i3", k=25)
                if done(found):
                    return found
                client.run(asyncio.sleep(0.01))
            raise AssertionError("nothing has changed")

        if first is not None:
            ItemIndex.build(Recommender(new)).save(tmp_path / "new.index")
            os.replace(*((new, used) if first == "checkpoint" else (tmp_path / "new.index", index)))
            until(lambda _: client.get("/healthz").json()["old_model"])
            assert click(client, "a", "i7", k=5)["model"] == before
        if first == "checkpoint":
            os.replace(tmp_path / "new.index", index)
        else:
            os.replace(new, used)
        found = until(lambda answer: answer["model"] != before)
        items = [each["item"] for each in client.get("/sessions/a").json()["items"]]
        expected = dict(Recommender(used).recommend([items], 25)[0])
        assert scores(found) == pytest.approx(expected, rel=1e-4, abs=1e-5)
        assert not client.get("/healthz").json()["old_model"]


def ask(port: int, path: str, content: object = None):
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        None if content is None else json.dumps(content).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def served(port: int, *words: str):
    """A server process that answers."""
    process = processes.process(processes.verb, "serve", f"--port={port}", *words)
    end = time.monotonic() + 300
    while time.monotonic() < end:
        try:
            ask(port, "/readyz")
            return process
        except OSError:
            assert process.is_alive(), "the server has ended"
            time.sleep(0.1)
    process.kill()
    raise AssertionError("the server does not answer")


@pytest.mark.slow
def test_no_session_is_lost_to_a_kill(file, redis_server):
    """What was answered is there after a kill -9 under load, and a restart; what was sent again counts once."""
    port, answered, stop = free_port(), {}, threading.Event()
    words = [f"--checkpoint={file}", f"--sessions={redis_server}"]

    def clicks(number: int) -> None:
        session, done = f"kill{number}", 0
        while not stop.is_set():
            try:
                event = {"items": [f"i{1 + done % 30}"], "event_id": str(done)}
                assert ask(port, f"/sessions/{session}/events?k=3", event)["events"] == done + 1
                done = answered[session] = done + 1
            except (OSError, HTTPException):  # the latter for an answer that the kill has cut
                time.sleep(0.02)

    def wait(done) -> None:
        end = time.monotonic() + 300
        while not done():
            assert time.monotonic() < end, answered
            assert not any(user.done() for user in users), [user.result() for user in users if user.done()]
            time.sleep(0.01)

    process = served(port, *words)
    with ThreadPoolExecutor(4) as threads:
        users = [threads.submit(clicks, number) for number in range(4)]
        try:
            wait(lambda: sum(answered.values()) >= 40)
            process.kill()
            process.join()
            before = dict(answered)
            process = served(port, *words)
            wait(lambda: all(answered[session] > before[session] for session in before))
        finally:
            stop.set()
    for user in users:
        user.result()
    for session, events in answered.items():
        found = ask(port, f"/sessions/{session}")
        assert found["events"] == events > before[session]
    process.terminate()
    process.join(300)
    assert process.exitcode in (0, -signal.SIGTERM)
