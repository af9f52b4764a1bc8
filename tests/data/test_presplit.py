"""Pre-split files (``benchmark_filename``): each line is a sample, with its history in a list."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from atomic import histories, interactions, make_config, make_loaders, make_splits, small, write_dataset

from recbole_ssm import Recommender, run
from recbole_ssm.checkpoints.fingerprint import fingerprint
from recbole_ssm.data.statistics import statistics_of
from recbole_ssm.errors import InputError
from recbole_ssm.training.evaluation import evaluate

PARTS = ["train", "valid", "test"]
Sample = tuple[str, list[str], str]
"""User, history and target."""


def leave_one_out(seed: int = 0) -> dict[str, list[Sample]]:
    """The samples that are made of :func:`atomic.interactions` where a user's last two items are held out."""
    found = {part: [] for part in PARTS}
    for user, items in histories(interactions(seed=seed)).items():
        for end in range(1, len(items)):
            part = PARTS[max(0, end - len(items) + 3)]
            found[part].append((user, items[:end], items[end]))
    return found


def chain(n_items: int = 12) -> dict[str, list[Sample]]:
    """Histories in which each item is followed by the next one; the first item is never a target."""
    rows = [(f"u{a}", [f"i{k}" for k in range(a, b)], f"i{b}") for a in range(n_items) for b in range(a + 1, n_items)]
    return {"train": rows, "valid": rows[::3], "test": rows[::2]}


def write(folder: Path, samples: dict[str, list[Sample]], *, names=("user_id", "item_id", "item_id_list"), mark=" "):
    """Write a dataset ``split`` of three files, and give the keys with which they are read."""
    user, item, items = names
    (folder / "split").mkdir(exist_ok=True)
    for part, rows in samples.items():
        lines = [f"{user}:token\t{items}:token_seq\t{item}:token"]
        lines += [f"{name}\t{mark.join(history)}\t{target}" for name, history, target in rows]
        (folder / "split" / f"split.{part}.inter").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {
        "benchmark_filename": list(samples),
        "load_col": None,
        "USER_ID_FIELD": user,
        "ITEM_ID_FIELD": item,
        "LIST_SUFFIX": items.removeprefix(item),
        "seq_separator": mark,
    }


def read(config) -> tuple[object, dict[str, list[Sample]]]:
    """The dataset of a configuration, and its samples by name, as a model gets them."""
    dataset, splits = make_splits(config)
    item, items = config["ITEM_ID_FIELD"], config["ITEM_ID_FIELD"] + config["LIST_SUFFIX"]
    names = dataset.field2id_token[item]
    found = {}
    for part, split in zip(PARTS, splits, strict=True):
        batch = split[torch.arange(len(split))]
        lengths = batch[config["ITEM_LIST_LENGTH_FIELD"]].tolist()
        if config.is_packed:
            rows = batch[items].split(lengths)
        else:
            assert batch[items].shape == (len(split), config["MAX_ITEM_LIST_LENGTH"])
            rows = [row[:length] for row, length in zip(batch[items], lengths, strict=True)]
            assert all(not row[length:].any() for row, length in zip(batch[items], lengths, strict=True))
        users = dataset.id2token(config["USER_ID_FIELD"], batch[config["USER_ID_FIELD"]].numpy())
        targets = names[batch[item].numpy()]
        found[part] = [
            (str(user), names[row.numpy()].tolist(), str(target))
            for user, row, target in zip(users, rows, targets, strict=True)
        ]
    return dataset, found


@pytest.mark.sampled(5)
@pytest.mark.parametrize("longest", [None, 50, 3, 1])
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "GRU4Rec", "BERT4Rec"])
@pytest.mark.parametrize(
    ("names", "mark"),
    [
        (("user_id", "item_id", "item_id_list"), " "),
        (("session", "sku", "sku_before"), ","),
    ],
)
def test_samples_are_the_lines_cut_to_the_latest_items(tmp_path, names, mark, model, longest):
    """Whatever columns and separators are, for this package's models and RecBole's alike, with as many items."""
    if longest is None and model != "2Mamba4Rec":
        pytest.skip("RecBole's models read a fixed number of items")
    samples = leave_one_out()
    keys = write(tmp_path, samples, names=names, mark=mark) | {"MAX_ITEM_LIST_LENGTH": longest}
    dataset, found = read(make_config(tmp_path, model, "split", **keys))
    cut = slice(-longest if longest else None, None)
    assert found == {part: [(u, history[cut], target) for u, history, target in samples[part]] for part in PARTS}
    items = {item for rows in samples.values() for _, history, target in rows for item in [*history, target]}
    assert dataset.item_num == len(items) + 1


def test_what_is_counted_is_the_longest_line_of_each_user(tmp_path):
    samples = leave_one_out()
    samples["train"].sort(key=lambda sample: sample[1][-1])  # in no order of users or time
    dataset, splits = make_splits(make_config(tmp_path, dataset="split", **write(tmp_path, samples)))
    items, cu_seqlens = splits[0].whole_sequences()
    names = dataset.field2id_token["item_id"][items.numpy()].tolist()
    found = {tuple(names[start:end]) for start, end in pairwise(cu_seqlens.tolist())}
    assert found == {tuple(items[:-2]) for items in histories(interactions()).values() if len(items) > 3}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("alias", [["item_id_list"], ["item_id", "item_id_list"]])
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
def test_an_alias_of_items_changes_nothing(tmp_path, model, alias):
    keys = write(tmp_path, leave_one_out())
    without, samples = read(make_config(tmp_path, model, "split", **keys))
    dataset, same = read(make_config(tmp_path, model, "split", **keys, alias_of_item_id=alias))
    assert samples == same == leave_one_out()
    assert dataset.field2id_token["item_id"].tolist() == without.field2id_token["item_id"].tolist()


@pytest.mark.slow
def test_a_model_recommends_by_name_what_comes_next(tmp_path):
    """Histories and targets have one numbering without any ``alias_of_item_id``."""
    keys = write(tmp_path, chain()) | {"topk": [1], "valid_metric": "NDCG@1"}
    more = {"data_path": str(tmp_path), "use_gpu": False, "epochs": 15, "learning_rate": 0.04, "show_progress": False}
    result = run(
        "2Mamba4Rec",
        "split",
        config_dict={**small("2Mamba4Rec"), "hidden_size": 16, "dropout_prob": 0.0, **keys, **more},
    )
    assert result["test_result"]["hit@1"] > 0.9
    recommender = Recommender(result["checkpoint"])
    found = recommender.recommend([["i3", "i4"], ["i0"], ["i7", "i8", "i9"]], k=1)
    assert [items[0][0] for items in found] == ["i5", "i1", "i10"]


def change(folder: Path, part: str, before: str, after: str) -> None:
    file = folder / "split" / f"split.{part}.inter"
    text = file.read_text(encoding="utf-8")
    assert before in text
    file.write_text(text.replace(before, after), encoding="utf-8")


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
@pytest.mark.parametrize(
    ("part", "before", "after", "message"),
    [
        ("train", "\ti3 i4\t", "\t\t", r"train\.inter, line 33: item_id_list is empty; remove the line"),
        ("valid", "\ti0\t", "\t\t", r"valid\.inter, line 2: item_id_list is empty"),
        ("test", "i0 i1 i2\ti3", "i0 i1 i2\t", r"test\.inter, line 3: item_id is empty"),
        ("train", "u1\t", "\t", r"train\.inter, line 13: user_id is empty \(and so in 9 other lines\)"),
        ("train", "item_id_list:token_seq", "item_id_list:token", r"train.*must be declared item_id_list:token_seq"),
        (
            "valid",
            "item_id_list:token_seq",
            "item_id_list:float_seq",
            r"valid.*must be declared item_id_list:token_seq",
        ),
        ("test", "item_id_list:token_seq", "history:token_seq", r"test.*no column item_id_list:token_seq.*LIST_SUFFIX"),
        ("test", "item_id:token", "item:token", r"test.*no column item_id:token"),
    ],
)
def test_a_line_or_column_that_cannot_be_is_refused_by_file_and_place(tmp_path, model, part, before, after, message):
    keys = write(tmp_path, chain())
    change(tmp_path, part, before, after)
    with pytest.raises(InputError, match=message):
        make_splits(make_config(tmp_path, model, "split", **keys))


@pytest.mark.parametrize(
    ("change_keys", "message"),
    [
        ({"benchmark_filename": ["train", "test"]}, "three files, of training, validation and test"),
        ({"benchmark_filename": ["train"]}, "three files"),
        ({"benchmark_filename": ["train", "valid", None]}, "three files"),
        ({"benchmark_filename": ["train", "valid", "tset"]}, r"the file .*split\.tset\.inter is missing"),
        ({"load_col": {"inter": ["user_id", "item_id"]}}, "leaves out column item_id_list.*load_col=None"),
        ({"unload_col": {"inter": ["item_id_list"]}}, "unload_col leaves out column item_id_list"),
        ({"LIST_SUFFIX": ""}, "LIST_SUFFIX must not be empty"),
        ({"seq_separator": ""}, "seq_separator must not be empty"),
        ({"seq_len": {"item_id_list": 3}}, "first values of item_id_list.*MAX_ITEM_LIST_LENGTH"),
        ({"alias_of_item_id": ["history"]}, "no column 'history'"),
    ],
)
def test_keys_that_do_not_fit_the_files_are_refused(tmp_path, change_keys, message):
    keys = write(tmp_path, chain())
    with pytest.raises(InputError, match=message):
        make_splits(make_config(tmp_path, "2Mamba4Rec", "split", **{**keys, **change_keys}))


@pytest.mark.parametrize("part", PARTS)
def test_a_file_of_a_header_alone_or_with_other_columns_is_refused(tmp_path, part):
    keys = write(tmp_path, chain() | {part: []})
    with pytest.raises(InputError, match=rf"split\.{part}\.inter has no line but its header"):
        make_splits(make_config(tmp_path, "2Mamba4Rec", "split", **keys))
    write(tmp_path, chain())
    change(tmp_path, part, "user_id:token", "more:float\tuser_id:token")
    change(tmp_path, part, "\nu", "\n1\tu")
    with pytest.raises(InputError, match=r"must have the same columns, .* more:float"):
        make_splits(make_config(tmp_path, "2Mamba4Rec", "split", **keys))


@pytest.mark.parametrize(("given", "needed"), [(" ", ","), (" ", ", "), (",", " "), (";", "|")])
def test_lists_with_another_separator_are_refused(tmp_path, given, needed):
    keys = write(tmp_path, chain(), mark=needed) | {"seq_separator": given}
    with pytest.raises(InputError, match=r"train\.inter, line [34]: item_id_list holds 'i.*while its parts are"):
        make_splits(make_config(tmp_path, "2Mamba4Rec", "split", **keys))


@pytest.mark.parametrize("padding", ["0", "-1", "[PAD]", "<pad>"])
@pytest.mark.parametrize("at", ["end", "beginning"])
def test_lists_that_are_filled_up_are_refused(tmp_path, padding, at):
    def fill(items: list[str]) -> list[str]:
        more = [padding] * (12 - len(items))
        return items + more if at == "end" else more + items

    samples = {part: [(user, fill(items), target) for user, items, target in rows] for part, rows in chain().items()}
    keys = write(tmp_path, samples)
    with pytest.raises(InputError, match=rf"line 2: item_id_list is padded with .{re.escape(padding)}.*take it out"):
        make_splits(make_config(tmp_path, "2Mamba4Rec", "split", **keys))


def test_items_whose_names_look_like_padding_or_lists_are_items(tmp_path, caplog):
    """Numbered from 0, or with a comma in each name: the first item of the chain is never a target."""
    for name in ("{}", "{},{}", "[{}]", "a/{}"):
        samples = {
            part: [(user, [name.format(i[1:], i[1:]) for i in items], name.format(target[1:], target[1:]))
                   for user, items, target in rows]
            for part, rows in chain().items()
        }  # fmt: skip
        _, found = read(make_config(tmp_path, "2Mamba4Rec", "split", **write(tmp_path, samples)))
        assert found == samples
    assert "target" not in caplog.text


def test_lists_of_things_that_are_never_targets_are_told_of(tmp_path, caplog):
    rows = [("u1", ["x", "y"], "a"), ("u2", ["y", "z"], "b"), ("u3", ["z"], "a")]
    keys = write(tmp_path, {"train": rows, "valid": rows, "test": [("u4", ["x"], "new")]})
    dataset, _ = read(make_config(tmp_path, "2Mamba4Rec", "split", **keys))
    assert dataset.item_num == 1 + len({"x", "y", "z", "a", "b", "new"})
    assert "almost no item of item_id_list is ever a target: 0 of 11" in caplog.text
    assert "1 of 1 targets in split.test.inter are not in the training file" in caplog.text


@pytest.mark.sampled(4)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec", "Pop"])
@pytest.mark.parametrize(
    "given",
    [
        {"user_inter_num_interval": "[100,inf)"},
        {"val_interval": {"user_id": ["u1"]}},
        {"rm_dup_inter": "first"},
        {"eval_args": {"split": {"LS": "test_only"}, "order": "TO"}},
        {"dataset_cache": "cache", "time_order": "exact"},
    ],
)
def test_keys_that_would_choose_samples_are_said_to_be_passed_over(tmp_path, model, given):
    keys = write(tmp_path, chain())
    config = make_config(tmp_path, model, "split", **keys, **given)
    names = ["eval_args: split", "eval_args: order"] if "eval_args" in given else list(given)
    assert all("with benchmark_filename" in config.passed_over[name] for name in names)
    assert config.held_out == (True, True)
    assert [len(split) for split in make_splits(config)[1]] == [len(rows) for rows in chain().values()]


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SSD4Rec"])
def test_the_samples_are_the_lines_whatever_the_model_trains_on_elsewhere(tmp_path, model):
    keys = write(tmp_path, chain()) | {"train_batch_tokens": 40, "mask_ratio": 0.5}
    _, (train, _, _) = make_loaders(make_config(tmp_path, model, "split", **keys, train_samples="sampled_prefixes"))
    batches = list(train)
    assert sum(len(batch["item_id"]) for batch in batches) == len(chain()["train"])
    assert max(len(batch["item_id_list"]) for batch in batches) <= 40
    masked = torch.cat([batch["item_id_list"] for batch in batches]) == 0
    assert 0.3 < masked.float().mean() < 0.7


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
@pytest.mark.parametrize("longest", [2, 50])
def test_filter_seen_filters_the_whole_list(tmp_path, model, longest):
    keys = write(tmp_path, chain()) | {"filter_seen": True, "MAX_ITEM_LIST_LENGTH": longest}
    dataset, (train, *evaluation) = make_loaders(make_config(tmp_path, model, "split", **keys))
    assert len(next(iter(train))["item_id"]) <= len(chain()["train"])
    for part, loader in zip(PARTS[1:], evaluation, strict=True):
        found = []
        for _, (row, seen), _, _ in loader:
            found += [seen[row == each] for each in row.unique()]
        names = [dataset.id2token("item_id", items.numpy()).tolist() for items in found]
        assert names == [history for _, history, _ in chain()[part]]


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SASRec"])
def test_sampled_evaluation_filters_the_lists_of_each_line(tmp_path, model):
    """The loader sorts its lines by user and ranks each alone; a target that its list holds is a miss."""
    rows = [("b", ["i1", "i2"], "i2"), ("a", ["i3"], "i4"), ("b", ["i5"], "i6"), ("a", ["i4", "i5"], "i4")]
    more = [("c", [f"i{number}" for number in range(12)], "i0")]
    keys = write(tmp_path, {"train": more, "valid": rows[::-1], "test": rows})
    keys |= {"eval_args": {"mode": "uni3"}, "filter_seen": True}
    dataset, (_, *evaluation) = make_loaders(make_config(tmp_path, model, "split", **keys))
    for loader in evaluation:
        batch, row, positive_u, positive = next(iter(loader))
        names = dataset.id2token("item_id", positive.numpy())
        assert sorted(names) == ["[PAD]", "[PAD]", "i4", "i6"]
        assert positive_u.tolist() == [0, 1, 2, 3] and row.bincount().tolist() == [4, 4, 4, 4]
        users = dataset.id2token("user_id", loader._dataset.inter_feat["user_id"][row].numpy())
        drawn = zip(users, dataset.id2token("item_id", batch["item_id"].numpy()), batch["label"].tolist(), strict=True)
        had = {"a": {"i3", "i4", "i5"}, "b": {"i1", "i2", "i5", "i6"}}
        assert not any(item in had[user] for user, item, label in drawn if label == 0)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("longest", [None, 4, 1])
def test_evaluation_and_recommendations_read_the_same_items(tmp_path, longest):
    keys = write(tmp_path, leave_one_out()) | {"MAX_ITEM_LIST_LENGTH": longest, "topk": [10]}
    more = {"data_path": str(tmp_path), "use_gpu": False, "epochs": 1, "show_progress": False}
    result = run("2Mamba4Rec", "split", config_dict={**small("2Mamba4Rec"), **keys, **more})
    rows = leave_one_out()["test"]
    found = Recommender(result["checkpoint"]).recommend([history for _, history, _ in rows], k=10)
    hits = [target in dict(items) for (_, _, target), items in zip(rows, found, strict=True)]
    assert result["test_result"]["hit@10"] == pytest.approx(sum(hits) / len(hits), abs=1e-4)
    given = ["--benchmark_filename=None", f"--data_path={tmp_path}"]
    write_dataset(tmp_path, interactions(), "flat")
    recommender = Recommender(result["checkpoint"])
    assert recommender.histories("flat", given) == histories(interactions())
    with pytest.raises(InputError, match=r"no whole histories.*--benchmark_filename=None"):
        recommender.histories("flat", given[1:])
    again = evaluate(result["checkpoint"])
    assert again["test_result"] == pytest.approx(result["test_result"])
    assert again["same_training_data"]
    assert again["time_order"] == "of the files"


@pytest.mark.parametrize("mode", ["full", "uni2"])
def test_validation_lines_are_counted_before_the_test(tmp_path, mode):
    lines = [("a", ["i1"], "i2"), ("a", ["i1", "i2"], "i3"), ("b", ["i4"], "i1")]
    keys = write(tmp_path, {"train": chain()["train"], "valid": lines, "test": lines})
    keys["eval_args"] = {"mode": mode}
    dataset, (_, valid, _) = make_loaders(make_config(tmp_path, "PCTM", "split", **keys))
    tokens, cu_seqlens, is_target = valid._dataset.sequences_to_targets()
    names = [list(dataset.id2token("item_id", part.numpy())) for part in tokens.split(cu_seqlens.diff().tolist())]
    assert names == [[*history, target] for _, history, target in lines]
    assert is_target.nonzero()[:, 0].tolist() == (cu_seqlens[1:] - 1).tolist()


def test_other_histories_are_other_data(tmp_path):
    """A checkpoint says on what it was trained: the histories count, since nothing else tells of them."""
    found = set()
    for history in (["i1", "i2"], ["i2", "i1"], ["i1", "i3"], ["i1"]):
        rows = [("u1", history, "i4"), ("u2", ["i1", "i2", "i3"], "i4")]
        keys = write(tmp_path, {"train": rows, "valid": rows, "test": rows})
        for longest in (5, 50):
            _, splits = make_splits(make_config(tmp_path, "2Mamba4Rec", "split", **keys, MAX_ITEM_LIST_LENGTH=longest))
            found.add(fingerprint(splits[0])["hash"])
    assert len(found) == 4


@pytest.mark.parametrize("model", ["SASRec", "2Mamba4Rec"])
def test_other_columns_have_lists_too(tmp_path, model):
    """Times and categories of the items of a history are cut with them, and numbered with their own column."""
    header = "user_id:token\tcat_list:token_seq\titem_id_list:token_seq\ttimestamp_list:float_seq\t"
    header += "item_id:token\tcat:token\ttimestamp:float\ttags:token_seq"
    lines = [
        "u1\tA B C\ta b c\t10 20 30\td\tB\t40\tx y z w",
        "u2\tC\tc\t5\ta\tA\t6\t",
        "u3\tB A B C\td b a c\t1 2 3 4.5\tb\tC\t9\ty",
    ]
    (tmp_path / "split").mkdir()
    for part in PARTS:
        (tmp_path / "split" / f"split.{part}.inter").write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    keys = {"benchmark_filename": PARTS, "load_col": None, "MAX_ITEM_LIST_LENGTH": 3}
    dataset, found = read(make_config(tmp_path, model, "split", **keys))
    histories = [["a", "b", "c"], ["c"], ["b", "a", "c"]]
    assert [row for _, row, _ in found["train"]] == histories
    if model == "2Mamba4Rec":
        return
    split = dataset.inter_feat[: len(lines)]
    assert dataset.num("cat") == dataset.num("cat_list") == 4
    names = dataset.field2id_token["cat"]
    assert [names[row[row > 0]].tolist() for row in split["cat_list"].numpy()] == [list("ABC"), ["C"], list("ABC")]
    assert names[split["cat"].numpy()].tolist() == ["B", "A", "C"]
    assert split["timestamp_list"].tolist() == [[10, 20, 30], [5, 0, 0], [2, 3, 4.5]]
    change(tmp_path, "test", "\t5\ta\tA", "\t5 6\ta\tA")
    with pytest.raises(
        InputError, match=r"test\.inter, line 3: timestamp_list has more or fewer values than item_id_list"
    ):
        make_splits(make_config(tmp_path, model, "split", **keys))


def test_blank_lines_count_in_the_numbers_of_lines(tmp_path):
    keys = write(tmp_path, chain())
    file = tmp_path / "split" / "split.valid.inter"
    header, *lines = file.read_text().splitlines()
    for place in (0, 3, len(lines)):
        wrong = [*lines[:place], "u1\ti0 i1\t", *lines[place:]]
        file.write_text("\n\n".join([header, *wrong]) + "\n")
        with pytest.raises(InputError, match=rf"split\.valid\.inter, line {2 * place + 3}: item_id is empty"):
            read(make_config(tmp_path, dataset="split", **keys))


def test_the_size_of_the_data_is_that_of_the_training_file(tmp_path):
    samples = leave_one_out()
    dataset, _ = make_loaders(make_config(tmp_path, dataset="split", **write(tmp_path, samples)))
    assert statistics_of(dataset)[0] == len(samples["train"])
