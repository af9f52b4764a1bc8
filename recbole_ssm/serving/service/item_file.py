"""Titles and categories of items, from the ``.item`` file of a data set, and the search for items by title."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

from recbole_ssm.data.reading import read_header, read_rows
from recbole_ssm.errors import InputError, did_you_mean

_TITLES = ("title", "movie_title", "item_title", "book_title", "name", "item_name", "product_title", "description")
_CATEGORIES = ("categories", "category", "class", "genre", "genres", "item_category", "tags", "brand")
_BETWEEN = "\n"
"""Between two texts that are searched; it is in none of them."""


class ItemFile(NamedTuple):
    """What is known of items, by their names."""

    titles: Mapping[str, str]
    categories: Mapping[str, tuple[str, ...]]


NOTHING = ItemFile({}, {})


def read_item_file(file: Path, title: str | None = None, category: str | None = None) -> ItemFile:
    """Read titles and categories from a ``.item`` file in RecBole's atomic format.

    Args:
        file: columns separated by tabs, with a header ``name:type``; the first column is the item.
        title: the column of titles; None for the first with a usual name, such as ``movie_title``.
        category: the column of categories, several of an item separated by spaces; None as for titles.

    Returns:
        What it says.

    Raises:
        InputError: it cannot be read, or has no such column.
    """
    header = read_header(file, "\t", None)
    names = list(header)
    of_title = _column(file, names, title, _TITLES, "title")
    of_category = _column(file, names, category, _CATEGORIES, "category")
    several = of_category is not None and header[names[of_category]] == "token_seq"
    return _read(read_rows(file, "\t", None), of_title, of_category, several)


def _column(file: Path, names: Sequence[str], asked: str | None, usual: Sequence[str], what: str) -> int | None:
    """The place of a column; None where nobody asked for it and the file has none."""
    if asked is not None and asked not in names[1:]:
        raise InputError(f"--{what}={asked}: {file} has no such column{did_you_mean(asked, names[1:])}")
    found = asked or next((name for name in usual if name in names[1:]), None)
    return None if found is None else names.index(found)


def _read(rows: Iterable[Sequence[str]], title: int | None, category: int | None, several: bool) -> ItemFile:
    """Titles and categories by the first column."""
    titles, categories = {}, {}
    for row in rows:
        if title is not None and len(row) > title and row[title].strip():
            titles[row[0]] = " ".join(row[title].split())
        if category is not None and len(row) > category and row[category].strip():
            categories[row[0]] = tuple(row[category].split()) if several else (row[category].strip(),)
    return ItemFile(titles, categories)


class Search:
    """Finds items whose title or name holds some words.

    Args:
        items: names, those that are to be found first at the beginning.
        titles: by name; an item without title is found by its name.
    """

    def __init__(self, items: Sequence[str], titles: Mapping[str, str]):
        self._items, self._numbers = items, {item.casefold(): number for number, item in enumerate(items)}
        texts = [" ".join(titles.get(item, item).casefold().split()) for item in items]
        self._text = _BETWEEN.join(texts)
        self._starts = [0, *accumulate(len(text) + len(_BETWEEN) for text in texts)]

    def find(self, query: str, most: int) -> list[str]:
        """Items of this name, then those whose title holds the query, upper and lower case alike.

        Args:
            query: some text.
            most: how many are wanted.

        Returns:
            Names of items.
        """
        words = " ".join(query.casefold().split())
        found = dict.fromkeys([self._numbers[words]] if words in self._numbers else [])
        place = self._text.find(words)
        while place >= 0 and len(found) < most:
            number = bisect_right(self._starts, place) - 1
            found[number] = None
            place = self._text.find(words, self._starts[number + 1])
        return [self._items[number] for number in found if number < len(self._items)]
