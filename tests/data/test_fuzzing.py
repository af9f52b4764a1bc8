"""Random files and histories: what is read is what stands there, or an error says why not.

Each test tries a few examples; the environment variable ``RECBOLE_SSM_FUZZ_EXAMPLES`` sets how many.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from atomic import make_config, make_splits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pandas._libs.parsers import STR_NA_VALUES

from recbole_ssm.data.reading import read_columns, read_header
from recbole_ssm.errors import InputError

EXAMPLES = int(os.environ.get("RECBOLE_SSM_FUZZ_EXAMPLES", "60"))
fuzzed = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)

ODD = "\x00\x0b\x0c\x1a\x1c\x85\xa0\u2028\u200b\ufeff,;#'\\ -+._éß中🎬"
WORDS = st.one_of(
    st.text(st.sampled_from("ab1" + ODD), max_size=6),
    st.sampled_from([*sorted(STR_NA_VALUES), "nil", "true", "1e5", "0x10", "[PAD]", "0"]),
    st.integers(-3, 3).map(str),
)
NUMBERS = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(["", "1_000", "1,5", " 7", "7 ", "1e400", "-inf", "٣", "0x1p3", "1d5", "nan", "+5", ".", "5."]),
)


@st.composite
def files(draw):
    """Bytes of an atomic file, its separator, and the cells that were put into it; some are damaged afterwards."""
    separator = draw(st.sampled_from(["\t", ",", " ", "|"]))
    ending = draw(st.sampled_from(["\n", "\r\n"]))
    words = WORDS.map(lambda word: word.replace(separator, ""))
    rows = draw(st.lists(st.tuples(words, words, NUMBERS.map(lambda n: n.replace(separator, ""))), max_size=8))
    header = separator.join(["user_id:token", "item_id:token", "timestamp:float"])
    text = ending.join([header, *(separator.join(row) for row in rows)]) + draw(st.sampled_from(["", ending]))
    content = text.encode()
    damage = draw(st.lists(st.tuples(st.integers(0, 1 << 20), st.sampled_from(list(b'"\x00\xff\t\n\r,a'))), max_size=2))
    for place, byte in damage:
        place %= len(content)
        content = content[:place] + bytes([byte]) + content[place + 1 :]
    return content, separator, rows, ending


def is_missing(found) -> bool:
    return isinstance(found, float) and np.isnan(found)


@pytest.mark.slow
@fuzzed
@given(files())
def test_what_is_read_stands_in_the_file(made):
    content, separator, _, _ = made
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "a.inter"
        file.write_bytes(content)
        try:
            kinds = read_header(file, separator, None)
            if set(kinds.values()) - {"token", "float"}:
                return
            frame = read_columns(file, kinds, separator, None)
        except InputError as error:
            assert str(file) in str(error)
            return
    if b'"' in content:
        return  # a separator or the end of a line may stand within quotation marks
    text = content.decode().removeprefix("\ufeff")
    lines = [line for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[1:] if line]
    assert len(frame) == len(lines)
    for row, line in zip(frame.itertuples(index=False), lines, strict=True):
        for found, kind, word in zip(row, kinds.values(), line.split(separator), strict=True):
            if not word:
                assert is_missing(found)
            else:
                assert found == (word if kind == "token" else float(word)), (found, word)


@pytest.mark.slow
@fuzzed
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), min_size=1, max_size=9), min_size=1, max_size=6),
    st.integers(0, 2**32 - 1),
    st.sampled_from([None, 1, 2, 5]),
    st.sampled_from(["recbole", "exact"]),
)
def test_samples_are_the_prefixes_of_the_file(users, seed, longest, time_order):
    rows = [(f"u{u}", f"i{item}", 1e9 + 20.0 * when) for u, history in enumerate(users) for item, when in history]
    rows = [rows[place] for place in np.random.default_rng(seed).permutation(len(rows))]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tiny" / "tiny.inter"
        file.parent.mkdir()
        lines = "".join(f"{u}\t{i}\t{t}\n" for u, i, t in rows)
        file.write_text("user_id:token\titem_id:token\ttimestamp:float\n" + lines)
        config = make_config(Path(folder), time_order=time_order, MAX_ITEM_LIST_LENGTH=longest)
        if max(map(len, users)) == 1:
            with pytest.raises(InputError, match="no user has more than one interaction"):
                make_splits(config)
            return
        dataset, splits = make_splits(config)
    kind = np.float32 if time_order == "recbole" else np.float64
    frame = pd.DataFrame(rows, columns=["user", "item", "time"]).astype({"time": kind})
    expected = set()
    for user, of_user in frame.sort_values("time", kind="stable").groupby("user", sort=False):
        items = tuple(of_user["item"])
        for n in range(1, len(items)):
            part = 2 if n == len(items) - 1 and n > 1 else 1 if n == len(items) - 2 and n > 1 else 0
            expected.add((part, user, n, items[max(n - longest, 0) if longest else 0 : n], items[n]))
    found = set()
    for part, split in enumerate(splits):
        if not len(split):
            continue
        batch = split[torch.arange(len(split))]
        names = {f: dataset.id2token(f, batch[f].numpy()) for f in ("user_id", "item_id")}
        tokens = dataset.id2token("item_id", batch["item_id_list"].numpy())
        histories = np.split(tokens, batch["cu_seqlens"][1:-1].numpy())
        for user, target, history in zip(names["user_id"], names["item_id"], histories, strict=True):
            found.add((part, str(user), len(history), tuple(map(str, history)), str(target)))
    shown = {(part, user, len(history), history, target) for part, user, _, history, target in expected}
    assert found == shown
