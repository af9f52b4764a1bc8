"""Language models from folders and settings: nothing is downloaded, what cannot be used is refused in a sentence."""

from __future__ import annotations

import json
import re
import socket
from functools import partial

import pytest
import torch
from language_cases import TINY, TITLES, needs_transformers, save_language, tiny_language
from packed_cases import borders, relative_error

from recbole_ssm.errors import CheckpointError, InputError
from recbole_ssm.language import packed_mamba
from recbole_ssm.language.lora import Lora
from recbole_ssm.language.making import Options, from_folder, from_kept, from_settings
from recbole_ssm.language.model import LanguageModel
from recbole_ssm.language.tokenizer import Tokenizer, train_tokenizer

needs_transformers()
pytestmark = pytest.mark.slow  # transformers alone takes seconds to import

LENGTHS = (7, 1, 12)
LORA = Options(lora=Lora(2, 4.0))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a socket is opened")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of a model of each kind."""
    return {kind: save_language(tiny_language(kind), tmp_path_factory.mktemp(kind)) for kind in TINY}


def stream(language, lengths=LENGTHS):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(language.tokenizer.size, (sum(lengths),), generator=generator), borders(lengths)


@pytest.mark.parametrize("kind", TINY)
def test_a_folder_gives_the_model_that_was_saved(kind, folders):
    made, read = tiny_language(kind), from_folder(folders[kind], TITLES).eval()
    tokens, cu_seqlens = stream(made)
    assert torch.equal(read(tokens, cu_seqlens), made(tokens, cu_seqlens))
    whole = made.tokenizer.encode(TITLES)
    assert [title[: len(title)] for title in read.titles()] == whole == made.titles()
    assert made.tokenizer.decode(whole) == TITLES
    cut = from_folder(folders[kind], TITLES, Options(title_tokens=2))
    assert cut.titles() == [title[:2] for title in whole]


@pytest.mark.parametrize("kind", TINY)
def test_each_sequence_of_a_stream_is_read_alone(kind):
    language = tiny_language(kind)
    tokens, cu_seqlens = stream(language)
    hidden, readout = language(tokens, cu_seqlens), torch.tensor([19, 3, 7])
    torch.testing.assert_close(language(tokens, cu_seqlens, readout), hidden[readout])
    alone = [language.model(input_ids=each[None]).logits[0] for each in tokens.split(LENGTHS)]
    torch.testing.assert_close(language.logits(hidden), torch.cat(alone).float(), rtol=1e-4, atol=1e-4)
    target = torch.where(torch.arange(20) % 3 > 0, tokens, -100)
    expected = torch.nn.functional.cross_entropy(torch.cat(alone).float(), target)
    torch.testing.assert_close(language.loss(hidden, target), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", TINY)
def test_adapters_alone_are_trained_and_kept(kind, folders):
    """The frozen weights are not in the state, stay as they are, and are asked for where they are not there."""
    adapted = from_folder(folders[kind], TITLES, LORA).eval()
    tokens, cu_seqlens = stream(adapted)
    before = {name: weight.clone() for name, weight in adapted.named_parameters() if not weight.requires_grad}
    assert torch.equal(adapted(tokens, cu_seqlens), tiny_language(kind)(tokens, cu_seqlens))
    trained = [weight for weight in adapted.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(trained, 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        adapted.loss(adapted(tokens, cu_seqlens), tokens.roll(-1)).backward()
        optimizer.step()
    assert all(weight.grad.any() for weight in trained)
    assert all(torch.equal(weight, before[name]) for name, weight in adapted.named_parameters() if name in before)
    assert all("lora_" in name for name in adapted.state_dict()) and len(adapted.state_dict()) == len(trained)
    again = from_kept(adapted.kept(), options=LORA).eval()
    again.load_state_dict(adapted.state_dict())
    assert torch.equal(again(tokens, cu_seqlens), adapted(tokens, cu_seqlens)) and again.texts == TITLES
    moved = from_kept(adapted.kept() | {"base": "gone"}, options=LORA, folder=folders[kind])
    assert moved.kept() == adapted.kept()  # with the folder that is there
    for change, words in ({"base": "gone"}, "gone, is not there"), ({"base_hash": "0"}, "other files than the model"):
        with pytest.raises(CheckpointError, match=words):
            from_kept(adapted.kept() | change, options=LORA)


@pytest.mark.parametrize("kind", TINY)
def test_frozen_weights_may_have_half_precision_and_adapters_have_not(kind, folders):
    tokens, cu_seqlens = stream(tiny_language(kind))
    exact = tiny_language(kind)
    expected = exact.logits(exact(tokens, cu_seqlens))
    for dtype, bound in (torch.bfloat16, 0.04), (torch.float16, 0.006):
        half = from_folder(folders[kind], TITLES, LORA._replace(dtype=dtype)).eval()
        assert half.model.get_input_embeddings().weight.dtype == dtype
        hidden = half(tokens, cu_seqlens)
        assert relative_error(half.logits(hidden), expected) < bound
        half.loss(hidden, tokens.roll(-1)).backward()
        assert {weight.grad.dtype for weight in half.parameters() if weight.requires_grad} == {torch.float32}
        again = from_kept(half.kept(), options=LORA._replace(dtype=None))  # as it was
        assert next(iter(again.model.parameters())).dtype == dtype
    assert next(iter(from_folder(folders[kind], TITLES, Options(dtype=None)).parameters())).dtype == torch.float32


def test_a_model_comes_back_without_its_folder():
    language = tiny_language("mamba")
    tokens, cu_seqlens = stream(language)
    kept = json.loads(json.dumps(language.kept()))
    with torch.device("meta"):
        shapes = {name: weight.shape for name, weight in from_kept(kept).state_dict().items()}
    assert shapes == {name: weight.shape for name, weight in language.state_dict().items()}
    again = from_kept(kept).eval()
    again.load_state_dict(language.state_dict())
    assert torch.equal(again(tokens, cu_seqlens), language(tokens, cu_seqlens)) and again.titles() == language.titles()


def with_files(folder, tmp_path, left_out=(), **changed):
    """A copy of a folder without some files, and with other settings in its config.json."""
    for file in folder.iterdir():
        if file.name not in left_out:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    if "config.json" not in left_out:
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps(config | changed))
    return tmp_path


@pytest.mark.parametrize(
    ("left_out", "changed", "words"),
    [
        (["config.json"], {}, "has no config.json"),
        (["model.safetensors"], {}, "has no weights"),
        (
            ["tokenizer.json", "tokenizer_config.json"],
            {},
            "no tokenizer: tokenizer.json is missing, .* AutoTokenizer.from",
        ),
        ([], {"architectures": ["MambaForSequenceClassification"]}, "does not write text from left to right"),
        ([], {"model_type": "brandnew", "auto_map": {"AutoConfig": "code.Config"}}, "cannot be read by transformers"),
        ([], {"num_hidden_layers": 3}, "lacks weights of a MambaForCausalLM, such as backbone.layers.2"),
    ],
)
def test_folders_that_cannot_be_used(left_out, changed, words, folders, tmp_path):
    folder = with_files(folders["mamba"], tmp_path, left_out, **changed)
    with pytest.raises(InputError, match=words):
        from_folder(folder, TITLES)


def test_pickled_damaged_and_missing_weights(folders, tmp_path):
    with pytest.raises(InputError, match="there is no folder nowhere"):
        from_folder("nowhere", TITLES)
    folder = with_files(folders["mamba"], tmp_path, ["model.safetensors"])
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="are pickled, and reading them could run code"):
        from_folder(folder, TITLES)
    (folder / "model.safetensors").write_bytes(b"\x08" + bytes(20))
    with pytest.raises(InputError, match=r"the weights in .* cannot be read"):
        from_folder(folder, TITLES)


def test_settings_and_choices_that_cannot_be_used(folders, tmp_path):
    larger = save_language(
        tiny_language("gpt2", [*TITLES, "an altogether longer title"] * 3, tokenizer_size=300), tmp_path
    )
    refused = [
        (lambda: from_folder(folders["mamba"], TITLES, tokenizer=larger), "has .* tokens, and the language model"),
        (lambda: from_settings({"model_type": "mambo"}, TITLES), "knows no model_type 'mambo'"),
        (lambda: from_settings({"model_type": "mamba", "hidden_sice": 8}, TITLES), "Did you mean hidden_size"),
        (lambda: from_settings({"model_type": "bert"}, TITLES), "a bert does not write text from left to right"),
        (lambda: from_settings({"model_type": "t5"}, TITLES), "a t5 does not write text from left to right"),
        (lambda: from_settings({"model_type": "mamba", "hidden_size": "x"}, TITLES), "a mamba cannot have these"),
        (lambda: from_settings({"model_type": "mamba2", "hidden_size": 16}, TITLES), "language_config: "),
        (lambda: from_settings({"model_type": "gpt2", "n_embd": 15, "n_head": 2}, TITLES), "no causal language model"),
        (
            lambda: from_folder(folders["mamba"], TITLES, Options(lora=Lora(2, 4, 0, ["q_proj"]))),
            "has no module 'q_proj'",
        ),
        (lambda: from_folder(folders["mamba"], TITLES, Options(lora=Lora(2, 4, 0, ["out_proj"]))), "lora_targets: "),
        (
            lambda: from_folder(folders["mamba"], TITLES, Options(load_in_4bit=True)),
            "weights in 4 bits cannot be trained",
        ),
    ]
    if not torch.cuda.is_available():
        four = LORA._replace(load_in_4bit=True)
        refused.append((partial(from_folder, folders["llama"], TITLES, four), "needs an NVIDIA GPU"))
    for call, words in refused:
        with pytest.raises(InputError, match=words):
            call()


def test_an_adapter_without_a_gradient_is_refused(folders, monkeypatch):
    """As on the path of transformers 5, which uses the weight of Mamba's dt_proj without calling the module."""

    def selected(self, x, others):
        sizes = [self.m.time_step_rank, self.m.ssm_state_size, self.m.ssm_state_size]
        dt, B, C = self.m.x_proj(x).split(sizes, dim=-1)
        dt = torch.nn.functional.softplus(dt @ self.m.dt_proj.weight.T + self.m.dt_proj.bias)
        return x, dt, -torch.exp(self.m.A_log), B, C

    monkeypatch.setattr(packed_mamba._Mamba1, "selected", selected)
    with pytest.raises(InputError, match="the adapter of dt_proj gets no gradient"):
        from_folder(folders["mamba"], TITLES, LORA)


def test_a_trained_tokenizer_writes_any_text():
    tokenizer = train_tokenizer(TITLES, 280)
    texts = ["Toy Story (1995)\n", "Ünicode 漢字 \t", ""]
    assert tokenizer.decode(tokenizer.encode(texts)) == texts
    assert Tokenizer.from_text(tokenizer.to_text()).encode(TITLES) == tokenizer.encode(TITLES)
    assert train_tokenizer(TITLES, 280).to_text() == tokenizer.to_text()
    assert len(tokenizer.encode(["Toy Story"])[0]) < len("Toy Story") and tokenizer.size <= 280
    for broken in ("", "{}", json.dumps({"tokenizer": "{}", "begin": 0, "end": 1, "separator": 2})):
        with pytest.raises(ValueError, match="no tokenizer can be made of it"):
            Tokenizer.from_text(broken)


def test_a_model_says_how_much_it_reads_of_titles():
    language = tiny_language(tokenizer_size=260)  # bytes, nearly
    assert re.fullmatch(r"[\d.]+ tokens on average; 0 of 7 fill title_tokens \(32\)", language.titles_in_words())
    short = LanguageModel(language.model, language.tokenizer, TITLES, 3)
    assert short.titles_in_words() == "3.6 tokens on average; 6 of 7 fill title_tokens (3)"
