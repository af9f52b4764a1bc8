"""Only an empty field is missing, for the models of this package and for RecBole's."""

import re

import pandas as pd
import pytest
from atomic import interactions, make_config, write_dataset

from recbole_ssm.data import create_dataset
from recbole_ssm.data.reading import read_columns, read_header, read_rows
from recbole_ssm.errors import InputError

WORDS = ["NA", "null", "None", "nan", "N/A", "#N/A", "<NA>", "NULL", "n/a", "NaN", "-nan", "1.#IND"]
"""What pandas takes for missing unless it is told otherwise."""

ALL = {"load_col": None}


def with_words() -> pd.DataFrame:
    """Interactions of 12 users with 12 items, whose names are these words, or are like any other."""
    frame = interactions(n_users=12, n_items=12, shortest=8, longest=9)
    names = {f"i{number}": word for number, word in enumerate(WORDS[:8])}
    names |= {f"u{number}": word for number, word in enumerate(WORDS[4:])}
    return frame.replace(names)


def load(folder, model="2Mamba4Rec", **keys):
    config = make_config(folder, model, **keys)
    return create_dataset(config, packed=config.is_packed)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR", "FM", "Pop", "DIEN"])
def test_names_such_as_NA_are_names(tmp_path, model):
    frame = with_words()
    write_dataset(tmp_path, frame)
    for _ in range(2):  # read, and where it can be, kept
        dataset = load(tmp_path, model, **ALL, dataset_cache="kept")
        assert len(dataset.inter_feat) == len(frame)
        assert set(dataset.field2id_token["item_id"][1:]) == set(frame["item_id"])
        assert set(dataset.field2id_token["user_id"][1:]) == set(frame["user_id"])


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "FM"])
def test_features_of_users_and_items_likewise(tmp_path, model):
    """Also beside columns of lists; what is empty is missing, for which RecBole puts 0, and the mean for numbers."""
    write_dataset(tmp_path, with_words())
    items = [
        f"{word}\t{other}\t{word} x\t{number}"
        for number, (word, other) in enumerate(zip(WORDS, reversed(WORDS), strict=True))
    ]
    items[0] = f"{WORDS[0]}\t\t\t"
    lists = tmp_path / "tiny" / "tiny.item"
    lists.write_text("\n".join(["item_id:token\tmaker:token\ttags:token_seq\tprice:float", *items]) + "\n")
    users = [f"{word}\t{word}" for word in WORDS]
    (tmp_path / "tiny" / "tiny.user").write_text("\n".join(["user_id:token\tclass:token", *users]) + "\n")
    dataset = load(tmp_path, model, **ALL)
    items, users, names = dataset.item_feat, dataset.user_feat, dataset.field2id_token
    rows = {word: items[items["item_id"] == dataset.token2id("item_id", word)].iloc[0] for word in WORDS[:8]}
    assert names["maker"][int(rows["null"]["maker"])] == WORDS[-2]
    assert names["tags"][rows["null"]["tags"]].tolist() == ["null", "x"]
    assert rows["null"]["price"] == 1
    assert (rows["NA"]["maker"], len(rows["NA"]["tags"])) == (0, 0)
    assert rows["NA"]["price"] == sum(range(1, 12)) / 11
    assert set(names["class"][users["class"].astype(int)]) >= set(WORDS[4:])


def test_links_and_graphs_likewise(tmp_path):
    """A knowledge-based model: items are linked to entities by files of their own."""
    frame = with_words()
    write_dataset(tmp_path, frame)
    items = sorted(set(frame["item_id"]))
    link = ["item_id:token\tentity_id:token", *(f"{item}\te-{item}" for item in items[:-1]), f"{items[-1]}\tnull"]
    graph = ["head_id:token\trelation_id:token\ttail_id:token", *(f"e-{item}\tNA\tnull" for item in items[:-1])]
    (tmp_path / "tiny" / "tiny.link").write_text("\n".join(link) + "\n")
    (tmp_path / "tiny" / "tiny.kg").write_text("\n".join(graph) + "\n")
    dataset = load(tmp_path, "CKE", **ALL)
    assert len(dataset.inter_feat) == len(frame)
    assert len(dataset.item2entity) == len(items)
    assert len(dataset.kg_feat) == len(items) - 1
    assert "NA" in dataset.field2id_token["relation_id"]


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "BPR"])
@pytest.mark.parametrize(
    "lines",
    [
        ["\ti1\t978300000", "u1\t\t978300001"],
        ["u1\t\t978300001", "\ti1\t978300000", "\t\t978300002"],
        ["\ti1\t978300000"],
    ],
    ids=["user, item", "item, user, both", "user"],
)
def test_lines_without_a_user_or_an_item_are_left_out_and_no_others(tmp_path, caplog, model, lines):
    file = write_dataset(tmp_path, interactions())
    header, *good = file.read_text().splitlines()
    file.write_text("\n".join([header, *good[:3], *lines, *good[3:], ""]))
    dataset = load(tmp_path, model)
    users, items = (
        dataset.field2id_token[field][dataset.inter_feat[field]].tolist() for field in ("user_id", "item_id")
    )
    expected = sorted(tuple(line.split("\t")[:2]) for line in good)
    assert sorted(zip(users, items, strict=True)) == expected
    (said,) = (record.getMessage() for record in caplog.records if "left out" in record.getMessage())
    assert said.endswith("left out: " + ", ".join(str(5 + number) for number in range(len(lines))))
    assert "tiny.inter: " in said


def test_items_without_a_name_are_left_out_of_their_file(tmp_path):
    """Where some stand there twice, too, so that numbers of lines and of rows differ."""
    write_dataset(tmp_path, interactions())
    lines = [
        "item_id:token\tprice:float",
        "i1\t1",
        "i1\t5",
        "i2\t2",
        "\t9",
        "i3\t3",
        *(f"i{n}\t{n}" for n in range(4, 40)),
    ]
    (tmp_path / "tiny" / "tiny.item").write_text("\n".join([*lines, "i0\t0", ""]))
    items = load(tmp_path, **ALL).item_feat
    names = load(tmp_path, **ALL).field2id_token["item_id"]
    assert all(
        price == float(names[item][1:]) for item, price in zip(items["item_id"][1:], items["price"][1:], strict=True)
    )


SEPARATORS = [",", "|", "::", "||", "\\t", "·"]


@pytest.mark.sampled(5)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
@pytest.mark.parametrize("separator", SEPARATORS)
def test_any_separator_is_taken_as_it_stands(tmp_path, model, separator):
    file = write_dataset(tmp_path, interactions())
    expected = load(tmp_path, model).inter_feat
    file.write_text(file.read_text().replace("\t", separator), encoding="utf-8")
    assert load(tmp_path, model, field_separator=separator).inter_feat.equals(expected)


@pytest.mark.parametrize(
    ("written", "given", "words"),
    [
        (",", "\t", [r"field_separator, which is '\t'", "seems to be ','"]),
        (
            "\t",
            "\\t",
            [r"which is '\\t'", r"'user_id:token\titem_id:token", r"seems to be '\t' (in yaml in double quotes)"],
        ),
        ("\t", ",", ["which is ','", r"seems to be '\t'"]),
        ("::", "\t", ["seems to be '::'"]),
        ("§", "\t", ["user_id:token§item_id", r"which is '\t'"]),
    ],
    ids=["commas", "yaml", "tabs", "colons", "unknown"],
)
def test_a_header_that_is_not_divided_says_so(tmp_path, written, given, words):
    file = write_dataset(tmp_path, interactions())
    file.write_text(file.read_text().replace("\t", written), encoding="utf-8")
    with pytest.raises(InputError) as error:
        load(tmp_path, field_separator=given)
    assert all(word in str(error.value) for word in words), str(error.value)
    assert "\t" not in str(error.value)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["i1\ta b\tcheap"], ["tiny.item, line 2: column price:float holds 'cheap'", "empty"]),
        (["i1\ta\t1", "i2\tb\t", "i3\tb\tnan"], ["line 4: column price:float holds 'nan'"]),
        (["i1\ta\t1", "i2\tb"], ["line 3", "2 columns"]),
    ],
    ids=["a word", "nan", "short"],
)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "FM"])
def test_a_word_among_numbers_is_named_also_beside_lists(tmp_path, model, lines, words):
    write_dataset(tmp_path, interactions())
    (tmp_path / "tiny" / "tiny.item").write_text("\n".join(["item_id:token\ttags:token_seq\tprice:float", *lines, ""]))
    with pytest.raises(InputError) as error:
        load(tmp_path, model, **ALL)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("separator", ["\t", "::"])
def test_lists_are_read_by_their_type(tmp_path, separator):
    file = tmp_path / "a.item"
    text = "item_id:token\ttags:token_seq\tvector:float_seq\nNA\tnull,b,,c\t0.1,2\nx\t\t\n"
    file.write_text(text.replace("\t", separator))
    frame = read_columns(file, read_header(file, separator, None), separator, None, seq_separator=",")
    assert frame["item_id"].tolist() == ["NA", "x"]
    assert [each.tolist() for each in frame["tags"]] == [["null", "b", "c"], []]
    assert [each.tolist() for each in frame["vector"]] == [[0.1, 2.0], []]
    file.write_text(file.read_text().replace("0.1", "much"))
    with pytest.raises(InputError, match=r"a\.item, line 2: column vector:float_seq holds 'much,2'"):
        read_columns(file, read_header(file, separator, None), separator, None, seq_separator=",")


def test_an_unknown_type_is_named(tmp_path):
    write_dataset(tmp_path, interactions())
    (tmp_path / "tiny" / "tiny.item").write_text("item_id:token\tprice:number\ni1\t1\n")
    with pytest.raises(InputError, match=r"tiny\.item: the type of column price:number must be one of token, float"):
        load(tmp_path, **ALL)


@pytest.mark.parametrize("suffix", ["inter", "item"])
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, model, suffix):
    """This one can be opened, and then every attempt to read it fails."""
    file = write_dataset(tmp_path, interactions())
    file.with_suffix(f".{suffix}").unlink(missing_ok=True)
    file.with_suffix(f".{suffix}").symlink_to("/proc/self/mem")
    with pytest.raises(InputError, match=rf"tiny\.{suffix} cannot be read: "):
        load(tmp_path, model, **ALL)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("2023-11-19T22:42:59", "a date; write it in Unix seconds"),
        ("19 Nov 2023", "a date; write it in Unix seconds"),
        ("2023-11-19 22:42:59.5+01:00", "a date; write it in Unix seconds"),
        ("soon", "not a number; leave the field empty where there is no number"),
        ("NaT", "not a number; leave the field empty where there is no number"),
    ],
)
def test_what_is_no_number_is_told_from_a_date(tmp_path, value, words):
    file = write_dataset(tmp_path, interactions()[:1])
    file.write_text(f"{file.read_text()}u1\ti1\t{value}\n")
    with pytest.raises(InputError, match=re.escape(f"timestamp:float holds {value!r}, which is {words}")):
        load(tmp_path)


BLANK = {
    "none": ("", 0),
    "one": ("\n", 1),
    "three, with carriage returns": ("\r\n\r\n\r\n", 3),
    "a quoted end of a line": ('"u\n\n9"\ti1\t978300001\n\n', 4),
}


@pytest.mark.parametrize(("before", "more"), BLANK.values(), ids=BLANK)
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("u1\ti1\tsoon", "line {}: column timestamp:float holds 'soon'"),
        ("u1\ti1\t", "line {}: timestamp is empty"),
        ("u1\t\t978300001", "1 of 2 lines have no user_id or no item_id, and are left out: {}"),
    ],
    ids=["no number", "no time", "no item"],
)
def test_blank_lines_count_in_the_numbers_of_lines(tmp_path, caplog, before, more, line, words):
    file = write_dataset(tmp_path, interactions()[:1])
    header, first = file.read_text().splitlines()
    file.write_text(f"{header}\n\n{before}{first}\n\n{line}\n", newline="")
    try:
        load(tmp_path)
        said = caplog.text
    except InputError as error:
        said = f"{error}{caplog.text}"
    assert words.format(5 + more).replace("of 2", "of 3" if "u\n" in before else "of 2") in said


def test_lines_of_files_with_long_separators_and_long_lists(tmp_path):
    file = tmp_path / "a.item"
    file.write_text(f'item_id:token::tags:float_seq\n\na::{"1 " * 100_000}\n\n5"::1\n\n\nb::word\n')
    with pytest.raises(InputError, match=r"a\.item, line 8: column tags:float_seq holds 'word'"):
        read_columns(file, read_header(file, "::", None), "::", None)
    file.write_text(file.read_text().replace("::", ";"))
    with pytest.raises(InputError, match=r"a\.item, line 8: column tags:float_seq holds 'word'"):
        read_columns(file, read_header(file, ";", None), ";", None)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("values", ["0.5", "1 1", "0", ""])
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "FM"])
def test_lists_of_one_value_cannot_be_normalized(tmp_path, model, values):
    write_dataset(tmp_path, interactions())
    lines = ["item_id:token\tprices:float_seq", *(f"i{number}\t{values}" for number in range(40)), ""]
    (tmp_path / "tiny" / "tiny.item").write_text("\n".join(lines))
    for normalized in ({"normalize_all": True}, {"normalize_field": ["prices"]}):
        with pytest.raises(InputError, match="column prices:float_seq cannot be normalized: it has the same value"):
            load(tmp_path, model, **ALL, **normalized)
    load(tmp_path, model, **ALL, normalize_all=True, unload_col={"item": ["prices"]})


HEAD = "item_id:token\ttitle:token_seq\tprice:float\n"
MARKS = {
    "letters": ('i1\t"Pro" brush\t1.5\ni2\t17" wig\t\ni3\t"Bold\t2\n', ['"Pro" brush', '17" wig', '"Bold']),
    "CSV": ('i1\t"""Pro"" brush"\t1.5\n\ni2\t"a\tb"\t\ni3\t17" wig\t2\n', ['"Pro" brush', "a\tb", '17" wig']),
    "a line break in CSV": ('i1\t"a\nb"\t1.5\ni2\tc\t\ni3\t""\t2\n', ["a\nb", "c", ""]),
}


@pytest.mark.parametrize("lines, titles", MARKS.values(), ids=MARKS)
def test_quotation_marks_of_items_are_letters_unless_all_are_those_of_csv(tmp_path, lines, titles):
    file = tmp_path / "a.item"
    file.write_text(HEAD + lines, encoding="utf-8", newline="")
    assert [row[:2] for row in read_rows(file, "\t", None)] == [[f"i{n}", title] for n, title in enumerate(titles, 1)]
    found = read_columns(file, read_header(file, "\t", None), "\t", None, marks_are_letters=True)
    assert found["item_id"].tolist() == ["i1", "i2", "i3"] and found["price"].fillna(0).tolist() == [1.5, 0.0, 2.0]
    assert [" ".join(each) for each in found["title"]] == titles
