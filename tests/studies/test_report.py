"""Tables say the same in every form, names with signs stay what they are, and figures are files and parts of a page."""

import csv
import html
import re

import pytest

from recbole_ssm.studies.report import Figure, Report, Table, styles, write_csv


def table(*rows: tuple[str, list[str]], columns: int = 2, best: frozenset = frozenset()) -> Table:
    return Table("Of all", {f"c_{number}": f"what {number} is" for number in range(columns)}, rows, best)


@pytest.mark.parametrize(
    ("cell", "latex", "markdown"),
    [
        (".12 ± .01**", r".12 $\pm$ .01$^{**}$", r".12 ± .01\*\*"),
        ("d_state=4 & 5%", r"d\_state=4 \& 5\%", "d_state=4 & 5%"),
        ("a|b\\c{}~^", r"a|b\textbackslash{}c\{\}\textasciitilde{}\textasciicircum{}", "a\\|b\\c{}~^"),
        ("", "", ""),
    ],
)
def test_signs(cell, latex, markdown):
    shown = table((cell, ["1", cell]))
    assert rf"{latex} & 1 & {latex} \\" in shown.latex()
    assert f"| {markdown} | 1 | {markdown} |" in shown.markdown()


def test_the_best_stands_out():
    shown = table(("A", ["1", "2"]), ("B", ["3", "4"]), best=frozenset({(0, 1), (1, 0)}))
    assert "A & 1 & \\textbf{2}" in shown.latex() and "B & \\textbf{3} & 4" in shown.latex()
    assert "| A | 1 | **2** |" in shown.markdown() and "| B | **3** | 4 |" in shown.markdown()


@pytest.mark.slow
def test_all_forms_of_a_report(tmp_path, painted):
    rows = [(f"<{number}>", ["1", ".2 ± .1"]) for number in range(25)]
    figures = [Figure("A & B at 10", lambda axes: axes.plot([1, 10], [1, 2], label="it"))]
    Report("<x>", "do --it='a  b' --now", [table(*rows)], ["a <note>"], figures, ["a <failure>"]).write(
        tmp_path, "runs"
    )
    page = (tmp_path / "report.html").read_text()
    assert all(f"&lt;{number}&gt;" in page for number in range(25)) and "5 more" in page
    words = re.search("<code.*</code>", page)[0]
    assert html.unescape(re.sub("<[^>]*>", "", words)) == "do --it='a  b' --now" and "<span>--now</span>" in words
    assert "&lt;x&gt;" in page and "a &lt;note&gt;" in page and "a &lt;failure&gt;" in page and "currentColor" in page
    assert (tmp_path / "runs.md").read_text().count("| <") == (tmp_path / "runs.tex").read_text().count("$\\pm$") == 25
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"a-b-at-10.svg", "a-b-at-10.pdf"}
    pdf = (tmp_path / "figures" / "a-b-at-10.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    svg = (tmp_path / "figures" / "a-b-at-10.svg").read_text()
    Report("x", "", [], [], [Figure("other", figures[0].draw)]).write(tmp_path, "runs")
    assert {file.name for file in (tmp_path / "figures").iterdir()} == {"other.svg", "other.pdf"}
    assert (tmp_path / "figures" / "other.svg").read_text() == svg  # the same again from the same values
    assert (tmp_path / "figures" / "other.pdf").read_bytes() == pdf


@pytest.mark.parametrize("number", [1, 9, 30])
def test_lines_differ_without_colour(number):
    looks = [(look["marker"], look["linestyle"]) for look in styles(map(str, range(number))).values()]
    assert len(set(looks)) == number


def test_records_keep_all_digits(tmp_path):
    write_csv(tmp_path / "x.csv", [{"a": 1 / 3, "b": None}, {"a": 2, "b": "x,y"}])
    with (tmp_path / "x.csv").open() as lines:
        assert list(csv.DictReader(lines)) == [{"a": repr(1 / 3), "b": ""}, {"a": "2", "b": "x,y"}]
