r"""No name and no message controls the terminal: control characters such as ``\x1b`` are written out."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from atomic import interactions, run_here, small, write_dataset

import recbole_ssm
from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.cli.main import main
from recbole_ssm.system.terminal import printable

OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
CLEAR, TITLE, TURN, BELL = "\x1b[2J", "\x1b]0;title\x07", "\u202e", "\x9b31m\b"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, ünï 漢字 👩‍👧 \n\t", "plain, ünï 漢字 👩‍👧 \n\t"),
        (CLEAR, r"\x1b[2J"),
        (TITLE, r"\x1b]0;title\x07"),
        ("a\rb\x7f", r"a\rb\x7f"),
        (BELL, r"\x9b31m\x08"),
        (TURN, r"\u202e"),
        (Path("a\x1bc"), r"a\x1bc"),
    ],
)
def test_what_is_shown(text, shown):
    assert printable(text) == shown
    assert not OBEYED.search(printable(text))


@pytest.fixture
def file(tmp_path) -> str:
    """A checkpoint whose items, users, settings and name hold commands."""
    frame = interactions(n_users=12, n_items=10)
    frame["item_id"] += CLEAR
    frame["user_id"] += TITLE
    write_dataset(tmp_path, frame)
    keys = {"data_path": str(tmp_path), "use_gpu": False, "show_progress": False, "epochs": 1}
    made = recbole_ssm.run("2Mamba4Rec", "tiny", config_dict=keys | small("2Mamba4Rec"))["checkpoint"]
    state = checkpoint.read(made)
    state["given"]["wandb_project"] = BELL + TURN
    state["versions"]["torch"] = TITLE
    checkpoint.write(f"m{CLEAR}.pth", {key: state[key] for key in state if not key.startswith("format")})
    return f"m{CLEAR}.pth"


@pytest.mark.slow
def test_names_in_what_verbs_print(file, capfd, monkeypatch):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # as where nobody has set up a log
    user, item = f"u1{TITLE}", f"i1{CLEAR}"
    for words, shown in (
        (["inspect"], r"\x9b31m\x08\u202e"),
        (["recommend", f"--history={item}"], r"\x1b[2J"),
        (["recommend"], r"u1\x1b]0;title\x07"),
        (["recommend", f"--users={user}"], r"u1\x1b]0;title\x07"),
        (["recommend", f"--history=no{CLEAR}"], "no item 'no"),
        (["recommend", f"--users=no{TITLE}"], "no user 'no"),
        (["recommend", f"--{CLEAR}=1"], "no use for"),
        (["evaluate"], "test_result"),
        (["evaluate", f"--key{CLEAR}=1"], "unknown key"),
        (["evaluate", f"--data_path=no{CLEAR}"], "error: "),
        (["evaluate", f"--dataset=no{CLEAR}"], "error: "),
    ):
        main([words[0], f"--checkpoint={file}", *words[1:]])
        said = capfd.readouterr()
        assert not OBEYED.search(said.out + said.err), words
        assert shown in said.out + said.err
    for verb in ("inspect", "evaluate", "recommend"):
        assert main([verb, f"--checkpoint=none{TITLE}", "--history=a"][: 3 if verb == "recommend" else 2]) == 2
        assert r"there is no checkpoint none\x1b]0;title\x07" in capfd.readouterr().err


def test_a_file_that_is_written_has_the_real_names(file, capfd):
    assert main(["recommend", f"--checkpoint={file}", "--users=" + f"u1{TITLE}", "--out=best.inter"]) == 0
    assert f"u1{TITLE}\t1\ti" in Path("best.inter").read_text(encoding="utf-8")
    assert CLEAR in Path("best.inter").read_text(encoding="utf-8")


def test_what_a_training_logs_and_help_lists(tmp_path, capfd, monkeypatch):
    """But for the colours, which RecBole puts around words."""
    frame = interactions(n_users=12, n_items=10).rename(columns={"item_id": f"item{CLEAR}"})
    write_dataset(tmp_path, frame, f"tiny{TITLE}")
    keys = {**small("2Mamba4Rec"), "use_gpu": False, "show_progress": False, "epochs": 1}
    words = [f"--{key}={value}" for key, value in keys.items()]
    words += [f"--data_path={tmp_path}", f"--ITEM_ID_FIELD=item{CLEAR}", f"--dataset=tiny{TITLE}"]
    Path("script.py").write_text("import sys\nfrom recbole_ssm.cli.main import main\nsys.exit(main())\n")
    done = run_here("script.py", "--model=2Mamba4Rec", "--verbose", *words, capfd=capfd, monkeypatch=monkeypatch)
    assert done.returncode == 0
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    assert r"item\x1b[2J" in said and r"tiny\x1b]0;title\x07" in said
    assert not OBEYED.search(said)
    assert main(["--help", f"--data_path={tmp_path}"]) == 0
    said = capfd.readouterr().out
    assert r"tiny\x1b]0;title\x07" in said and not OBEYED.search(said)
