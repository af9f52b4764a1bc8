"""Vectors of items from their titles, by a model of a folder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from atomic import interactions, write_dataset
from language_cases import TITLES, needs_transformers, save_language, tiny_language

from recbole_ssm import InputError
from recbole_ssm.cli.main import main
from recbole_ssm.data.item_content import read_vectors
from recbole_ssm.language.text_vectors import TextEncoder, whitened

needs_transformers()
pytestmark = pytest.mark.slow  # transformers alone takes seconds to import


@pytest.mark.parametrize("kind", ["gpt2", "mamba"])
def test_a_vector_is_the_mean_over_its_own_tokens(tmp_path, kind):
    """Whatever is read beside it, and however long that is."""
    folder = save_language(tiny_language(kind), tmp_path / "model")
    encoder = TextEncoder(folder)
    texts = [*filter(None, TITLES), TITLES[1] * 3, "x"]
    shares: list[float] = []
    found = encoder.encode(texts, batch=3, told=shares.append)
    assert found.shape == (len(texts), encoder.width) and shares[-1] == 1.0
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)
    ids = torch.tensor([encoder._tokenizer(texts[0])["input_ids"]])
    with torch.inference_mode():
        expected = encoder._model(input_ids=ids).last_hidden_state.mean(1)[0].numpy()
    np.testing.assert_allclose(found[0], expected, rtol=1e-4, atol=1e-5)


def test_whitened_vectors_vary_alike_and_keep_their_directions():
    rng = np.random.default_rng(0)
    given = (rng.normal(size=(500, 6)) * [9, 1, 1, 1, 1, 0.3] + 20).astype(np.float32)
    found = whitened(given)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    assert found.std(0).max() < 2 * found.std(0).min() and np.abs(found.mean(0)).max() < 0.1
    np.testing.assert_allclose(whitened(given[:, ::-1])[:, ::-1], found, atol=1e-4)
    alike = np.ones((3, 4), np.float32)
    assert np.isfinite(whitened(alike)).all()


def test_the_command_writes_what_a_training_reads(tmp_path, capsys):
    """For items without interactions, too; an item without a title has no vector."""
    folder = save_language(tiny_language("gpt2"), tmp_path / "model")
    write_dataset(tmp_path, interactions(n_users=12, n_items=8))
    rows = [f"i{number}\tTitle {number}" for number in range(7)] + ["i7\t", 'new\t"New" thing']
    (tmp_path / "tiny" / "tiny.item").write_text("\n".join(["item_id:token\ttitle:token_seq", *rows]))
    words = ["item-vectors", "--dataset=tiny", f"--data_path={tmp_path}", f"--language_model={folder}"]
    for name in ("a.npy", "a.safetensors"):
        out = tmp_path / name
        assert main([*words, f"--out={out}"]) == 0
        assert "8 vectors of width" in capsys.readouterr().out
        names, vectors = read_vectors(out)
        assert sorted(names) == [*(f"i{number}" for number in range(7)), "new"]
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    for wrong, said in (
        (f"--out={tmp_path}/a.txt", "must end in .safetensors or .npy"),
        ("--language_model=none", "there is no folder none"),
        ("--item_text={brand}", "no column 'brand'"),
        ("--hidden_size=3", "no use for"),
    ):
        kept = [word for word in [*words, f"--out={out}"] if word.split("=")[0] != wrong.split("=")[0]]
        assert main([*kept, wrong]) == 2
        assert said in capsys.readouterr().err
    (folder / "tokenizer.json").unlink()
    with pytest.raises(InputError, match="has no tokenizer"):
        TextEncoder(folder)
