"""The service under load, over real HTTP on this machine, with the client beside it.

``python benchmarks/serving.py`` takes about four minutes; ``--rows=sizes,index`` has large catalogues. Weights are
random, which changes no time. Sessions are of 5 to 500 clicks; each request adds one and asks for the ten best items.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
import uvicorn
from arguments import at_least_one, output_file
from fastapi import FastAPI, Request
from load import Measured, clicks, load, post, wait_until_ready
from measuring import machine
from recbole.data.interaction import Interaction

from recbole_ssm import Recommender
from recbole_ssm.config.config import Config
from recbole_ssm.model.catalogue import Catalogue
from recbole_ssm.testing.checkpoints import made_checkpoint
from recbole_ssm.training.make_model import make_model

ROOT = Path(__file__).parent.parent
SETTINGS = {"num_layers": 2, "d_state": 32, "headdim": 16, "repeat_bias": True}
"""Those that follow from data of any size; see the page on default settings."""
SIZES = {1_000: 500, 100_000: 300, 1_000_000: 20}
"""Items, and requests per second."""
REENCODED = {"num_layers": 2, "repeat_bias": True}


class Bench:
    """Starts servers, loads them, and keeps what was measured.

    Args:
        folder: for checkpoints.
        seconds: of the main row; others take a quarter of it.
        rate: requests per second.
        items: of the catalogue.
    """

    def __init__(self, folder: Path, seconds: int, rate: int, items: int):
        self.folder, self.seconds, self.rate, self.items = folder, seconds, rate, items
        self.rows: dict[str, Any] = {}

    def checkpoint(self, model: str, items: int, seed: int = 0, **settings: Any) -> Path:
        """A file with random weights."""
        file = self.folder / f"{model}-{items}-{seed}.pth"
        return file if file.exists() else made_checkpoint(file, items, model, seed, **settings)

    def requests(self, rate: int, seconds: float, items: int) -> tuple[list[bytes], list[str]]:
        """Requests, and the session of each."""
        found = list(clicks(int(rate * seconds), items, shortest=5, longest=500, active=200))
        made = [post(f"/sessions/{session}/events?k=10", {"items": [item]}) for session, item in found]
        return made, [session for session, _ in found]

    def row(self, name: str, command: list[str], rate: int, seconds: float, items: int) -> None:
        """Load one server, after some requests that warm it up; ``processor_ms`` is its own for each request."""
        with server(command) as (port, process):
            load("127.0.0.1", port, self.requests(min(rate, 100), 2, items)[0], min(rate, 100))
            requests, before = self.requests(rate, seconds, items)[0], _processor_seconds(process)
            measured = load("127.0.0.1", port, requests, rate)
            took = 1000 * (_processor_seconds(process) - before) / len(requests)
            self.keep(name, measured, rate, process, processor_ms=round(took, 3))

    def keep(self, name: str, measured: Measured, rate: int, process: psutil.Process, **more: Any) -> None:
        """Print a row, and keep it."""
        memory = sum(each.memory_info().rss for each in (process, *process.children(True))) / 2**20
        self.rows[name] = {"rate": rate, **measured.summary(), "server_mib": round(memory), **more}
        print(f"{name:<28}{json.dumps(self.rows[name])}", flush=True)

    def service(self, model: str, items: int, *words: str, **settings: Any) -> list[str]:
        """The command of the service."""
        file = self.checkpoint(model, items, **(settings or SETTINGS))
        return ["-m", "recbole_ssm", "serve", f"--checkpoint={file}", *words]

    def main(self) -> None:
        """The rate of the target, for a minute."""
        self.row("2Mamba4Rec", self.service("2Mamba4Rec", self.items), self.rate, self.seconds, self.items)

    def process(self) -> None:
        """A step and the ten best items, without HTTP."""
        torch.set_num_threads(1)
        session = Recommender(self.checkpoint("2Mamba4Rec", self.items, **SETTINGS)).session(["i1"])
        times = []
        for number in range(3000):
            start = time.perf_counter()
            session.add(f"i{1 + number % 1000}")
            session.recommend(10)
            times.append(1000 * (time.perf_counter() - start))
        found = statistics.quantiles(times[100:], n=100)
        self.rows["in the process"] = {"p50": round(found[49], 3), "p90": round(found[89], 3)}
        print(f"{'in the process, ms':<28}{self.rows['in the process']}", flush=True)

    def peers(self) -> None:
        """The same load on models that read each history again."""
        command = self.service("PackedSASRec", self.items, **REENCODED)
        self.row("PackedSASRec, read again", command, self.rate, self.seconds / 4, self.items)
        command = [__file__, f"--serve_recbole={self.items}"]
        self.row("RecBole's SASRec, 50 items", command, self.rate, self.seconds / 4, self.items)

    def swaps(self) -> None:
        """Twenty checkpoints, one after another, under load."""
        link, files = (
            self.folder / "current.pth",
            [self.checkpoint("2Mamba4Rec", self.items, seed, **SETTINGS) for seed in (0, 1)],
        )
        link.unlink(missing_ok=True)
        link.symlink_to(files[0])
        rate, number = max(1, self.rate // 4), 20

        def swap(port: int) -> None:
            for turn in range(1, number + 1):
                (self.folder / "next").symlink_to(files[turn % 2])
                os.replace(self.folder / "next", link)
                end = time.monotonic() + 20
                while _swaps(port) < turn and time.monotonic() < end:
                    time.sleep(0.05)

        with server(["-m", "recbole_ssm", "serve", f"--checkpoint={link}"]) as (port, process):
            thread = threading.Thread(target=swap, args=(port,))
            thread.start()
            measured = load("127.0.0.1", port, self.requests(rate, number * 1.6, self.items)[0], rate)
            thread.join()
            self.keep("20 checkpoints", measured, rate, process, swaps=_swaps(port))

    def kill(self) -> None:
        """Sessions in Redis, a kill -9 in the midst, and a new server."""
        if shutil.which("redis-server") is None:
            print("kill: left out, redis-server is not installed")
            return
        rate, seconds = max(1, self.rate // 4), 24.0
        requests, sessions = self.requests(rate, seconds, self.items)
        with redis_server() as address:
            command, port = self.service("2Mamba4Rec", self.items, f"--sessions={address}"), free_port()
            first = start(command, port)

            def kill() -> None:
                time.sleep(seconds / 4)
                first.kill()
                first.wait()
                begun.append(start(command, port))

            begun: list[subprocess.Popen] = []
            thread = threading.Thread(target=kill)
            thread.start()
            measured = load("127.0.0.1", port, requests, rate)
            thread.join()
            answered = Counter(sessions[number] for number in measured.numbers)
            lost = sum(_json(port, f"/sessions/{each}")["events"] < count for each, count in answered.items())
            self.keep("kill -9, Redis", measured, rate, psutil.Process(begun[0].pid), sessions=len(answered), lost=lost)
            stop(begun[0])

    def redis(self) -> None:
        """The rate of the target with sessions in Redis."""
        if shutil.which("redis-server") is None:
            print("redis: left out, redis-server is not installed")
            return
        with redis_server() as address:
            command = self.service("2Mamba4Rec", self.items, f"--sessions={address}")
            self.row("2Mamba4Rec, Redis", command, self.rate, self.seconds / 4, self.items)

    def sizes(self) -> None:
        """Catalogues of other sizes; all items are scored."""
        for items, rate in SIZES.items():
            self.row(f"{items:,} items, exact", self.service("2Mamba4Rec", items), rate, self.seconds / 4, items)

    def index(self) -> None:
        """A million items with an index of the kind that "auto" takes."""
        items, file = 1_000_000, self.folder / "items.index"
        command = self.service("2Mamba4Rec", items)
        if not file.exists():
            from recbole_ssm.serving.index import ItemIndex

            made = ItemIndex.build(Recommender(self.checkpoint("2Mamba4Rec", items, **SETTINGS)))
            print(made, flush=True)
            made.save(file)
        self.row("1,000,000 items, index", [*command, f"--index={file}"], 200, self.seconds / 4, items)


def _processor_seconds(process: psutil.Process) -> float:
    """What a server has taken of all cores so far."""
    return sum(process.cpu_times()[:2])


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(command: list[str], port: int) -> subprocess.Popen:
    """A server that answers."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, *command, f"--port={port}"], env=environment, stdout=subprocess.DEVNULL)
    wait_until_ready("127.0.0.1", port, 300)
    return process


def stop(process: subprocess.Popen) -> None:
    """End a server."""
    process.terminate()
    process.wait(60)


@contextmanager
def server(command: list[str]) -> Iterator[tuple[int, psutil.Process]]:
    """A server for the time of a block: its port and its process."""
    port = free_port()
    process = start(command, port)
    try:
        yield port, psutil.Process(process.pid)
    finally:
        stop(process)


@contextmanager
def redis_server() -> Iterator[str]:
    """The address of a Redis server of one's own."""
    port = free_port()
    words = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    wait_until_ready("127.0.0.1", port)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        stop(process)


def _json(port: int, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return json.load(answer)


def _swaps(port: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = [line for line in answer.read().decode().splitlines() if 'swaps_total{result="done"}' in line]
    return int(float(lines[0].split()[-1])) if lines else 0


def serve_recbole(items: int, port: int) -> None:
    """RecBole's SASRec behind the same address, called for each request with the latest 50 items."""
    torch.set_num_threads(1)
    config = Config("SASRec", "ml-100k", config_dict={"use_gpu": False, "show_progress": False})
    model: Any = make_model(config, Catalogue(items + 1)).eval()
    app, histories = FastAPI(), {}

    @app.post("/sessions/{session}/events")
    async def add(session: str, request: Request) -> dict:
        history = histories.setdefault(session, [])
        history += [int(item[1:]) for item in (await request.json())["items"]]
        read = history[-50:]
        batch = {
            "item_id_list": torch.tensor([read + [0] * (50 - len(read))]),
            "item_length": torch.tensor([len(read)]),
        }
        with torch.inference_mode():
            best = model.full_sort_predict(Interaction(batch))[0].topk(10)
        found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return {"items": [{"item": f"i{item}", "score": score} for item, score in found]}

    uvicorn.run(app, host="127.0.0.1", port=port, access_log=False, log_level="warning")


ROWS: dict[str, Callable[[Bench], None]] = {
    "main": Bench.main,
    "process": Bench.process,
    "peers": Bench.peers,
    "redis": Bench.redis,
    "swaps": Bench.swaps,
    "kill": Bench.kill,
    "sizes": Bench.sizes,
    "index": Bench.index,
}


def main() -> None:
    """Measure the rows that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", default="main,process,peers,redis,swaps,kill", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--seconds", type=at_least_one, default=60, help="of the main row; others take a quarter of it")
    parser.add_argument("--rate", type=at_least_one, default=1000, help="requests per second")
    parser.add_argument("--items", type=at_least_one, default=3400, help="in the catalogue")
    parser.add_argument("--folder", type=Path, help="for checkpoints, to keep them; default one that is deleted")
    parser.add_argument("--out", type=output_file, help="JSON file for the numbers")
    parser.add_argument("--serve_recbole", type=at_least_one, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=at_least_one, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve_recbole:
        serve_recbole(given.serve_recbole, given.port)
        return
    rows = given.rows.split(",")
    if unknown := [name for name in rows if name not in ROWS]:
        parser.error(f"there is no row {unknown[0]!r}; rows are {', '.join(ROWS)}")
    if given.folder:
        given.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        bench = Bench(given.folder or Path(temporary), given.seconds, given.rate, given.items)
        for name in rows:
            ROWS[name](bench)
    if given.out:
        given.out.write_text(json.dumps({"machine": machine(), "rows": bench.rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
