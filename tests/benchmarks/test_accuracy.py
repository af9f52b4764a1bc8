"""benchmarks/accuracy.py: recipes become runs, runs become tables; and a recipe still gives what is stored."""

import json
import runpy
import statistics

import pytest
import yaml
from atomic import ROOT, run_here

from recbole_ssm.config.config import Config
from recbole_ssm.config.shipped_files import properties_folder
from recbole_ssm.studies import worker

SCRIPT = ROOT / "benchmarks" / "accuracy.py"


@pytest.fixture
def accuracy(capfd, monkeypatch):
    """Runs the script in this process."""
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    return lambda *arguments: run_here(str(SCRIPT), *map(str, arguments), capfd=capfd, monkeypatch=monkeypatch)


def some_run(folder, name, seed, ndcg, **keys):
    """A file as a run leaves it, of a recipe without keys."""
    found = {f"{metric}@{k}": ndcg for metric in ("hit", "ndcg", "mrr") for k in (10, 20)}
    run = {
        "command": f"python run_recbole_ssm.py --model={name.partition('-')[0]} --seed={seed}",
        "settings": {},
        "dataset": "ml-1m",
        "time_order": "exact",
        "repeat_bias": True,
        "hardware": {"cpu": "a processor", "threads": 1},
        "metrics": {kind: {"test": found, "valid": found} for kind in ("filtered", "unfiltered")},
        "parameters": 1234,
        "epochs": 12,
        "seconds_per_epoch": 10.0,
        "seconds_to_best": 50.0,
        "peak_memory_gib": 1.0,
    }
    (folder / "runs").mkdir(exist_ok=True)
    (folder / "runs" / f"{name}-{seed}.json").write_text(json.dumps(run | keys))


def test_tables_are_written_from_runs_and_from_what_is_published(tmp_path, accuracy):
    some_run(tmp_path, "Mamba4Rec-ml-1m", 1, 0.10)
    some_run(tmp_path, "Mamba4Rec-ml-1m", 2, 0.20)
    some_run(tmp_path, "2Mamba4Rec-ml-1m", 1, 0.25, repeat_bias=False)
    some_run(tmp_path, "2Mamba4Rec-ml-1m-taught", 1, 0.20, settings={"teacher": "a.pth"})
    some_run(tmp_path, "2Mamba4Rec-ml-1m-final", 1, 0.30, split={"LS": "test_only"}, processor_share=0.5)
    temporal = {"quantile": 0.9, "target": "last", "validation": None}
    some_run(tmp_path, "Mamba4Rec-ml-1m-temporal", 1, 0.30, split={"temporal": temporal})
    once = {"filtered": {"test": {f"{metric}@{k}": 0.4 for metric in ("hit", "ndcg", "mrr") for k in (10, 20)}}}
    some_run(tmp_path, "GPT4Rec-ml-1m", 1, 0.1, settings={"eval_users": 200}, metrics=once)
    done = accuracy("--tables", "--results", tmp_path)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "README.md").read_text().splitlines()
    of_some = [line for line in lines if line.startswith(("## ml-1m, time_order: exact, 200 users", "| GPT4Rec"))]
    assert [line.split(" | ")[0] for line in of_some] == [
        "## ml-1m, time_order: exact, 200 users, items of the history excluded",
        "| GPT4Rec-ml-1m (b)",
    ]
    rows = [line for line in lines if line.startswith(("| 2Mamba4Rec", "| Mamba4Rec"))]
    assert rows[0].startswith("| 2Mamba4Rec-ml-1m | .2500 | .2500")  # the best first, once for each kind of ranking
    assert rows[1].startswith("| 2Mamba4Rec-ml-1m-taught (b) (t) | .2000")
    assert rows[2].startswith("| Mamba4Rec-ml-1m (b) | .1500 ± .0707 | .1500 ± .0707")
    assert "| 2 | 1,234 | 12 | 10 | 50 | 1.0 |" in rows[2]
    assert rows[3].startswith("| 2Mamba4Rec-ml-1m-final")
    assert "| yes | 1 | 1,234 | 12 | ~5 | ~25 | 1.0 |" in rows[3]
    filtered = lines.index("## ml-1m, time_order: exact, items of the history excluded")
    order = [line.split(" | ")[0].lstrip("| *").partition(":")[0].partition(" ")[0] for line in lines[filtered + 4 :]]
    assert order[:4] == ["HSTU-large,", "2Mamba4Rec-ml-1m", "2Mamba4Rec-ml-1m-taught", "LRURec"]
    assert order[5] == "2Mamba4Rec-ml-1m-final"
    parted = "## ml-1m, time_order: exact, temporal split, each user's last item after quantile 0.9 of all times, "
    (place,) = (n for n, line in enumerate(lines) if line.startswith(parted) and line.endswith("history excluded"))
    assert lines[place + 4].startswith("| *SASRec+") and "| no |" in lines[place + 4]
    assert lines[place + 5].startswith("| Mamba4Rec-ml-1m-temporal") and "| yes |" in lines[place + 5]


def test_runs_of_one_name_have_the_same_settings(tmp_path, accuracy):
    some_run(tmp_path, "Mamba4Rec-ml-1m", 1, 0.10, settings={"epochs": 3, "d_state": 8})
    some_run(tmp_path, "Mamba4Rec-ml-1m", 2, 0.20, settings={"epochs": 3, "hidden_size": 32})
    done = accuracy("--tables", "--results", tmp_path)
    assert done.returncode == 1
    assert "the runs of Mamba4Rec-ml-1m differ in d_state, hidden_size: " in done.stderr


def test_runs_that_do_not_say_their_settings_are_named(tmp_path, accuracy):
    some_run(tmp_path, "Mamba4Rec-ml-1m", 1, 0.10)
    file = tmp_path / "runs" / "Mamba4Rec-ml-1m-1.json"
    file.write_text(json.dumps({key: v for key, v in json.loads(file.read_text()).items() if key != "settings"}))
    done = accuracy("--tables", "--results", tmp_path)
    assert done.returncode == 1
    assert f"{file} is of an earlier version" in done.stderr
    assert "Traceback" not in done.stderr


def of_recipe(file):
    """The settings in a file as runs keep them, which do not say that other keys are as published."""
    return {key: value for key, value in yaml.safe_load(file.read_text()).items() if (key, value) != DEFAULTS}


@pytest.mark.slow
def test_what_is_there_is_not_run_again_and_what_fails_is_named(tmp_path, accuracy):
    def kept(name, recipe, **changes):
        content = of_recipe(properties_folder() / f"{recipe}.yaml")
        some_run(tmp_path, name, 1, 0.1, settings=content | changes)

    kept("2Mamba4Rec-ml-1m", "recipe/2Mamba4Rec-ml-1m")
    kept("2Mamba4Rec-ml-1m-paper", "paper/2Mamba4Rec-ml-1m")
    kept("Mamba4Rec-ml-1m", "recipe/Mamba4Rec-ml-1m", dropout_prob=0.7)
    asked = ["2Mamba4Rec-ml-1m", "paper/2Mamba4Rec-ml-1m", "Mamba4Rec-ml-1m", "Mamba4Rec-nothing"]
    done = accuracy(*asked, "--seeds", 1, "--results", tmp_path)
    assert done.stdout.splitlines()[:3] == [
        "2Mamba4Rec-ml-1m-1.json is there",
        "2Mamba4Rec-ml-1m-paper-1.json is there",
        "Mamba4Rec-ml-1m-1.json is there, but its settings differ in dropout_prob",
    ]
    assert done.returncode == 1
    assert "failed: Mamba4Rec-ml-1m-1 (remove it, or give --name), Mamba4Rec-nothing-1" in done.stderr
    assert len(list((tmp_path / "runs").iterdir())) == 3


@pytest.mark.parametrize("change", [("--set", "epochs=1"), ("--with", "protocol/no_validation")], ids=str)
def test_a_changed_recipe_needs_a_name(change, accuracy):
    done = accuracy("2Mamba4Rec-ml-100k", *change)
    assert done.returncode == 2
    assert "--name" in done.stderr


DEFAULTS = ("defaults", "paper")


def test_default_settings_are_no_file(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from accuracy import command_of, divided, settings_of

    words = command_of("default/2Mamba4Rec-ml-100k", 1, None, ["time_order=recbole"], ["protocol/no_validation"])
    assert divided(words) == ("2Mamba4Rec", "ml-100k", ["protocol/no_validation"], ["--seed=1", "--time_order=recbole"])
    words = command_of("default/2Mamba4Rec-ml-100k", 1, None, [], [])
    assert divided(words) == ("2Mamba4Rec", "ml-100k", [], ["--seed=1"])
    assert settings_of(words) == {"defaults": "data"}
    assert settings_of([*words, "--defaults=paper", "--epochs=3"]) == {"epochs": 3}


FOLDERS = ("recipe", "memory", "wide")
RECIPES = [path for folder in FOLDERS for path in sorted((properties_folder() / folder).glob("*.yaml"))]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("file", [f"{path.parent.name}/{path.stem}" for path in RECIPES])
def test_recipes_fit_their_models_and_datasets(file):
    model, _, dataset = file.partition("/")[2].partition("-")
    config = Config(model, dataset, [file])
    assert config["stopping_step"] >= config["epochs"]  # a schedule is to be finished


def test_settings_behind_published_tables_name_their_order():
    for file in [*RECIPES, *(properties_folder() / "paper").glob("*.yaml")]:
        assert yaml.safe_load(file.read_text())["time_order"] in ("recbole", "exact"), file


@pytest.mark.sampled(4)
@pytest.mark.parametrize("file", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_stored_runs_are_of_the_recipes_as_they_are(file):
    name = file.stem + ("" if file.parent.name == "recipe" else f"-{file.parent.name}")
    runs = [json.loads(run.read_text()) for run in (ROOT / "results" / "runs").glob(f"{name}-20[0-9][0-9].json")]
    assert runs
    for run in runs:
        had = dict(run["settings"])
        if had.pop("defaults", None) == "data":
            had = run["from_data"] | {"time_order": run["time_order"]} | had
        assert had == of_recipe(file)


@pytest.mark.docs
def test_a_recipe_gives_what_is_stored(tmp_path, accuracy, monkeypatch):
    """Half a minute on ml-100k, from the recipe to the test metric, which random numbers move a little."""

    def start_here(words):
        monkeypatch.setattr("sys.argv", [*words, "0"])
        runpy.run_path(words[0], run_name="__main__")

    monkeypatch.setattr(worker, "start", start_here)
    monkeypatch.setattr(worker, "end_with_parent", lambda parent: None)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    stored = [json.loads(f.read_text()) for f in (ROOT / "results" / "runs").glob("2Mamba4Rec-ml-100k-*.json")]
    assert len(stored) >= 3
    done = accuracy("2Mamba4Rec-ml-100k", "--seeds", 1, "--threads", 1, "--results", tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "runs" / "2Mamba4Rec-ml-100k-1.json").read_text())
    for kind in ("unfiltered", "filtered"):
        values = [run["metrics"][kind]["test"]["ndcg@10"] for run in stored]
        noise = max(statistics.stdev(values), 0.002)
        assert abs(found["metrics"][kind]["test"]["ndcg@10"] - statistics.mean(values)) < 3 * noise
    assert len(found["history"]) == found["epochs"] == 12
    assert (tmp_path / "checkpoints" / "2Mamba4Rec-ml-100k-1.pth").exists()
    assert found["seconds_to_best"] <= sum(e["train_seconds"] + e["valid_seconds"] for e in found["history"])
