"""Files of every format become a data set, and each file that cannot be used is one clear error that leaves nothing."""

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from recbole_ssm.cli.main import main
from recbole_ssm.data.importing import TextFormat, from_dataframe, import_files, table
from recbole_ssm.errors import InputError

pytest.importorskip("duckdb", reason='files are read with DuckDB: pip install "recbole-ssm[import]"')

HEAD = b"user,item,time\n"
ROWS = b"a,x,1700000000\nb,y,1700000001\n"
GOOD = HEAD + ROWS
PLAIN = "a\tx\t1700000000\nb\ty\t1700000001\n"
JSON = b'{"user":"a","item":"x","time":1700000000}\n{"user":"b","item":"y","time":"1700000001"}\n'


@pytest.fixture(autouse=True)
def _in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def lines_of(found) -> str:
    """The lines below the header of an imported file."""
    with (found.folder / f"{found.name}.inter").open(encoding="utf-8", newline="") as lines:
        assert lines.readline() == "user_id:token\titem_id:token\ttimestamp:float\n"
        return lines.read()


def imported(content: bytes, name: str = "x.csv", text: dict | None = None, **options):
    Path(name).write_bytes(content)
    return import_files([name], "d", text=TextFormat(**(text or {})), **options)


@pytest.mark.sampled(12)
@pytest.mark.parametrize(
    ("content", "name", "text"),
    [
        (GOOD, "x.csv", {}),
        (b"\xef\xbb\xbf" + GOOD, "x.csv", {}),
        (GOOD.replace(b"\n", b"\r\n"), "x.csv", {}),
        (GOOD.rstrip(), "x.csv", {}),
        (GOOD.replace(b"\n", b"\n\n"), "x.csv", {}),
        (GOOD.replace(b",", b"\t"), "x.tsv", {}),
        (GOOD.replace(b",", b";"), "x.csv", {}),
        (GOOD.replace(b",", b"|"), "x.txt", {}),
        (GOOD.replace(b",", b" "), "x.txt", {"separator": " "}),
        (ROWS.replace(b",", b"::"), "x.dat", {"separator": "::", "header": ("user", "item", "time")}),
        (GOOD.decode().encode("utf-16"), "x.csv", {}),
        (GOOD.decode().encode("utf-16-le"), "x.csv", {"encoding": "utf-16-le"}),
        (gzip.compress(GOOD, mtime=0), "x.csv.gz", {}),
        (gzip.compress(GOOD, mtime=0), "x.csv", {}),
        (GOOD, "x.csv.gz", {}),
        (GOOD, "a [1]* 'q'.csv", {}),
        (GOOD, "clicks", {"format": "csv"}),
        (JSON, "x.jsonl", {}),
        (gzip.compress(JSON, mtime=0), "x.ndjson.gz", {}),
        (b"user,item,Item,time,wanted\na,x,z,1700000000,\nb,y,,1700000001,1\n", "x.csv", {}),
    ],
    ids=str,
)
def test_the_same_rows_come_of_texts_of_every_form(content, name, text):
    assert lines_of(imported(content, name, text)) == PLAIN


@pytest.mark.sampled(9)
@pytest.mark.parametrize(
    ("content", "options", "lines"),
    [
        (HEAD + b'" a ",NA,1700000000\n007,"q ""w""",1700000000\n"a\tb",null,1700000000\n', {},
         ' a \tNA\t1700000000\n007\t"q ""w"""\t1700000000\n"a\tb"\tnull\t1700000000\n'),
        (HEAD + b'a,"x\ny",1700000000\n', {}, 'a\t"x\ny"\t1700000000\n'),
        (HEAD + "😀,日本,1700000000\n".encode(), {}, "😀\t日本\t1700000000\n"),
        (HEAD + b"1.0,1,1700000000\n1,1.0,1700000000\n", {}, "1.0\t1\t1700000000\n1\t1.0\t1700000000\n"),
        (HEAD + b"a,x,-5\nb,y,-1\n", {}, "a\tx\t-5\nb\ty\t-1\n"),
        (HEAD + b"a,x,2999-01-01\nb,y,1969-12-31T23:59:59.5Z\n", {}, "a\tx\t32472144000.0\nb\ty\t-0.5\n"),
        (HEAD + b"a,x,2026-07-01 12:00\na,y,2026-07-01 12:00:00+00:00\n", {"time_zone": "Europe/Berlin"},
         "a\tx\t1782900000\na\ty\t1782907200\n"),
        (HEAD + b"a,x,2026-07-01T12:00:00+02:00\na,y,2026-07-01 10:30:00.25\n", {},
         "a\tx\t1782900000.0\na\ty\t1782901800.25\n"),
        (HEAD + b"a,x,11/02/2026 09:15\n", {"time_format": "%m/%d/%Y %H:%M"}, "a\tx\t1793610900\n"),
        (GOOD, {"where": "item=y|z"}, "b\ty\t1700000001\n"),
        (GOOD, {"where": "item!=y and time<2023-11-15"}, "a\tx\t1700000000\n"),
        (b"user,item\na,x\na,y\na,x\n", {"row_order": True}, "a\tx\t0\na\ty\t1\na\tx\t2\n"),
        (b"item,time\nx,1700000000\ny,1700000001\nz,1700009001\n", {"session_gap": 100.0},
         "1\tx\t1700000000\n1\ty\t1700000001\n2\tz\t1700009001\n"),
        (GOOD + b"a,x\nc,\xe9,1\n,y,1\nc,z,soon\nc,z,1700000000000\n", {"bad_rows": "skip"}, PLAIN),
        (GOOD + b"a," + b"x" * 10_000_000 + b",1700000000\n", {"bad_rows": "skip"}, PLAIN),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_names_times_and_filters(content, options, lines):
    assert lines_of(imported(content, **options)) == lines


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (b"", {}, "x.csv is empty"),
        (b"\n\n", {}, "x.csv is empty"),
        (HEAD, {}, "there are no rows below the header"),
        (HEAD + b"a,x\na,x,1700000000\na,x,1,2\n", {}, "2 of 3 rows .* line 2: fewer columns .* line 4: more columns"),
        (b"user,item,item\na,x,1\n", {}, "two columns 'item'"),
        (b"user,item,\na,x,1\n", {}, "column 3 has no name"),
        (b"user\na\n", {}, "name what separates them with separator"),
        (b"id,what,time\na,x,1700000000\n", {}, "which column has the items cannot be told from the names id, what"),
        (HEAD + b"a,x\0y,1700000000\n", {}, "holds zero bytes"),
        (GOOD.decode().encode("utf-16-le"), {}, "holds zero bytes; .*encoding=utf-16"),
        (HEAD + b"a,\xe9,1700000000\n", {}, "line 2: not in UTF-8; .* encoding=latin-1"),
        (HEAD + b"a," + b"x" * 3_000_000 + b",1700000000\n", {}, "line 2: more than 2,000,000 bytes"),
        (HEAD + b"a," + b"x" * 1500 + b",1700000000\n", {}, "line 2: no item that can be used"),
        (HEAD + b'a,"x"y,1700000000\n', {}, "line 2: a value that begins with a quotation mark"),
        (HEAD + b'a,"x,1700000000\n' + ROWS, {}, "line 2: a value that begins with a quotation mark"),
        (HEAD + b'a,"x\ny",1700000000\n' + b"a,[PAD],1700000000\n", {}, "line 4: no item that can be used"),
        (HEAD + ROWS + b"a,x,2026-01-01\n", {}, "1 of 3 rows .* line 4: no time that can be used"),
        (HEAD + ROWS + b"a,x,1700000000000\n", {}, "1 of 3 rows .* line 4: no time that can be used"),
        (HEAD + ROWS + b"a,x,nan\na,x,inf\na,x,\n", {}, "3 of 5 rows .* line 4: .* line 5: .* line 6: no time"),
        (HEAD + b"a,x,11/02/2026 09:15\n", {}, "for example '11/02/2026 09:15'.*time_format"),
        (HEAD + b"a,x,20261102\n", {}, "look like days; read them with time_format=%Y%m%d"),
        (GOOD, {"user": "item", "item": "item"}, "given as user and as item"),
        (GOOD, {"where": "item=q"}, "no row is left of 2; left out: 2 by where"),
        (GOOD, {"name": "../d"}, "the name of a data set must be"),
        (GOOD, {"path": "x.csv"}, "cannot be written to"),
        (GOOD, {"files": ["."]}, "is a folder; name its files"),
        (GOOD, {"files": ["https://x.y/z.csv"]}, "is an address; download the file"),
        (GOOD, {"files": ["y.csv"]}, "there is no file y.csv. Did you mean x.csv?"),
        (GOOD, {"files": []}, "there is no file to import"),
        (GOOD, {"files": ["x.csv", "x.csv"]}, "named twice"),
        (GOOD, {"files": ["x.csv", "y.tsv"]}, "there is no file y.tsv"),
        (GOOD, {"memory": "lots"}, "memory must be like"),
        (gzip.compress(GOOD * 9, mtime=0)[:40], {}, "cannot be read: Compressed file ended"),
        (b"PK\3\4" + GOOD, {}, "is an archive or a spreadsheet"),
        (b"PAR1" + GOOD, {}, "is a Parquet file"),
        (JSON, {"file": "x.parquet"}, "is no Parquet file"),
        (b"[" + JSON + b"]", {"file": "x.json"}, "is a JSON list; write one object on each line"),
        (b"nonsense\n", {"file": "x.json"}, "has no line that is a JSON object"),
        (JSON + b'{"user":\n\n[1]\n', {"file": "x.json"}, "2 of 4 rows .* line 3: no JSON obj.* line 5: no JSON obj"),
        (JSON + b'{"user":"a","ite\n', {"file": "x.json", "where": "item=x"}, "1 of 3 rows .* line 3: no JSON object"),
        (JSON + b'{"item":"x","time":1}\n', {"file": "x.json"}, "1 of 3 rows .* line 3: no user that can be used"),
    ],
    ids=lambda value: str(value)[:40],
)  # fmt: skip
def test_what_cannot_be_used_is_one_clear_error_that_leaves_nothing(content, options, message):
    file = options.pop("file", "x.csv")
    Path(file).write_bytes(content)
    with pytest.raises(InputError, match=message):
        import_files(options.pop("files", [file]), options.pop("name", "d"), **options)
    assert not list(Path().glob("dataset/*")) and not list(Path().glob("dataset/.*"))


def table_of_clicks(n: int = 3000) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "user": rng.choice(["anna", "Ünal", "007", "x y", *map(str, range(300))], n),
            "item": rng.choice(["NA", 'q"t', "tab\tbed", *(f"item {number}" for number in range(200))], n),
            "time": rng.integers(1_700_000_000, 1_700_900_000, n),
            "event": rng.choice(["view", "buy", None], n),
            "price": rng.choice([1.5, 2.0, None, 30.0], n),
        }
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"duplicates": "keep"},
        {"duplicates": "first", "k_core": 2},
        {"duplicates": "last", "where": "event!=view and price>=2"},
        {"duplicates": "consecutive", "k_core": (2, 5), "session_gap": 90000.0},
        {"where": "event=buy|view and time>=1700000500 and price<30"},
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_files_and_a_dataframe_with_the_same_rows_become_the_same_data_set(form, options, monkeypatch):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(table, "BLOCK", 100)  # so that there are many
    frame = table_of_clicks()
    {
        "csv": lambda: frame.to_csv("x.csv", index=False),
        "parquet": lambda: frame.to_parquet("x.parquet", row_group_size=1000),
        "jsonl": lambda: frame.to_json("x.jsonl", orient="records", lines=True),
    }[form]()
    found = import_files([f"x.{form}"], "files", memory="200MB", **options)
    expected = from_dataframe(frame, "frame", **options)
    assert lines_of(found) == lines_of(expected)
    assert found.report | {"source": 0} == expected.report | {"source": 0}


@pytest.mark.parametrize("unit", ["s", "ns"])
def test_durations_are_no_times(unit):
    """A Parquet file has whole numbers for them, which would be taken for seconds since 1970."""
    pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"user": ["a", "b"], "item": ["x", "y"], "time": pd.to_timedelta([1, 9], "D").as_unit(unit)})
    frame.to_parquet("x.parquet")
    for read in (lambda: import_files(["x.parquet"]), lambda: from_dataframe(frame)):
        with pytest.raises(
            InputError, match=rf"'time' of times is of type timedelta64\[{unit}\]; it must be numbers or"
        ):
            read()
    frame.rename(columns={"time": "spent"}).assign(time=[1, 2]).to_parquet("x.parquet")
    assert lines_of(import_files(["x.parquet"], "d")) == "a\tx\t1\nb\ty\t2\n"


def test_several_files_are_one_table_and_ties_keep_their_order():
    Path("one.csv").write_bytes(HEAD + b"a,x,1700000000\na,y,1700000000\n")
    Path("two.csv").write_bytes(HEAD + b"a,w,1700000000\nb,y\n")
    with pytest.raises(InputError, match=r"1 of 4 rows cannot be used: two.csv, line 3: fewer columns"):
        import_files(["one.csv", "two.csv"])
    found = import_files(["one.csv", "two.csv"], bad_rows="skip")
    assert found.name == "one" and lines_of(found) == "".join(f"a\t{item}\t1700000000\n" for item in "xyw")
    Path("two.csv").write_bytes(b"user,item\na,x\n")
    with pytest.raises(InputError, match=r"two.csv has the columns user, item, and one.csv has user, item, time"):
        import_files(["one.csv", "two.csv"], "other")


def test_lines_that_end_in_different_ways_are_read_or_refused():
    """By the version of DuckDB, and never misread."""
    try:
        assert lines_of(imported(HEAD + ROWS.replace(b"\n", b"\r\n"))) == PLAIN
    except InputError as error:
        assert "some lines end in" in str(error)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(InputError, match=r"pip install \"recbole-ssm\[import\]\"; or read them with pandas"):
        imported(GOOD)
    assert not list(Path().glob("dataset/*"))


@pytest.mark.sampled(3)
@pytest.mark.skipif(sys.platform == "win32", reason="sizes of files are limited where there is setrlimit")
@pytest.mark.parametrize("bytes_left", [500, 20_000, 1_200_000])
def test_a_full_disk_is_one_error_that_leaves_nothing(bytes_left):
    """A limit on the sizes of files stands for the disk: of the database, of the columns, and of the atomic file."""
    import resource

    frame = table_of_clicks(60_000)
    frame.to_csv("x.csv", index=False)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    for read in (
        lambda: import_files(["x.csv"], "d", memory="200MB"),
        lambda: from_dataframe(frame, "d"),
    ):
        resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_left, usual[1]))
        try:
            with pytest.raises(InputError, match=r"cannot be (imported|written)"):
                read()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        assert not list(Path().glob("dataset/*")) and not list(Path().glob("dataset/.*"))


def test_a_file_of_items_has_a_separator_and_lines_of_its_own():
    Path("clicks.csv").write_bytes(GOOD)
    Path("items.csv").write_bytes(b'item;title\nx;"Blue ""mug"""\ny\nx;again\n;nameless\n')
    lines = "line 3: fewer columns than the header; line 5: no item that can be used; line 4: an item that has a row"
    with pytest.raises(InputError, match=f"3 of 4 rows of the table of items cannot be used: {lines}"):
        import_files(["clicks.csv"], items="items.csv")
    found = import_files(["clicks.csv"], items="items.csv", bad_rows="skip")
    assert (found.folder / "clicks.item").read_text() == 'item_id:token\ttitle:token\nx\t"Blue ""mug"""\n'
    assert found.report["table of items"]["without a row"] == 1


def test_columns_that_are_not_imported_are_named(capsys):
    Path("clicks.csv").write_bytes(b"user,item,time,title\na,x,1,Mug\nb,y,2,Tea\n")
    assert main(["import", "clicks.csv"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "not imported: title (--items reads features of items)" in said


def test_the_verb_prints_and_writes_the_report(capsys):
    Path("clicks.csv").write_bytes(GOOD)
    assert main(["import", "clicks.csv", "--report=report.json", "--k_core", "1,1"]) == 0
    said = capsys.readouterr().out
    assert "read                2 rows of clicks.csv" in said and "user user (guessed)" in said
    assert "written             2 interactions, 2 users, 2 items" in said and "--dataset=clicks" in said
    report = json.loads(Path("report.json").read_text(encoding="utf-8"))
    assert report == json.loads(Path("dataset/clicks/import-report.json").read_text(encoding="utf-8"))
    assert report["first"] == "2023-11-14T22:13:20+00:00" and report["interactions per user"]["max"] == 1
    assert main(["import", "clicks.csv"]) == 2
    assert "exists; give another name" in capsys.readouterr().err
    assert main(["import", "clicks.csv", "--overwrite"]) == 0
    for words, message in (
        (["import"], "import needs FILE"),
        (["import", "clicks.csv", "--k_core=x"], "--k_core=x must be one whole number"),
        (["import", "clicks.csv", "--usr=a"], "has no use for '--usr=a'; it takes what import --help lists. Did you"),
        (["import", "clicks.csv", "--name=b", "--quote=abc"], "quote must be one sign"),
        (["import", "clicks.csv", "--name=b", "--encoding=klingon"], "encoding 'klingon' is unknown"),
    ):
        assert main(words) == 2
        assert message in capsys.readouterr().err
