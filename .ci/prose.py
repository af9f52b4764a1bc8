"""Checks words and sentences of docs, docstrings and comments: ``python .ci/prose.py [FILE ...]``.

It finds phrases that readers stumble over, and sentences that are too long. It is no grammar checker.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

LONGEST = 40
"""Words of a sentence."""

PHRASES = {
    r"(?i)every ?ones\b|everybodys\b": "all-reduce, all-gather; of every process",
    r"(?i)\bof_first\b": "from rank 0",
    r"(?i)so-?manieth": "the n-th",
    r"(?i)\bthe likes? of (it|that|this|them)\b": "the name of the thing",
    r"(?i)\band (its|their|the) likes?\b": "such as ...",
    r"(?i)\bwhat there is of\b": "the name of the thing",
    r"(?i)\bwhat(ever)? is it that\b|\bit is (this|that) which\b": "the subject first",
    r"(?i)\bas much of an? .{1,30} as\b": "the part of ... that",
    r"(?<!there )\b(is|are) none\b(?! of)": "is not a ...; what it is",
    r"(?i)\b(here|there)(of|upon|to|with|from)\b": "of it, then, with it",
    r"(?i)\bwhere(of|upon|to|with|from)\b": "of which, with which",
    r"(?i)\b(nought|aught|whilst|amongst|forthwith|hitherto|ought|shall|heed|if need be|in vain)\b": "a common word",
    r"(?i)\btells? of\b": "warns of, shows",
    r"(?i)\b(utili[sz]e|leverage|in order to|due to the fact|prior to)\b": "use, to, because, before",
    r"(?i)\b(simply|obviously|of course|needless to say|it should be noted|please note)\b": "nothing: leave it out",
    r"(?i)\b(blazing|seamless|cutting.edge|state.of.the.art|world.class|powerful)\w*\b": "a number, or nothing",
    r"\b([a-z]+) \1\b(?<!had had)(?<!that that)": "a word once",
}
"""Patterns, and what to write."""

CODE_BLOCK = re.compile(r"^( *)\.\. code-block::.*\n(?:\1 +.*\n|\s*\n)*", re.MULTILINE)
"""Of a docstring: the directive, and the lines that stand further to the right."""

PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "dataset/README.md")


def files() -> list[Path]:
    """All files that are read."""
    pages = [ROOT / page for page in PAGES] + sorted((ROOT / "docs").rglob("*.md"))
    return [*pages, *sorted((ROOT / "recbole_ssm").rglob("*.py"))]


def findings(file: Path) -> Iterator[str]:
    """One line for each thing that is found in a file."""
    text = file.read_text(encoding="utf-8")
    blocks = python_prose(text) if file.suffix == ".py" else page_prose(text)
    for line, block in blocks:
        words = clean(block)
        for pattern, better in PHRASES.items():
            for found in re.finditer(pattern, words):
                yield f"{file.relative_to(ROOT)}:{line}: {found[0]!r}: write {better}"
        for sentence in re.split(r"(?<=[.!?:])\s+(?=[A-Z`(])|(?<=;)\s", words):
            if (length := len(re.findall(r"[\w'-]+", sentence))) > LONGEST:
                yield f"{file.relative_to(ROOT)}:{line}: {length} words: {sentence[:70]!r} ..."


def python_prose(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of each paragraph of docstrings, of error messages, and of comments that stand together."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            prose = CODE_BLOCK.sub(lambda code: "\n" * code[0].count("\n"), node.value.value)
            yield from paragraphs(prose, node.lineno)
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            for part in ast.walk(node.exc):
                if isinstance(part, ast.Constant) and isinstance(part.value, str):
                    yield node.lineno, part.value
    start, lines, last = 0, [], -1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            alone = token.line.lstrip().startswith("#")
            if lines and not (alone and token.start[0] == last + 1):
                yield start, " ".join(lines)
                lines = []
            start = start if lines else token.start[0]
            lines.append(token.string.lstrip("# "))
            last = token.start[0] if alone else -1
    if lines:
        yield start, " ".join(lines)


def page_prose(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of each paragraph, list entry and cell of a page; no code."""
    text = re.sub(r"^( *)```.*?^ *```$", lambda code: "\n" * code[0].count("\n"), text, flags=re.MULTILINE | re.DOTALL)
    for line, block in paragraphs(text, 1):
        if block.lstrip().startswith("|"):
            yield from ((line, cell) for cell in block.split("|"))
        else:
            yield line, block


def paragraphs(text: str, first: int) -> Iterator[tuple[int, str]]:
    """Line and text of each paragraph; entries of lists, rows of tables and arguments of a docstring are their own."""
    start, lines, table = first, [], False
    for number, line in enumerate(text.splitlines(), first):
        border = re.fullmatch(r"\s*=+ [= ]*", line)
        table ^= border is not None
        begins = table or border or re.match(r"\s*([-*|#>]|\d+\.|[\w*, ]+:\s)", line)
        if (not line.strip() or begins) and lines:
            yield start, " ".join(lines)
            lines = []
        if line.strip():
            start = start if lines else number
            lines.append(line.strip())
    if lines:
        yield start, " ".join(lines)


def clean(text: str) -> str:
    """A text without code, links' targets and marks."""
    text = re.sub(r"``.+?``|`[^`]+`", "CODE", text)
    text = re.sub(r"\]\([^)]*\)|https?://\S+|:(class|meth|func|data|attr|mod):", " ", text)
    return re.sub(r"[*_|\[\]]", " ", text)


def main(arguments: list[str]) -> int:
    """Print what is found; 1 if anything is."""
    found = [line for file in ([Path(name).resolve() for name in arguments] or files()) for line in findings(file)]
    print(*found, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
