"""``export``: a model in a form that needs this package no more."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from recbole_ssm.cli import types
from recbole_ssm.cli.parser import VerbParser
from recbole_ssm.errors import InputError
from recbole_ssm.system.terminal import printable


def parser() -> VerbParser:
    """The options of the verb."""
    found = VerbParser(
        "export",
        "Write the model of a checkpoint in a form that other programs read.",
        keys="with --index and --dataset: keys about the data, such as --data_path=FOLDER",
    )
    found.option("checkpoint", "FILE", "a file of a model of this package", needed=True)
    found.option(*types.LANGUAGE_MODEL)
    found.option("out", "FOLDER", "where the files go; an earlier export there is replaced", needed=True)
    text = (
        "safetensors: weights, and the configuration as JSON; torch or onnx: graphs, checked against the model; "
        "vectors: a vector of each item"
    )
    found.option("format", "NAME", text, needed=True)
    text = "for torch and onnx: graphs that give the best so many items in place of all scores"
    found.option("k", "10", text, type=types.count)
    text = "for torch and onnx: whether scores of the history's items are -inf; default as in the training"
    found.option("filter_seen", "True", text, type=types.switch)
    text = "for vectors: also an index of faiss with its measured recall: auto, exact, pq, ivf, ivf_pq, hnsw"
    found.option("index", "KIND", text)
    text = "with --index: measure its recall on histories of this dataset in --data_path; default on made ones"
    found.option("dataset", "NAME", text)
    return found


def call(given: Namespace, keys: list[str]) -> None:
    """Write the folder."""
    from recbole_ssm.serving.answers import check_keys
    from recbole_ssm.serving.export.write import export
    from recbole_ssm.serving.recommender import Recommender
    from recbole_ssm.system import threads

    check_keys(keys, "export")
    if (given.dataset is not None or keys) and None in (given.dataset, given.index):
        raise InputError("--dataset and keys about the data are for --index, whose recall is then measured on them")
    folder = Path(given.out)
    recommender = Recommender(given.checkpoint, filter_seen=given.filter_seen, language_model=given.language_model)
    histories = None if given.dataset is None else recommender.histories(given.dataset, keys).values()
    with threads.chosen(threads.HELPFUL):
        about = export(recommender, folder, given.format, given.k, given.index, histories)
    print(printable(f"{', '.join(about['files'])} are in {folder}"))
    for name, graph in about.get("graphs", {}).items():
        print(f"{name}: scores differ from the model's by at most {graph['largest_difference']:.1e} of the largest")
    if lacking := about.get("not_in_the_vectors"):
        print(f"vectors.npy: inner products are scores without {' and '.join(lacking)}")
    if "no_step" in about:
        print(f"no step: {about['no_step']}")
    if "index" in about:
        found = about["index"]
        measured = f"{found['queries']} {found['measured_on']}, {found['milliseconds']:.2f} ms a search"
        print(f"items.index: {found['kind']}, recall@10 {found['recall_at_10']:.3f} on {measured}")
