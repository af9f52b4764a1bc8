"""The tables of keys in the documentation, made from their declarations.

``python -m recbole_ssm.config.keys_page docs/keys.md`` writes them into the page.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from recbole_ssm.config.keys import sections
from recbole_ssm.config.shipped_files import properties_folder
from recbole_ssm.model.declarations import Key
from recbole_ssm.model.registry import SHIPPED
from recbole_ssm.system.markdown import markdown_table

BEGIN, END = "<!-- made from the declarations of the keys: begin -->", "<!-- end -->"
"""What stands around the tables in a page; the rest of the page is written by hand."""


def with_tables(page: str) -> str:
    """A page with the tables as the declarations have them now."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    tables = "\n\n".join(f"## {title}\n\n{keys_table(keys)}" for title, keys in sections())
    return f"{before}{BEGIN}\n\n{tables}\n\n{END}{after}"


def keys_table(keys: list[tuple[Key, str]]) -> str:
    """A Markdown table of keys and the models that have them, from :func:`recbole_ssm.config.keys.sections`."""
    rows = []
    for key, models in keys:
        text = f"{models}: {key.text}" if models else key.text[0].upper() + key.text[1:]
        defaults = _defaults(key, models.split(", ") if models else list(SHIPPED))
        rows.append((f"`{key.name}`", key.values, defaults, f"{text}."))
    return "\n".join(markdown_table(("key", "values", "default", ""), rows))


def _defaults(key: Key, models: list[str]) -> str:
    """The default of a key, and those of the models that have another."""
    of_models = {model: _file(model).get(key.name, key.default) for model in models}
    common = key.default if key.default in of_models.values() else next(iter(of_models.values()))
    others = [f"{model}: `{value}`" for model, value in of_models.items() if value != common]
    return "; ".join([f"`{common}`", *others])


@lru_cache
def _file(model: str) -> dict[str, Any]:
    file = properties_folder() / "model" / f"{model}.yaml"
    return yaml.safe_load(file.read_text(encoding="utf-8")) or {}


if __name__ == "__main__":
    page = Path(sys.argv[1])
    page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")
