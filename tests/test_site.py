"""The site, its pictures, README's table and the notebooks are what the repository says today."""

import importlib
import json
import os
import re
import subprocess
import sys

import pytest
from atomic import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture
def make(monkeypatch):
    """Imports a script of ``docs/make``."""
    monkeypatch.syspath_prepend(str(ROOT / "docs" / "make"))
    return importlib.import_module


@pytest.mark.slow
def test_the_drawing_and_the_table_of_the_rooms_are_current(make):
    rooms = make("rooms")
    assert rooms.TARGET.read_text(encoding="utf-8") == rooms.picture(), "run python docs/make/rooms.py"
    now = rooms.PAGE.read_text(encoding="utf-8")
    assert rooms.page(now) == now, "run python docs/make/rooms.py"


def test_the_drawing_shows_imports_that_no_longer_way_leads_to(make):
    rooms = make("rooms")
    below = rooms.imports()
    assert {"layers", "ops"} <= rooms.reached("model", below)
    assert rooms.floors({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == [["a"], ["b"], ["c"]]


def test_the_picture_and_the_table_of_the_results_are_current(make):
    results = make("results_picture")
    for file, drawn in results.pictures().items():
        assert file.read_text(encoding="utf-8") == drawn, "run python docs/make/results_picture.py"
    readme = results.README.read_text(encoding="utf-8")
    assert results.table() in readme, "run python docs/make/results_picture.py"


def test_the_numbers_of_an_axis_are_round_and_around_all_values(make):
    ticks = make("results_picture").ticks
    assert ticks(0, 47, 8) == [0, 10, 20, 30, 40, 50]
    assert ticks(0.0611, 0.0817, 8) == [0.06, 0.065, 0.07, 0.075, 0.08, 0.085]


def test_readme_takes_a_minute():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_links_lead_from_the_files_of_the_repository_to_pages_of_the_site(make):
    pytest.importorskip("mkdocs", reason='pip install -e ".[docs]" installs MkDocs')
    pages = make("pages")
    assert pages.site_link("docs/compare.md#going-on", "index.md") == "compare.md#going-on"
    assert pages.site_link("../results/README.md", "accuracy.md") == "results.md"
    assert pages.site_link("../docs/compare.md", "compare-for-a-paper.md") == "compare.md"
    assert pages.site_link("images/rooms.svg", "architecture.md") == "images/rooms.svg"
    assert pages.site_link("../benchmarks/ops.py", "performance.md") is None


def test_docstrings_are_markdown_on_the_site(make):
    pytest.importorskip("griffe", reason='pip install -e ".[docs]" installs MkDocs')
    docstring = "See :func:`~a.b` and ``x``.\n\n.. code-block:: python\n\n    y = 1\n"
    assert make("docstrings").markdown(docstring) == "See `a.b` and ``x``.\n\n    y = 1\n"


@pytest.mark.docs
def test_the_site_builds_without_a_warning(tmp_path):
    pytest.importorskip("mkdocstrings", reason='pip install -e ".[docs]" installs MkDocs')
    pytest.importorskip("material", reason='pip install -e ".[docs]" installs MkDocs')
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    home = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(?:https?:)?//', home), (
        "nothing comes from elsewhere"
    )
    reference = (tmp_path / "site" / "reference" / "ops" / "index.html").read_text(encoding="utf-8")
    assert "recbole_ssm.ops.packing" in reference
    assert not re.findall(r":(?:func|class|meth|mod):<code>", reference)


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebooks_are_stored_without_outputs(file):
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert code
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.docs
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_notebooks_run(file, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason='pip install -e ".[test]" installs it')
    nbformat = pytest.importorskip("nbformat", reason='pip install -e ".[test]" installs it')
    pytest.importorskip("ipykernel", reason='pip install -e ".[test]" installs it')
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable), prepend=os.pathsep)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # other tests have the other cores
    notebook = nbformat.read(file, as_version=4)
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    printed = "".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "")
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )
    expected = {
        "first-steps": "seconds per epoch",
        "compare-for-a-paper": "\\begin{tabular}",
        "clicks-to-recommendations": "page 6",  # what comes after page 5
    }[file.stem]
    assert expected in printed


FOLLOWED = {"your-own-model.md", "your-own-backend.md", "your-own-verb.md"}
"""Pages that have readers write files; other tests follow them."""

PAGES = [page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in FOLLOWED]
PAGES += [ROOT / page for page in ("README.md", "dataset/README.md", "results/NOTES.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_and_names_that_the_pages_mention_are_there(page):
    text = page.read_text(encoding="utf-8")
    path = (
        r"(?<![\w/])(?:benchmarks|docs|notebooks|properties|recbole_ssm|tests)/[\w./-]+\.(?:py|md|yaml|ipynb|hyper)\b"
    )
    for file in re.findall(path, text):
        assert (ROOT / file).exists(), file
    for name in re.findall(r"`(recbole_ssm(?:\.\w+)+)[`(]", text):
        module, *rest = name.split(".")
        found = importlib.import_module(module)
        for part in rest:
            module += f".{part}"
            found = getattr(found, part) if hasattr(found, part) else importlib.import_module(module)
