"""The container's steps that need no registry of images: what it starts, what asks after its health, what it copies."""

import fnmatch
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import processes
import pytest

from recbole_ssm.testing.checkpoints import made_checkpoint

ROOT = Path(__file__).parent.parent
if not (ROOT / "Dockerfile").exists():
    pytest.skip("the package is tested without its checkout", allow_module_level=True)
TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def command(instruction: str) -> list[str]:
    """The words of an instruction in its JSON form."""
    return json.loads(re.search(rf"^{instruction}.*?(\[.*\])$", TEXT, re.MULTILINE)[1])


def test_the_service_does_not_run_as_root():
    user = re.search(r"^USER (\S+)$", TEXT, re.MULTILINE)
    assert user[1] != "root" and user.start() < TEXT.index("ENTRYPOINT")


@pytest.mark.parametrize("path", ["dataset/clicks.inter", "saved/model.pth", ".git/config", "results/README.md"])
def test_data_and_checkpoints_are_not_copied(path):
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    kept = [line.removeprefix("!") for line in lines if line.startswith("!")]
    assert lines[0] == "*" and not any(fnmatch.fnmatch(path.split("/")[0], each) for each in kept)
    assert all((ROOT / each).exists() for each in kept)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="it stops the service with a signal of POSIX")
def test_what_it_starts_becomes_healthy_and_stops_on_request(tmp_path):
    pytest.importorskip("fastapi", reason="the service needs the extra serve")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    program, *options = [word.replace("8000", port).replace("0.0.0.0", "127.0.0.1") for word in command("ENTRYPOINT")]
    assert program == "recbole-ssm"
    checkpoint = made_checkpoint(tmp_path / "made.pth", 30, hidden_size=8, headdim=4, d_state=4, num_layers=1)
    service = processes.process(processes.verb, *options, f"--checkpoint={checkpoint}")
    try:
        health = [sys.executable, *(word.replace("8000", port) for word in command("HEALTHCHECK")[1:])]
        end = time.monotonic() + 300
        while subprocess.run(health, stderr=subprocess.DEVNULL, env={**os.environ, "no_proxy": "*"}).returncode:
            assert service.is_alive() and time.monotonic() < end
            time.sleep(0.5)
        service.terminate()
        service.join(300)
        assert service.exitcode in (0, -signal.SIGTERM)
    finally:
        service.kill()
