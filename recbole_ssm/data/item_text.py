"""Texts of items, such as their titles, from the columns of the ``.item`` file.

No word stands for a missing value; on quotation marks see :func:`recbole_ssm.data.reading.read_rows`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from html import unescape
from logging import getLogger
from pathlib import Path
from typing import Any

from recbole_ssm.data.reading import read_header, read_rows
from recbole_ssm.errors import InputError, did_you_mean

_TITLES = ("title", "movie_title", "item_title", "product_title", "name", "item_name", "product_name")
_YEARS = ("release_year", "year", "movie_year", "release year")

_FIELD = re.compile(r"\{([^{}]*)\}")
_ARTICLE_BEHIND = re.compile(
    r"([^()]*[^()\s]), (The|A|An|La|Le|Les|L'|El|Los|Las|Il|Lo|Das|Der|Die)(?=\s*(?:[()]|$))", re.IGNORECASE
)
_EMPTY_BRACKETS = re.compile(r"\(\s*\)|\[\s*\]")


def item_texts(dataset: Any, template: str | None = None) -> list[str]:
    """The text of each item of a dataset.

    Articles that stand behind a title, as in MovieLens, come to its front: ``Usual Suspects, The`` is ``The Usual
    Suspects``. HTML's codes are resolved, and runs of white space are one space. The log counts items without a text
    and those whose text is not theirs alone.

    Args:
        dataset: RecBole's or this package's, loaded.
        template: what a text is made of, such as ``{movie_title} ({release_year})``, with columns in braces. None for
            the column of titles, found by its name, with the year where there is such a column. Brackets around
            nothing are left out.

    Returns:
        n_items texts by item number, each one line. That of the padding, and of an item of which nothing is known, is
        empty.

    Raises:
        InputError: there is no ``.item`` file, it has no such column, or all texts are empty.
    """
    file = Path(dataset.dataset_path) / f"{dataset.dataset_name}.item"
    if not file.is_file():
        raise InputError(
            f"item_text: texts of items stand in {file}, and there is no such file; add it, as import --items does"
        )
    separator, encoding = dataset.config["field_separator"], dataset.config["encoding"]
    columns = [*read_header(file, separator, encoding)]
    key = dataset.iid_field
    template = _usual_template(file, columns, key) if template is None else template
    wanted = _FIELD.findall(template)
    if not any(map(str.strip, wanted)):
        raise InputError(
            f"item_text: {template!r} names no column; {_how_to_write(template.strip(' {}'), columns, key)}"
        )
    for name in (key, *wanted):
        if name not in columns:
            hint = did_you_mean(name, columns) or f"; it has {', '.join(columns)}"
            raise InputError(f"item_text: {file} has no column {name!r}{hint}")
    place = {name: columns.index(name) for name in (key, *wanted)}
    found = {row[key]: _text(template, row) for row in _rows(file, separator, encoding, place)}
    texts = ["", *(found.get(str(name), "") for name in dataset.field2id_token[key][1:])]
    _note(file, texts)
    return texts


def _usual_template(file: Path, columns: Sequence[str], key: str) -> str:
    """The column of titles, and that of years, by their usual names."""
    names = {name.lower(): name for name in columns}
    others = [name for name in names if name.endswith("title")]
    title = next((names[name] for name in (*_TITLES, *others) if name in names), None)
    year = next((names[name] for name in _YEARS if name in names), None)
    if title is None:
        raise InputError(
            f"item_text: no column of {file} is called like a title ({', '.join(columns)}); "
            f"{_how_to_write('', columns, key)}"
        )
    return f"{{{title}}}" if year is None else f"{{{title}}} ({{{year}}})"


def _how_to_write(meant: str, columns: Sequence[str], key: str) -> str:
    """How a template is written, with the column that was meant, or one that is called like a title, or the last."""
    others = [name for name in columns if name != key] or list(columns)
    like = next((name for word in ("title", "name") for name in others if word in name.lower()), others[-1])
    return (
        "a template is any text with names of columns in braces, such as "
        f"--item_text='{{{meant if meant in columns else like}}}'"
    )


def _rows(file: Path, separator: str, encoding: str | None, place: Mapping[str, int]) -> list[dict[str, str]]:
    """The wanted columns of each line, by name; a column that a line does not have is empty."""
    rows = read_rows(file, separator, encoding)
    return [{name: row[at] if at < len(row) else "" for name, at in place.items()} for row in rows]


def _text(template: str, row: Mapping[str, str]) -> str:
    values = {name: _article_in_front(unescape(value)) for name, value in row.items()}
    filled = _FIELD.sub(lambda field: values[field[1]], template)
    return " ".join(_EMPTY_BRACKETS.sub("", filled).split())


def _article_in_front(title: str) -> str:
    def turned(found: re.Match[str]) -> str:
        rest, article = found.groups()
        return f"{article}{rest}" if article.endswith("'") else f"{article} {rest}"

    return _ARTICLE_BEHIND.sub(turned, title.strip())


def _note(file: Path, texts: Sequence[str]) -> None:
    """Raise InputError if there is no text at all; say how many items have none, and how many share theirs."""
    count = Counter(texts[1:])
    empty = count.pop("", 0)
    if not count:
        raise InputError(f"item_text: the texts of all {empty:,} items in {file} are empty; name other columns")
    shared = sum(number for number in count.values() if number > 1)
    said = [f"{empty:,} have none"] * bool(empty) + [f"{shared:,} share theirs with another item"] * bool(shared)
    if said:
        getLogger().warning(f"texts of {len(texts) - 1:,} items from {file.name}: {', and '.join(said)}")
