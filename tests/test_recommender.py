"""A checkpoint in use: names of items in, names of the best items out, the same as in an evaluation."""

import pytest
import torch
from atomic import histories, make_config, make_loaders, read_interactions, small
from torch.testing import assert_close

from recbole_ssm import InputError, Recommender, run
from recbole_ssm.cli import main
from recbole_ssm.registry import MODELS


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """A checkpoint of each model, by name and keys; trained once."""
    files: dict = {}

    def checkpoint(model: str, **keys) -> str:
        key = (model, *sorted(keys.items()))
        if key not in files:
            fixed = {"data_path": str(tiny), "checkpoint_dir": str(tmp_path_factory.mktemp("checkpoints"))}
            settings = {"use_gpu": False, "show_progress": False, "epochs": 1, **small(model), **keys, **fixed}
            files[key] = run(model, "tiny", config_dict=settings)["checkpoint"]
        return files[key]

    return checkpoint


def evaluated(tiny, file, model, **keys):
    """The test loader's histories by user, and the scores that an evaluation gives them."""
    config = make_config(tiny, model, **keys)
    dataset, (train, _, test) = make_loaders(config)
    loaded = config.model_class(config, train._dataset).eval()
    loaded.load_state_dict(torch.load(file)["state_dict"])
    batch = test.collate_fn(list(range(test.sample_size)))[0]
    with torch.no_grad():
        scores = loaded.full_sort_predict(batch)
    users = dataset.id2token(dataset.uid_field, test._dataset.inter_feat[dataset.uid_field].numpy())
    return dict(zip(users, scores, strict=True)), dataset.field2id_token[dataset.iid_field].tolist()


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        *((model, {}) for model in MODELS),
        ("2Mamba4Rec", {"repeat_bias": True, "item_bias": True}),
        ("Mamba4Rec", {"MAX_ITEM_LIST_LENGTH": 3}),
    ],
    ids=str,
)
def test_the_best_are_those_of_an_evaluation(tiny, trained, model, keys):
    file = trained(model, **keys)
    scores, names = evaluated(tiny, file, model, **keys)
    recommender = Recommender(file)
    assert recommender.items == names
    known = recommender.histories(command_line=[f"--data_path={tiny}"])
    assert set(known) == set(scores)
    found = recommender.recommend([known[user][:-1] for user in scores], k=5)
    for user, best in zip(scores, found, strict=True):
        row = scores[user].clone()
        row[0] = -torch.inf
        values, items = row.topk(5)
        assert [name for name, _ in best] == [names[item] for item in items]
        assert_close(torch.tensor([value for _, value in best]), values)
        session = recommender.session(known[user][:3])
        for item in known[user][3:-1]:
            session.add(item)
        if len(known[user]) > 3:
            assert session.history == known[user][:-1]
            assert [name for name, _ in session.recommend(5)] == [name for name, _ in best]


def test_histories_are_those_of_the_file(tiny, trained):
    known = Recommender(trained("2Mamba4Rec")).histories(command_line=[f"--data_path={tiny}"])
    assert known == histories(read_interactions(tiny / "tiny" / "tiny.inter"), "float32")


@pytest.mark.parametrize("model", ["2Mamba4Rec", "SSD4Rec"])
def test_what_was_seen_is_left_out_if_that_is_asked_for(trained, model):
    file = trained(model)
    history = ["i1", "i7", "i1", "i3"]
    everything = Recommender(file).recommend([history], k=100)[0]
    assert len(everything) == len(Recommender(file).items) - 1
    for left in (
        Recommender(file, filter_seen=True).recommend([history], k=100)[0],
        Recommender(file, filter_seen=True).session(history).recommend(100),
        Recommender(trained(model, filter_seen=True)).recommend([history], k=100)[0],
    ):
        assert len(left) == len(everything) - 3
        assert not {"i1", "i3", "i7"} & {name for name, _ in left}
    assert Recommender(trained(model, filter_seen=True), filter_seen=False).recommend([history], 100)[0] == everything


def test_items_that_the_model_does_not_know(trained):
    recommender = Recommender(trained("2Mamba4Rec"))
    assert "i1" in recommender
    assert "new" not in recommender
    assert "[PAD]" not in recommender
    with pytest.raises(InputError, match="knows no item 'new'"):
        recommender.recommend([["i1"], ["i2", "new"]])
    found = recommender.recommend([["i1", "new"], ["new"], ["i1"]], skip_unknown=True)
    assert found[0] == found[2] != []
    assert found[1] == []
    session = recommender.session(["i1"])
    before = session.recommend()
    with pytest.raises(InputError, match="knows no item 'new'"):
        session.add("new")
    assert session.history == ["i1"]
    assert session.recommend() == before


def test_what_cannot_be_answered_is_refused(trained):
    recommender = Recommender(trained("2Mamba4Rec"))
    with pytest.raises(InputError, match="a history is empty"):
        recommender.recommend([["i1"], []])
    with pytest.raises(InputError, match="a history is empty"):
        recommender.session().recommend()
    with pytest.raises(InputError, match="list of names"):
        recommender.recommend(["i1"])
    for k in (0, -1, 2.5, "3"):
        with pytest.raises(InputError, match="k must be"):
            recommender.recommend([["i1"]], k)
    assert recommender.recommend([]) == []


def test_models_of_recbole_are_refused(trained):
    with pytest.raises(InputError, match="is a SASRec"):
        Recommender(trained("SASRec"))


def command(capsys, *arguments) -> tuple[int, list[list[str]], str]:
    """Exit status, fields of the lines on the screen, errors."""
    capsys.readouterr()
    status = main(["recommend", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, [line.split("\t") for line in captured.out.splitlines()], captured.err


def test_the_command_recommends_for_a_history_and_for_users(tiny, trained, capsys, tmp_path):
    file = trained("2Mamba4Rec")
    recommender = Recommender(file)
    status, (head, *rows), _ = command(capsys, f"--checkpoint={file}", "--history=i1,i2", "--k=4")
    assert (status, head) == (0, ["item_id:token", "score:float"])
    assert [name for name, _ in rows] == [name for name, _ in recommender.recommend([["i1", "i2"]], 4)[0]]

    data = f"--data_path={tiny}"
    known = recommender.histories(command_line=[data])
    status, (head, *rows), _ = command(capsys, f"--checkpoint={file}", data, "--users=u3,u1", "--filter_seen=True")
    assert (status, head) == (0, ["user_id:token", "item_id:token", "score:float"])
    assert [user for user, *_ in rows] == ["u3"] * 10 + ["u1"] * 10
    expected = Recommender(file, filter_seen=True).recommend([known["u3"], known["u1"]])
    assert [name for _, name, _ in rows] == [name for best in expected for name, _ in best]

    out = tmp_path / "best.inter"
    status, lines, _ = command(capsys, f"--checkpoint={file}", data, f"--out={out}", "--k=2")
    assert (status, lines) == (0, [[f"60 recommendations are in {out}"]])
    table = read_interactions(out)
    assert list(table.columns) == ["user_id", "item_id", "score"]
    assert list(table["user_id"]) == [user for user in known for _ in range(2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "recommend needs --checkpoint"),
        (["--checkpoint={file}", "--history=i1,new"], "knows no item 'new'"),
        (["--checkpoint={file}", "--history="], "knows no item ''"),
        (["--checkpoint={file}", "--data_path={data}", "--users="], "--users="),
        (["--checkpoint={file}", "--history=i1", "--users=u1"], "--users does not apply"),
        (["--checkpoint={file}", "--history=i1", "--data_path=x"], "--data_path does not apply"),
        (["--checkpoint={file}", "--data_path={data}", "--users=nobody"], "no user 'nobody'"),
        (["--checkpoint={file}", "--data_path=nowhere"], "nowhere"),
        (["--checkpoint={file}", "--history=i1", "--k=0"], "--k=0"),
        (["--checkpoint={file}", "--history=i1", "--filter_seen=yes"], "--filter_seen=yes must be True or False"),
        (["--checkpoint={file}", "--history=i1", "--out=no/folder/here"], "must be a file in a folder that there is"),
        (["--checkpoint={file}", "--history=i1", "--out=."], "--out=. must be a file"),
        (["--checkpoint=nothing.pth", "--history=i1"], "no checkpoint nothing.pth"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_mistakes_end_in_one_sentence(tiny, trained, capsys, arguments, message):
    file = trained("2Mamba4Rec")
    status, _, errors = command(capsys, *(a.format(file=file, data=tiny) for a in arguments))
    assert status == 2
    assert message in errors
    assert len(errors.splitlines()) == 1
