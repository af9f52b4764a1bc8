"""The check of words and sentences finds what it is to find, and passes over code."""

import pytest
from prose import LONGEST, findings

LONG = "a word " * (LONGEST // 2 + 1)


@pytest.mark.parametrize(
    ("name", "text", "found"),
    [
        ("page.md", "The so-manieth batch.", "'so-manieth': write the n-th"),
        ("page.md", f"| key | {LONG} |", f"{LONGEST + 2} words"),
        ("page.md", f"Short. {LONG.capitalize()}\nand more.", f"{LONGEST + 4} words"),
        ("module.py", '"""What\nthere is of it."""', ":1: 'What there is of'"),
        ("module.py", "x = 1  # in order to be\n", "'in order to': write use"),
        ("module.py", "# a comment in order\n# to be\n", ":1: 'in order to'"),
        ("module.py", 'raise ValueError(f"{x} is none")', "'is none': write is not a"),
    ],
)
def test_it_is_found(tmp_path, monkeypatch, name, text, found):
    monkeypatch.setattr("prose.ROOT", tmp_path)
    (tmp_path / name).write_text(text, encoding="utf-8")
    (line,) = findings(tmp_path / name)
    assert line.startswith(f"{name}:")
    assert found in line


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("page.md", "`is none` stands in code.\n\n```python\nx is none\n```\n"),
        ("page.md", f"- {LONG[:-40]}\n- {LONG[:-40]}"),
        ("page.md", f"[{LONG[:-40]}](page-{LONG.replace(' ', '-')}.md)"),
        ("module.py", '"""None is None. It had had one."""\nname = "is none"\n'),
        ("module.py", f'"""Args:\n    x: {LONG[:-40]}\n    y: {LONG[:-40]}\n"""'),
    ],
)
def test_it_is_fine(tmp_path, monkeypatch, name, text):
    monkeypatch.setattr("prose.ROOT", tmp_path)
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert not list(findings(tmp_path / name))
