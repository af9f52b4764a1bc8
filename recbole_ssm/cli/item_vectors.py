"""``item-vectors``: a file of vectors of items, made of their titles by a language model on this machine."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from recbole_ssm.cli import types
from recbole_ssm.cli.parser import VerbParser
from recbole_ssm.errors import InputError
from recbole_ssm.system.terminal import Console, printable


def parser() -> VerbParser:
    """The options of the verb."""
    found = VerbParser(
        "item-vectors",
        "Make vectors of items from their titles, for --item_vectors=FILE of a training.",
        keys="keys about the data, such as --data_path=FOLDER",
        note="It needs: pip install 'recbole-ssm[language]'. Nothing is downloaded.",
    )
    found.option("dataset", "NAME", "a data set in --data_path whose .item file has texts", needed=True)
    text = "a folder of a model and its tokenizer, as save_pretrained of transformers writes it, with safetensors"
    found.option("language_model", "FOLDER", text, type=Path, needed=True)
    text = "where the vectors go, .safetensors or .npy; the names of the items go to a .txt beside it"
    found.option("out", "FILE", text, type=types.output_file, needed=True)
    text = "what a text is made of, such as '{title}, {brand}'; default the column of titles"
    found.option("item_text", "TEMPLATE", text)
    text = "whether directions in which all vectors are alike are made to count less; default True"
    found.option("whiten", "True", text, type=types.switch, default=True)
    found.option("batch", "32", "texts that are read together; default 32", type=types.count, default=32)
    found.option("device", "NAME", "the device that computes, such as cuda; default cpu", default="cpu")
    return found


def call(given: Namespace, keys: list[str]) -> None:
    """Write the file."""
    from recbole_ssm.config.config import Config
    from recbole_ssm.data import create_dataset
    from recbole_ssm.data.item_content import check_vectors_file, write_vectors
    from recbole_ssm.data.item_text import item_texts
    from recbole_ssm.language.text_vectors import TextEncoder, whitened
    from recbole_ssm.serving.answers import check_keys
    from recbole_ssm.system.progress_bar import bar

    check_keys(keys, "item-vectors")
    check_vectors_file(given.out)
    encoder = TextEncoder(given.language_model, given.device)
    config = Config("LRURec", given.dataset, config_dict={"use_gpu": False}, command_line=keys)
    read = config["load_col"] or {}
    config["load_col"] = {**read, "item": [config["ITEM_ID_FIELD"]]}
    config["filter_inter_by_user_or_item"] = False
    dataset = create_dataset(config, packed=True, samples=False)
    texts = dict(
        zip(dataset.field2id_token[dataset.iid_field].tolist(), item_texts(dataset, given.item_text), strict=True)
    )
    known = {name: text for name, text in texts.items() if text and "\n" not in name}
    if not known:
        raise InputError("no item has a text")
    done = [0.0]
    with bar(Console(), lambda: (done[0], "reading texts")):
        vectors = encoder.encode([*known.values()], given.batch, lambda share: done.__setitem__(0, share))
    write_vectors(given.out, [*known], whitened(vectors) if given.whiten else vectors)
    left = len(texts) - 1 - len(known)
    print(printable(f"{len(known):,} vectors of width {encoder.width} are in {given.out}; {left:,} items have no text"))
