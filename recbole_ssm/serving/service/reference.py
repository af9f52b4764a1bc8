"""The description of the service as a page: FastAPI's own would load scripts from elsewhere."""

from __future__ import annotations

import json
from html import escape
from typing import Any

_STYLE = """:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
h2{font-size:1.05rem;margin-top:2rem}code,pre{font:14px/1.4 ui-monospace,monospace}pre{overflow-x:auto}
table{border-collapse:collapse}td{padding:.1rem 1rem .1rem 0;vertical-align:top}"""


def reference(schema: dict[str, Any]) -> tuple[str, str]:
    """A page that says what the service takes and gives.

    Args:
        schema: of OpenAPI.

    Returns:
        The page in HTML, and its style, which stands in a file of its own.
    """
    parts = [
        f"<h2 id='{escape(name)}'><code>{escape(method.upper())} {escape(path)}</code></h2>{_call(call, schema)}"
        for path, methods in schema["paths"].items()
        for method, call in methods.items()
        for name in [call["operationId"]]
    ]
    title = escape(f"{schema['info']['title']} {schema['info']['version']}")
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
    head += '<link rel="stylesheet" href="docs.css">'
    about = f"<h1>{title}</h1><p>{escape(schema['info']['description'])} <a href='openapi.json'>openapi.json</a></p>"
    return head + about + "".join(parts), _STYLE


def _call(call: dict[str, Any], schema: dict[str, Any]) -> str:
    """What one address takes and gives."""
    found = f"<p>{escape(call.get('description', ''))}</p>"
    rows = [(each["name"], each["in"], each.get("schema", {})) for each in call.get("parameters", ())]
    body = _schema(call.get("requestBody"), schema)
    rows += [(name, "body", each) for name, each in body.get("properties", {}).items()]
    found += _table(rows)
    for example in body.get("examples", ()):
        found += f"<pre>{escape(json.dumps(example))}</pre>"
    for status, answer in call.get("responses", {}).items():
        fields = _schema(answer, schema).get("properties", {})
        if status == "200" and fields:
            found += f"<p>Answer:</p>{_table([(name, '', each) for name, each in fields.items()])}"
    return found


def _schema(content: dict[str, Any] | None, schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a body, followed to where it stands."""
    found = (content or {}).get("content", {}).get("application/json", {}).get("schema", {})
    name = found.get("$ref", "").rpartition("/")[2]
    return schema["components"]["schemas"].get(name, found)


def _table(rows: list[tuple[str, str, dict[str, Any]]]) -> str:
    lines = (
        f"<tr><td><code>{escape(name)}</code><td>{escape(place)}<td>{escape(_kind(each))}"
        f"<td>{escape(each.get('description', ''))}"
        for name, place, each in rows
    )
    return f"<table>{''.join(lines)}</table>" if rows else ""


def _kind(schema: dict[str, Any]) -> str:
    """A type in a word or two."""
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_kind(schema['items'])}"
    return schema.get("type", schema.get("$ref", "").rpartition("/")[2])
