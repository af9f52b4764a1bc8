"""What the documentation tells to do is done, word for word."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import torch
from atomic import ROOT, small
from made import made_checkpoint

import recbole_ssm
from recbole_ssm.cli.main import main
from recbole_ssm.cli.parser import value_of
from recbole_ssm.cli.verbs import VERBS
from recbole_ssm.config.command_line import key_of
from recbole_ssm.config.config import Config
from recbole_ssm.data import create_dataset
from recbole_ssm.ops import linear_recurrence, use_backend
from recbole_ssm.ops.backends import OPS


@pytest.mark.docs
def test_the_page_on_your_own_model_can_be_followed(tmp_path, monkeypatch, capsys):
    """Its file, its yaml and its line are all that there is of the model."""
    page = (ROOT / "docs" / "your-own-model.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    (defaults,) = re.findall(r"^```yaml\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    ((group, line),) = re.findall(
        r'^```toml\n\[project.entry-points."(.*?)"\]\n(.*?)^```$', page, re.MULTILINE | re.DOTALL
    )
    name = re.match(r"# (\w+\.py)\n", blocks[0])[1]
    (tmp_path / name).write_text(blocks[0], encoding="utf-8")
    (tmp_path / "EMARec.yaml").write_text(defaults, encoding="utf-8")
    installed = tmp_path / "emarec-1.dist-info"  # as pip writes it
    installed.mkdir()
    (installed / "METADATA").write_text("Name: emarec\nVersion: 1\n")
    (installed / "entry_points.txt").write_text(f"[{group}]\n{line}".replace('"', ""))
    monkeypatch.syspath_prepend(str(tmp_path))
    torch.manual_seed(0)
    space: dict = {}
    for block in blocks[1:]:
        exec(compile(block, "your-own-model.md", "exec"), space)
    assert len(blocks) == 4
    assert space["result"]["epochs"] == 3
    assert space["result"]["test_result"]["ndcg@10"] > 0.01  # chance is .0027
    assert str(space["result"]["test_result"]) in capsys.readouterr().out
    assert len(space["best"][0]) == 5
    later = {"timestamp": [[time + 6 * 3600 for time in space["times"]["timestamp"][0]]]}
    assert space["recommender"].recommend([["50", "181", "174"]], k=5, columns=later) != space["best"]
    config = Config("EMARec", "ml-100k")
    assert (config["day_parts"], config["learning_rate"], config["hidden_size"]) == (8, 0.005, 64)
    for key, words in (
        ("day_parts=5", "must divide 24"),
        ("day_parts=0", "from 1 to 24"),
        ("dayparts=4", "Did you mean"),
    ):
        with pytest.raises(recbole_ssm.InputError, match=words):
            Config("EMARec", "ml-100k", command_line=[f"--{key}"])


def test_the_page_on_your_own_backend_can_be_followed(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(str(tmp_path))
    page = (ROOT / "docs" / "your-own-backend.md").read_text(encoding="utf-8")
    first, *others = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / re.match(r"# (\w+\.py)\n", first)[1]).write_text(first, encoding="utf-8")
    space: dict = {}
    for block in others:
        exec(compile(block, "your-own-backend.md", "exec"), space)
    assert len(others) == 2
    expected = linear_recurrence(space["x"], space["decay"], torch.tensor([0, 2, 5]))
    with use_backend(space["DOUBLING"]):
        assert torch.allclose(linear_recurrence(space["x"], space["decay"], torch.tensor([0, 2, 5])), expected)
    assert "tensor([[" in capsys.readouterr().out
    names = set(re.findall(r"`(\w+)`", page.split("It is one object")[0]))
    assert set(OPS) <= names


def test_the_page_on_your_own_verb_can_be_followed(tmp_path, monkeypatch, capsys):
    page = (ROOT / "docs" / "your-own-verb.md").read_text(encoding="utf-8")
    (module,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    (group, name) = re.search(r'^\[project\.entry-points\."(.+)"\]\n(.+) = "\2"$', page, flags=re.MULTILINE).groups()
    command, shown = re.search(
        r"^```\nrecbole-ssm (.+)\n```\n\n```\n(.*?)^```$", page, re.MULTILINE | re.DOTALL
    ).groups()
    (tmp_path / f"{name}.py").write_text(module, encoding="utf-8")
    installed = tmp_path / "popular-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: popular\nVersion: 1.0\n", encoding="utf-8")
    (installed / "entry_points.txt").write_text(f"[{group}]\n{name} = {name}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert main(command.split()) == 0
    assert capsys.readouterr().out == shown
    assert main([name, "--help"]) == 0
    assert "--k how many items; default 10" in " ".join(capsys.readouterr().out.split())
    assert main([name, "--dataset=ml-100k", "--k=0"]) == 2
    assert capsys.readouterr().err == "error: --k=0 must be a whole number of at least 1\n"


@pytest.mark.docs
def test_the_page_on_data_that_are_split_already_can_be_followed(capsys):
    page = (ROOT / "docs" / "pre-split.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    space: dict = {}
    for block in blocks:
        exec(compile(block, "pre-split.md", "exec"), space)
    (shown,) = re.findall(r"^```\n(session_id.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    assert Path("dataset/shop/shop.train.inter").read_text(encoding="utf-8").startswith(shown)
    assert str(space["result"]["test_result"]) in capsys.readouterr().out
    found = space["recommender"].recommend([["page3", "page4"], ["page17"]], k=1)
    assert [items[0][0] for items in found] == ["page5", "page18"]
    (command,) = re.findall(r"^python run_recbole_ssm.py (.+)$", page, flags=re.MULTILINE)
    given = [key for key in shlex.split(command) if key_of(key) not in ("model", "dataset")]
    config = Config("2Mamba4Rec", "shop", command_line=given)
    assert {key: config[key] for key in space["shop"]} == space["shop"]


def test_the_page_on_datasets_makes_atomic_files_of_a_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "dataset" / "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"^```\n(customer,.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    (block,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    (tmp_path / "clicks.csv").write_text(table + "007,NA,2026-11-03 18:40:13\n" * 2, encoding="utf-8")
    exec(compile(block, "README.md", "exec"), {})
    dataset = create_dataset(Config("2Mamba4Rec", "clicks"), packed=True)
    names = [dataset.id2token(field, dataset.inter_feat[field]) for field in ("user_id", "item_id")]
    assert list(zip(*names, strict=True)) == [
        ("anna", "Blue mug"),
        ("anna", 'Tea "Earl Grey"'),
        ("007", "Blue mug"),
        ("007", "NA"),
    ]
    assert dataset.inter_feat["timestamp"].tolist()[:2] == [1793610900, 1793610990]


def test_the_page_on_installing_has_every_extra():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (extras,) = re.findall(r"^\[project.optional-dependencies\]\n(.*?)^\[", project, flags=re.MULTILINE | re.DOTALL)
    page = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")
    names = re.findall(r"^(\w+) = \[", extras, flags=re.MULTILINE)
    assert len(names) > 5
    assert sorted(names) == sorted(re.findall(r"^\| `(\w+)` \|", page, flags=re.MULTILINE))


@pytest.mark.slow
def test_the_page_on_importing_can_be_followed(tmp_path, monkeypatch, capsys):
    pytest.importorskip("duckdb")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "import.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    clicks, said, products, items = (block for language, block in blocks if not language)
    Path("clicks.csv").write_text(clicks, encoding="utf-8")
    Path("products.csv").write_text(products, encoding="utf-8")
    first, filtered, with_items = re.findall(r"^python -m recbole_ssm (import .+)$", page, flags=re.MULTILINE)
    assert main(shlex.split(first)) == 0
    assert capsys.readouterr().out == said
    assert main(shlex.split(filtered.replace("k_core=5", "k_core=1"))) == 0
    assert main(shlex.split(with_items)) == 0
    assert Path("dataset/clicks/clicks.item").read_text(encoding="utf-8") == items
    assert {file.suffix for file in Path("dataset/clicks").iterdir()} == {".inter", ".item", ".json", ".pth"}
    space: dict = {}
    exec(compile(python_blocks("docs/import.md")[0], "import.md", "exec"), space)
    assert space["data"].report["interactions"] == 2


@pytest.fixture
def shop(tmp_path, monkeypatch):
    """``clicks.csv`` in the working directory, and a ``fit`` that takes no time."""
    items = ("Blue mug", "Tea pot", "Cups", "Tray", "Sugar bowl", *(f"Tea {number}" for number in range(10)))
    people = ("anna", "ben", *(f"c{number}" for number in range(38)))
    clicks = [
        (who, items[(start + place) % len(items)], f"2026-11-{1 + start % 28:02} 10:{place:02}:00")
        for start, who in enumerate(people)
        for place in range(6)
    ]
    pd.DataFrame(clicks, columns=["customer", "product", "time"]).to_csv(tmp_path / "clicks.csv", index=False)
    quick = {**small("2Mamba4Rec"), "epochs": 1, "use_gpu": False, "show_progress": False}
    fit = recbole_ssm.fit
    monkeypatch.setattr(recbole_ssm, "fit", lambda *data, **keys: fit(*data, **(quick | keys | {"epochs": 1})))


def python_blocks(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)


def test_the_table_of_clicks_of_readme_becomes_recommendations(shop, capsys):
    (block,) = python_blocks("README.md")
    assert len([line for line in block.splitlines() if line]) == 5
    capsys.readouterr()
    space: dict = {}
    exec(compile(block, "README.md", "exec"), space)
    assert "customer" in capsys.readouterr().out
    assert len(space["model"].recommend(space["clicks"], k=5)) == 5 * 40


@pytest.mark.docs
def test_the_page_on_python_can_be_followed(shop):
    space: dict = {}
    for block in python_blocks("docs/python.md"):
        exec(compile(block, "python.md", "exec"), space)
    assert list(space["model"].recommend(space["clicks"], k=3).columns) == ["customer", "product", "score", "rank"]


@pytest.mark.docs
def test_the_pages_on_training_and_recommending_can_be_followed(monkeypatch, capsys):
    train = recbole_ssm.run
    monkeypatch.setattr(
        recbole_ssm, "run", lambda config_dict, **names: train(config_dict={**config_dict, "epochs": 1}, **names)
    )
    space: dict = {}
    for name in ("training.md", "recommend.md"):
        page = (ROOT / "docs" / name).read_text(encoding="utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
        if name == "training.md":
            blocks = [block for block in blocks if re.match("import|from", block)]  # one that stands alone
        block = "\n".join(blocks)
        if name == "recommend.md":  # its checkpoint has the date of another training
            block = re.sub(r"saved/.*?\.pth", lambda _: space["result"]["checkpoint"], block)
        exec(compile(block, name, "exec"), space)
    assert "ndcg@10" in capsys.readouterr().out
    assert len(space["session"].recommend(k=3)) == 3
    assert len(space["recommender"].similar(["50"], k=3)[0]) == 3


@pytest.mark.docs
def test_the_page_on_export_can_be_followed(tmp_path, capsys):
    for package in ("onnxruntime", "onnxscript", "safetensors", "faiss"):
        pytest.importorskip(package, reason="pip install 'recbole-ssm[export,ann]'")
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 9):
        pytest.skip("graphs need torch 2.9 or later")
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    (file,) = set(re.findall(r"saved/[\w-]+\.pth", page))
    Path("saved").mkdir()
    made_checkpoint(Path(file), "LRURec", 400, names="{}", num_layers=1, item_bias=True)
    best = [name for name, _ in recbole_ssm.Recommender(file).recommend([["242", "302", "377"]], 10)[0]]
    space: dict = {}
    for kind, block in re.findall(r"^```(bash|python)\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL):
        capsys.readouterr()
        if kind == "bash":
            words = shlex.split(block)[1:]
            assert words[0] != "-m" or main(words[2:]) == 0
            continue
        exec(compile(block, "export.md", "exec"), space)
        said = capsys.readouterr().out
        assert "index" in space or said in (f"{best[:3]}\n", f"{best}\n")
    found = [name for name, _ in space["index"].recommend_after(space["session"], 3)]
    assert found == best[:3] and "exact" in repr(space["index"])


WITH_COMMANDS = [
    *sorted((ROOT / "docs").glob("*.md")),
    *(ROOT / name for name in ("README.md", "SECURITY.md", "dataset/README.md", "results/NOTES.md")),
]


@pytest.mark.parametrize("file", WITH_COMMANDS, ids=lambda file: str(file.relative_to(ROOT)))
def test_commands_of_the_documentation_can_be_given(file, capsys):
    """Verbs exist, keys are the verb's or the configuration's, and files that are linked to are there."""
    text = file.read_text(encoding="utf-8")
    for line in re.findall(
        r"^(?:python -m recbole_ssm|(?:python|torchrun) .*run_recbole_ssm\.py) (.+)$", text, flags=re.MULTILINE
    ):
        words = shlex.split(line)
        verb = words.pop(0) if words[0] in VERBS else "train"
        assert main([verb, "--help"]) == 0
        own = set(re.findall(r"--(\w+)", capsys.readouterr().out))
        given = {key_of(word): word for word in words if word.startswith("-")}
        model, dataset, files = (value_of(words, key) for key in ("model", "dataset", "config_files"))
        if verb == "train" and not {"resume", "help"} & given.keys() and "best.yaml" not in line:
            keys = [given[key] for key in given if key not in ("model", "dataset", "config_files")]
            named = (value_of(words, key) or "" for key in ("teacher", "init_from", "item_vectors"))
            for of_key in filter(None, ",".join(named).split(",")):
                Path(of_key).parent.mkdir(exist_ok=True)
                Path(of_key).touch()
                Path(of_key).with_suffix(".txt").touch()  # the names of vectors
            Config(model, dataset, (files or "").split(",") if files else [], command_line=keys)
        elif verb != "train":
            keys = [given[key] for key in given.keys() - own]
            assert not Config("2Mamba4Rec", "ml-100k", command_line=keys).passed_over
    for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
        assert (file.parent / link).exists(), link


@pytest.mark.parametrize("file", WITH_COMMANDS, ids=lambda file: str(file.relative_to(ROOT)))
def test_benchmarks_of_the_documentation_have_the_options_that_are_given(file):
    text = file.read_text(encoding="utf-8")
    for script, words in re.findall(r"\bpython (benchmarks/\w+\.py)([^`\n]*)", text):
        source = (ROOT / script).read_text(encoding="utf-8")
        keys = Config("2Mamba4Rec", "ml-100k") if "parse_known_args" in source else {}  # those of its trainings
        for option in re.findall(r"(?<!\S)(--\w+)", words):
            assert f'"{option}"' in source or option[2:] in keys, f"{script} {option}"
