"""Pages of the site that do not lie in ``docs/``: a hook of MkDocs (see ``mkdocs.yml``).

- Files of the repository, such as ``README.md``, become pages as they are.
- Notebooks become pages of text and code.
- Each folder of the package becomes a page of its reference, from its docstrings.

Links are those of the repository, so that they also work where the files are read there. Here they become links of the
site; what is no page of the site is named without a link.
"""

from __future__ import annotations

import ast
import json
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent.parent

SOURCES = {
    "index.md": "README.md",
    "own-data.md": "dataset/README.md",
    "results.md": "results/README.md",
    "notes.md": "results/NOTES.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "security.md": "SECURITY.md",
    "first-steps.md": "notebooks/first-steps.ipynb",
    "compare-for-a-paper.md": "notebooks/compare-for-a-paper.ipynb",
    "clicks-to-recommendations.md": "notebooks/clicks-to-recommendations.ipynb",
}
"""Which file of the repository a page is made of, for pages that are not in ``docs/``."""

PAGES = {source: page for page, source in SOURCES.items()}

PACKAGE = ROOT / "recbole_ssm"


def notebook(text: str) -> str:
    """A notebook as Markdown: its text, and its code in fences."""
    blocks = []
    for cell in json.loads(text)["cells"]:
        source = "".join(cell["source"])
        blocks.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
    return "\n\n".join(blocks) + "\n"


def source_of(page: str) -> str:
    """The text of a page that is made of a file of the repository."""
    text = (ROOT / SOURCES[page]).read_text(encoding="utf-8")
    if SOURCES[page].endswith(".ipynb"):
        return notebook(text)
    return text if text.startswith("# ") else f"# {Path(page).stem.capitalize()}\n\n{text}"


def reference() -> dict[str, str]:
    """Name and text of each page of the reference: one for the names at the root, one for each folder."""
    pages = {"reference/recbole_ssm.md": root()}
    for folder in sorted(path.parent for path in PACKAGE.glob("*/__init__.py")):
        modules = [".".join(file.relative_to(ROOT).with_suffix("").parts) for file in sorted(folder.rglob("*.py"))]
        modules = [name.removesuffix(".__init__") for name in modules]
        public = [f"::: {name}\n" for name in modules if "._" not in name]
        pages[f"reference/{folder.name}.md"] = "\n".join([f"# recbole_ssm.{folder.name}\n", *public])
    return pages


def root() -> str:
    """The names of ``recbole_ssm.__all__``, with links to where they are defined."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    found = {a.name: node.module for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names}
    (names,) = (ast.literal_eval(node.value) for node in tree.body if isinstance(node, ast.Assign))
    lines = [f"- [`recbole_ssm.{name}`][{found[name]}.{name}]" for name in names if not name.startswith("_")]
    alone = [f"::: recbole_ssm.{file.stem}\n" for file in sorted(PACKAGE.glob("*.py")) if not file.stem.startswith("_")]
    return "\n".join(["# recbole_ssm\n", "`import recbole_ssm` offers these names:\n", *lines, "", *alone])


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Add to the navigation what follows from the files: pages on extending the package, and the reference."""
    sections = {title: pages for section in config.nav or [] for title, pages in section.items()}
    sections["Extend"][:0] = sorted(file.name for file in (ROOT / "docs").glob("your-own-*.md"))
    sections["Reference"] += [{Path(page).stem: page} for page in reference()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are made here."""
    made = {page: source_of(page) for page, source in SOURCES.items() if (ROOT / source).exists()}
    for page, text in {**made, **reference()}.items():
        files.append(File.generated(config, page, content=text))
    return files


def site_link(link: str, page: str) -> str | None:
    """The link of the site for one of the repository.

    Args:
        link: as it stands in the file of the repository.
        page: the page that it stands on.

    Returns:
        The link; None where it leads to a file that is no page of the site.
    """
    path, hash_, anchor = link.partition("#")
    source = SOURCES.get(page, f"docs/{page}")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path)) if path else source
    there = PAGES.get(target) or (target.removeprefix("docs/") if target.startswith("docs/") else None)
    if not (ROOT / target).exists():
        return link  # MkDocs tells that it leads nowhere
    if there is None:
        return None
    return posixpath.relpath(there, posixpath.dirname(page) or ".") + hash_ + anchor


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Make links of the repository into links of the site, outside of code."""
    own = page.file.src_uri
    if own.startswith("reference/"):
        return markdown

    def rewritten(match: re.Match[str]) -> str:
        if match["code"]:
            return match[0]
        link = site_link(match["link"], own)
        return match["text"] if link is None else f"{match['mark']}[{match['text']}]({link})"

    pattern = r"(?P<code>^```.*?^```|`[^`\n]*`(?!\]))|(?P<mark>!?)\[(?P<text>[^\]]*)\]\((?!https?:)(?P<link>[^)]+)\)"
    return re.sub(pattern, rewritten, markdown, flags=re.MULTILINE | re.DOTALL)
