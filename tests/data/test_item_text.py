"""Texts of items from raw ``.item`` files."""

from __future__ import annotations

import logging

import pytest
from atomic import interactions, make_config, write_dataset

from recbole_ssm.data import create_dataset
from recbole_ssm.errors import InputError


@pytest.fixture
def texts(tmp_path):
    """A function of the lines of an .item file and a template: the text of each item by its name."""
    write_dataset(tmp_path, interactions(n_users=12, n_items=8))

    def read(lines, template=None, encoding="utf-8"):
        if lines is not None:
            (tmp_path / "tiny" / "tiny.item").write_bytes("\n".join(lines).encode(encoding))
        dataset = create_dataset(make_config(tmp_path, encoding=encoding), packed=True)
        found = dataset.item_texts(template)
        assert found[0] == "" and len(found) == dataset.item_num
        return dict(zip(dataset.field2id_token["item_id"], found, strict=True))

    return read


HEADER = "item_id:token\ttitle:token_seq\tyear:token\tcategories:token_seq"
LINES = [
    HEADER,
    'i0\t12" ruler, "The Best\t2001\tTools',
    "i1\tUsual Suspects, The\t1995\tCrime",
    "i2\tCity of Lost Children, The (Cité des enfants perdus, La)\t\tSci-Fi",
    "i3\tNA\t1990\t",
    "i4\t\t\t",
    "i5\tSoap &amp;  Water\t2001\tBath",
    "i6\tSoap & Water\t2001",
    "other\tNobody has it\t1\tNone",
]


def test_a_line_is_read_as_it_stands(texts, caplog):
    with caplog.at_level(logging.WARNING):
        found = texts(LINES)
    expected = {
        "i0": '12" ruler, "The Best (2001)',
        "i1": "The Usual Suspects (1995)",
        "i2": "The City of Lost Children (La Cité des enfants perdus)",
        "i3": "NA (1990)",
        "i4": "",
        "i5": "Soap & Water (2001)",
        "i6": "Soap & Water (2001)",
        "i7": "",  # in no line
    }
    assert {name: found[name] for name in expected} == expected
    assert "texts of 8 items from tiny.item: 2 have none, and 2 share theirs" in caplog.text


def test_a_template_names_columns(texts):
    found = texts(LINES, "{categories}: {title} [{year}]")
    assert found["i1"] == "Crime: The Usual Suspects [1995]" and found["i6"] == ": Soap & Water [2001]"


def test_encoding_and_usual_names(texts):
    found = texts(["item_id:token\tMovie_Title:token", "i1\tÉté, L'"], encoding="latin-1")
    assert found["i1"] == "L'Été"


@pytest.mark.parametrize(
    ("lines", "template", "words"),
    [
        (None, None, r"there is no such file; add it"),
        (["item_id:token\tprice:float", "i1\t3"], None, r"no column of .* is called like a title \(item_id, price\)"),
        (LINES, "{titles}", "has no column 'titles'. Did you mean title"),
        (LINES, "no column", r"'no column' names no column; a template is any text .* such as --item_text='{title}'"),
        (LINES, "categories", "such as --item_text='{categories}'"),
        (LINES, "", "'' names no column; a template"),
        (LINES, "{}: { }", "names no column"),
        (["item_id:token\tbrand_name:token\tprice:float", "i1\tA\t3"], None, "such as --item_text='{brand_name}'"),
        ([HEADER, "i1\t\t\t"], None, "the texts of all 8 items in .* are empty"),
        (["id:token\ttitle:token", "i1\tA"], None, "has no column 'item_id'"),
    ],
)
def test_what_has_no_texts_is_refused_in_a_sentence(texts, lines, template, words):
    with pytest.raises(InputError, match=words):
        texts(lines, template)
