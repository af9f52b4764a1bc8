"""Docstrings on the site: a Griffe extension, which ``mkdocs.yml`` names.

The package's docstrings refer to others as Sphinx does, such as ``:func:`packed```, and begin code with
``.. code-block:: python``. MkDocs reads Markdown, so that the one becomes code and the other is left out.
"""

from __future__ import annotations

import re
from typing import Any

import griffe


def markdown(docstring: str) -> str:
    """A docstring with Sphinx's roles as code, and its blocks of code as Markdown has them: indented."""
    docstring = re.sub(r":(?:attr|class|data|exc|func|meth|mod):`~?([^`]+)`", r"`\1`", docstring)
    return re.sub(r"^\s*\.\. code-block:: \w+\n", "", docstring, flags=re.MULTILINE)


class Docstrings(griffe.Extension):
    """Changes the docstring of everything that is read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
