"""A checkpoint in use: names of items in, names of the best items out, the same as in an evaluation."""

import copy
import json
import os
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from atomic import WITHOUT_TEXTS, histories, make_config, make_loaders, read_interactions, small, write_dataset
from near import near
from torch.testing import assert_close

from recbole_ssm import InputError, Recommender, run
from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints.configuration import stored_config
from recbole_ssm.cli.main import main
from recbole_ssm.ops import use_backend
from recbole_ssm.serving.users import Naming, as_table


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


@pytest.mark.sampled(15)
@pytest.mark.parametrize(
    ("model", "keys"),
    [
        *((model, {}) for model in WITHOUT_TEXTS),
        ("2Mamba4Rec", {"repeat_bias": True, "item_bias": True}),
        ("2Mamba4Rec", {"repeat_bias": True, "transition_memory": True, "memory_items": 3}),
        ("SSD4Rec", {"transition_memory": True, "MAX_ITEM_LIST_LENGTH": 4}),
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
    assert known == histories(read_interactions(tiny / "tiny" / "tiny.inter"))


@pytest.mark.sampled(2)
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
    again = Recommender(trained(model, filter_seen=True), filter_seen=False).recommend([history], 100)[0]
    assert dict(again) == pytest.approx(dict(everything), abs=1e-6)  # a product of matrices depends on where they lie


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
    for ask in (recommender.session, lambda history: recommender.recommend([history])):
        with pytest.raises(InputError, match="list of names"):
            ask("i1")
    for ask in (recommender.session, lambda history: recommender.recommend([history])):
        for history in (1, None, {"i1", "i2"}, {"i1": 1}):
            with pytest.raises(InputError, match="list of names"):
                ask(history)
    for given in (None, "i1", 3):
        with pytest.raises(InputError, match="list of lists"):
            recommender.recommend(given)
    with pytest.raises(InputError, match="such as '7', and not floats"):
        recommender.recommend([[7.0]])
    with pytest.raises(InputError, match="filter_seen must be"):
        Recommender(trained("2Mamba4Rec"), filter_seen="False")
    for name in (1, np.int64(1), torch.tensor(1), None, ["i1"]):
        with pytest.raises(InputError, match="names of items are words"):
            recommender.recommend([["i1", name]], skip_unknown=True)
    for k in (0, -1, 2.5, "3", True, None):
        for ask in (recommender.recommend, lambda _, k: recommender.session(["i1"]).recommend(k)):
            with pytest.raises(InputError, match="k must be"):
                ask([], k)
    assert recommender.recommend([]) == []
    assert len(recommender.recommend([["i1"]], np.int64(3))[0]) == 3
    torch.nn.init.constant_(recommender.model.item_embedding.weight, torch.nan)
    with pytest.raises(InputError, match="are NaN"):
        recommender.recommend([["i1"]])


def test_histories_come_in_any_form_that_has_an_order(trained):
    recommender = Recommender(trained("2Mamba4Rec"))
    lists = [["i1", "i2"], ["i3", "i4"]]
    expected = recommender.recommend(lists, 2)
    for given in ((iter(each) for each in lists), np.array(lists), pd.Series(lists), tuple(map(tuple, lists))):
        assert recommender.recommend(given, 2) == expected
    assert [recommender.session(iter(each)).recommend(2)[0][0] for each in lists] == [best[0][0] for best in expected]
    found = recommender.recommend({7: lists[0], "b": lists[1], "c": ["nobody"]}, 2)
    assert found["user_id"].tolist() == ["7", "7", "b", "b"]
    assert found["item_id"].tolist() == [item for best in expected for item, _ in best]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_has_one_thread(trained):
    """With more it would wait for ever for threads that are not there."""
    Recommender(trained("2Mamba4Rec"))
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        if not (child := os.fork()):
            os._exit(torch.get_num_threads())
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1 and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_users_are_found_by_whole_numbers_of_any_type(trained):
    recommender = Recommender(trained("2Mamba4Rec"), histories={7: ["i1"], "b": ["i2"]})
    for users in ([7], ["7"], [7.0], np.array([7]), pd.Series([7.0])):
        assert recommender.recommend(users, 1)["user_id"].tolist() == ["7"]
    with pytest.raises(InputError, match="there is no user '8'"):
        recommender.recommend([8.0])
    with pytest.raises(InputError, match=r"not 7\.5"):
        recommender.recommend([7.5])
    with pytest.raises(InputError, match="names of users are words or whole numbers, and not None"):
        Recommender(trained("2Mamba4Rec"), histories={None: ["i1"]})


@pytest.mark.parametrize(
    ("users", "kind"),
    [
        (pd.Series([7, 8], dtype=object), np.int64),
        (pd.Series([7.0, None, 8.0]), np.float64),
        (pd.Series([7, 8], dtype="category"), np.int64),
        (pd.Series([7, 8], dtype="Int32"), pd.Int32Dtype()),
        (pd.Series(["7", 8]), object),
    ],
)
def test_a_table_of_answers_can_be_joined_to_the_table_of_clicks(users, kind):
    naming = Naming.of_frame(pd.DataFrame({"who": users, "what": "x"}), "who", "what")
    found = as_table(["7", "8"], [[("x", 1.0)], [("y", 0.5)]], naming)
    assert found["who"].dtype == kind and found["what"].tolist() == ["x", "y"]


def test_it_is_pickled_and_copied_with_its_sessions(trained):
    recommender = Recommender(trained("2Mamba4Rec"))
    recommender._take_training({"history": [], "best_valid_result": None, "test_result": None}, None)
    session = recommender.session(["i1", "i2"])
    expected = session.recommend(3)
    for again in (pickle.loads(pickle.dumps(session)), copy.deepcopy(session)):
        assert again.recommend(3) == expected and again._recommender._known.__self__ is again._recommender


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta", "privateuseone", None, 1.5])
def test_devices_that_are_not_there_are_refused(trained, device):
    with pytest.raises(InputError, match=r"device .* cannot be used"):
        Recommender(trained("2Mamba4Rec"), device)


def test_weights_of_another_version_are_refused(trained, tmp_path):
    state = checkpoint.read(trained("2Mamba4Rec"))
    del state["format"], state["format_version"]
    state["state_dict"]["layers.7.more"] = torch.zeros(1)
    checkpoint.write(tmp_path / "other.pth", state)
    with pytest.raises(InputError, match="weights that do not fit 2Mamba4Rec"):
        Recommender(tmp_path / "other.pth")
    del state["state_dict"]["layers.7.more"]
    state["config"]["headdim"] = 3
    checkpoint.write(tmp_path / "other.pth", state)
    with pytest.raises(InputError, match="weights that do not fit 2Mamba4Rec"):
        Recommender(tmp_path / "other.pth")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("model", ["2Mamba4Rec", "SSD4Rec"])
def test_a_branch_of_a_session_goes_its_own_way(trained, model):
    recommender = Recommender(trained(model, repeat_bias=True), filter_seen=True)
    session = recommender.session(["i1", "i2"])
    before = session.recommend()
    branch = copy.copy(session)
    branch.add(before[0][0])
    assert session.history == ["i1", "i2"]
    assert session.recommend() == before
    expected = recommender.recommend([["i1", "i2", before[0][0]]])[0]
    assert [name for name, _ in branch.recommend()] == [name for name, _ in expected]


@pytest.mark.parametrize("model", ["Mamba4Rec", "2Mamba4Rec"])
def test_a_session_in_half_precision(trained, model):
    recommender = Recommender(trained(model))
    recommender.model.bfloat16()
    session = recommender.session(["i1"])
    session.add("i2")
    found, expected = dict(session.recommend(40)), dict(recommender.recommend([["i1", "i2"]], 40)[0])
    assert all(abs(found[item] - expected[item]) < 0.05 for item in expected)


def test_many_histories_are_as_good_as_one(trained, monkeypatch):
    recommender = Recommender(trained("2Mamba4Rec", repeat_bias=True), filter_seen=True)
    some = [[f"i{(7 * number + place) % 40}" for place in range(1 + number % 5)] for number in range(12)]
    alone = [recommender.recommend([history])[0] for history in some]
    for limit, value in (("_SCORES", 4 * len(recommender.items)), ("_TOKENS", 6)):
        with monkeypatch.context() as patch:
            patch.setattr(f"recbole_ssm.serving.ranker.{limit}", value)
            together = recommender.recommend(some)
        assert [[name for name, _ in best] for best in together] == [[name for name, _ in best] for best in alone]


def test_what_the_model_does_not_read_is_left_out_too(trained):
    recommender = Recommender(trained("Mamba4Rec", MAX_ITEM_LIST_LENGTH=3), filter_seen=True)
    history = [f"i{number}" for number in range(8)]
    for best in (recommender.recommend([history], 100)[0], recommender.session(history).recommend(100)):
        assert {name for name, _ in best} == set(recommender.items[1:]) - set(history)


def test_the_process_is_as_before(tiny, trained, monkeypatch):
    file = trained("2Mamba4Rec")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    before = torch.get_rng_state()
    Recommender(file).histories(command_line=[f"--data_path={tiny}"])
    assert torch.equal(torch.get_rng_state(), before)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "3"


def test_users_of_another_dataset_however_rare(trained, tmp_path, capsys):
    rows = [("new", "i1", 1.0), ("new", "unheard", 2.0), ("old", "i2", 1.0), ("none", "unheard", 1.0)]
    write_dataset(tmp_path, pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"]), "today")
    file = trained("2Mamba4Rec", user_inter_num_interval="[2,inf)", item_inter_num_interval="[2,inf)")
    recommender = Recommender(file)
    assert recommender.histories("today", [f"--data_path={tmp_path}"]) == {
        "new": ["i1", "unheard"],
        "old": ["i2"],
        "none": ["unheard"],
    }
    given = (f"--checkpoint={file}", "--dataset=today", f"--data_path={tmp_path}", "--k=3")
    status, (_, *lines), errors = command(capsys, *given)
    assert status == 0
    assert [user for user, *_ in lines] == ["new"] * 3 + ["old"] * 3
    assert [name for _, name, _ in lines[:3]] == [name for name, _ in recommender.recommend([["i1"]], 3)[0]]
    assert "2 of 4 interactions are of items that the model does not know" in errors
    assert "1 of 3 users" in errors
    status, _, errors = command(capsys, *given, "--users=none")
    assert status == 2
    assert "knows none of the items" in errors


def test_names_that_need_quotation_marks_and_columns_of_other_names(tmp_path, capsys):
    names = ["tab\tin it", 'a "word"', "plain", "two words"]
    rows = [(f"user\t{user}", names[(user + place) % 4], place) for user in range(5) for place in range(4)]
    frame = pd.DataFrame(rows, columns=["reviewer:token", "asin:token", "timestamp:float"])
    (tmp_path / "odd").mkdir()
    frame.to_csv(tmp_path / "odd" / "odd.inter", sep="\t", index=False)
    fields = {"USER_ID_FIELD": "reviewer", "ITEM_ID_FIELD": "asin"}
    settings = {"data_path": str(tmp_path), "use_gpu": False, "show_progress": False, "epochs": 1, **fields}
    settings |= {"load_col": {"inter": ["reviewer", "asin", "timestamp"]}, **small("2Mamba4Rec"), "topk": [3]}
    file = run("2Mamba4Rec", "odd", config_dict=settings | {"valid_metric": "NDCG@3"})["checkpoint"]
    out = tmp_path / "best.inter"
    assert command(capsys, f"--checkpoint={file}", f"--data_path={tmp_path}", f"--out={out}", "--k=4")[0] == 0
    table = pd.read_csv(out, sep="\t")
    assert list(table.columns) == ["reviewer:token", "rank:float", "asin:token", "score:float"]
    assert set(table["reviewer:token"]) == {f"user\t{user}" for user in range(5)}
    assert set(table["asin:token"]) == set(names)


def test_links_are_followed_and_what_is_no_file_is_left_alone(trained, capsys, tmp_path):
    given = (f"--checkpoint={trained('2Mamba4Rec')}", "--history=i1")
    (tmp_path / "link.inter").symlink_to(tmp_path / "file.inter")
    assert command(capsys, *given, f"--out={tmp_path / 'link.inter'}")[0] == 0
    assert (tmp_path / "link.inter").is_symlink()
    assert (tmp_path / "file.inter").read_text().startswith("item_id:token")
    os.mkfifo(tmp_path / "pipe")
    status, _, errors = command(capsys, *given, f"--out={tmp_path / 'pipe'}")
    assert status == 2
    assert "must be a file" in errors
    assert not (tmp_path / "pipe").is_file()


def test_histories_of_files_that_are_split_are_refused(trained):
    with pytest.raises(InputError, match="no whole histories"):
        Recommender(trained("2Mamba4Rec")).histories(command_line=["--benchmark_filename=['train','valid','test']"])


@pytest.mark.slow
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
    assert list(table.columns) == ["user_id", "rank", "item_id", "score"]
    assert list(table["user_id"]) == [user for user in known for _ in range(2)]


@pytest.mark.sampled(6)
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("best.csv", lambda file: pd.read_csv(file, dtype={"user_id": str, "item_id": str})),
        ("best.csv.gz", lambda file: pd.read_csv(file, dtype={"user_id": str, "item_id": str})),
        ("best.JSON", lambda file: pd.DataFrame(json.loads(file.read_text()))),
        ("best.of.jsonl", lambda file: pd.read_json(file, lines=True, dtype=False)),
        ("best.parquet", pd.read_parquet),
        ("best.tsv", read_interactions),
    ],
)
def test_recommendations_are_written_as_the_name_says(tiny, trained, capsys, tmp_path, name, read):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    file = trained("2Mamba4Rec")
    for given, columns in (
        ([f"--data_path={tiny}", "--users=u3,u1"], ["user_id", "rank", "item_id", "score"]),
        (["--history=i1,i2"], ["item_id", "score"]),
    ):
        asked = [f"--checkpoint={file}", "--k=4", *given]
        _, (_, *rows), _ = command(capsys, *asked)
        assert command(capsys, *asked, f"--out={tmp_path / name}")[0] == 0
        found = read(tmp_path / name)
        assert list(found.columns) == columns
        assert list(found["item_id"]) == [row[-2] for row in rows]
        assert "rank" not in columns or list(found["rank"]) == [1, 2, 3, 4] * 2
        assert list(found["score"]) == pytest.approx([float(row[-1]) for row in rows], rel=1e-5)


def test_items_of_a_history_that_are_unknown_are_passed_over_on_request(trained, capsys):
    file = trained("2Mamba4Rec")
    expected = command(capsys, f"--checkpoint={file}", "--history=i1,i2")[1]
    for flag in ("--skip_unknown", "--skip_unknown=True"):
        status, rows, said = command(capsys, f"--checkpoint={file}", "--history=i1,new,i2,", flag)
        assert (status, rows) == (0, expected) and "2 of 4 interactions are of items" in said
    status, _, said = command(capsys, f"--checkpoint={file}", "--history=new", "--skip_unknown")
    assert status == 2 and "the model knows none of the items" in said


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "recommend needs --checkpoint"),
        (["--checkpoint={file}", "--history=i1", "--out=best"], "--out=best must end in one of .inter, .tsv, .csv"),
        (["--checkpoint={file}", "--history=i1", "--out=best.xlsx"], "must end in one of"),
        (["--checkpoint={file}", "--history=i1", "--out=best.parquet.gz"], "must end in one of"),
        (["--checkpoint={file}", "--history=i1,new", "--skip_unknown=yes"], "must be True or False"),
        (["--checkpoint={file}", "--data_path={data}", "--skip_unknown"], "--skip_unknown is for --history"),
        (["--checkpoint={file}", "--history=i1,new"], "knows no item 'new'"),
        (["--checkpoint={file}", "--history="], "--history names no item"),
        (["--checkpoint={file}", "--data_path={data}", "--users="], "--users="),
        (["--checkpoint={file}", "--history=i1", "--users=u1"], "--users does not apply"),
        (["--checkpoint={file}", "--history=i1", "--data_path=x"], "--data_path does not apply"),
        (["--checkpoint={file}", "--data_path={data}", "--users=nobody"], "no user 'nobody'"),
        (["--checkpoint={file}", "--data_path=nowhere"], "nowhere"),
        (["--checkpoint={file}", "--history=i1", "--k=0"], "--k=0"),
        (["--checkpoint={file}", "--history=i1", "--kk", "3"], "no use for '--kk=3'"),
        (["--checkpoint={file}", "--data_path={data}", "--use_gpu=True"], "no use for '--use_gpu=True'"),
        (["--checkpoint={file}", "--data_path={data}", "--MAX_ITEM_LIST_LENGTH=2"], "no use for"),
        (["--checkpoint={file}", "--history=i1", "--device=gpu"], "device 'gpu' cannot be used"),
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


@pytest.mark.slow
def test_it_computes_on_the_backend_of_the_training_or_on_the_one_that_is_asked_for(trained, monkeypatch, tmp_path):
    used = []

    def noted(name):
        used.append(name)
        return use_backend(name)

    monkeypatch.setattr("recbole_ssm.serving.ranker.use_backend", noted)
    file = trained("2Mamba4Rec", ssm_backend="torch")
    state = checkpoint.read(file)
    state["config"]["ssm_backend"] = "triton"  # which a CPU has not
    of_gpu = str(tmp_path / "of_gpu.pth")
    checkpoint.write(of_gpu, {key: value for key, value in state.items() if not key.startswith("format")})
    for given, asked, expected in ((file, None, "torch"), (file, "auto", "auto"), (of_gpu, None, "auto")):
        recommender = Recommender(given, ssm_backend=asked)
        used.clear()
        recommender.recommend([["i1"]])
        session = recommender.session(["i1"])
        session.add("i2")
        session.recommend()
        assert used == [expected] * 4
    with pytest.raises(InputError, match="ssm_backend: the backend is one of"):
        Recommender(file, ssm_backend="gpu")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("backend", ["triton", "of_another_package"])
def test_a_backend_of_the_training_that_is_not_here_is_replaced(trained, tmp_path, capsys, caplog, backend):
    file = trained("2Mamba4Rec", ssm_backend="torch")
    state = checkpoint.read(file)
    state["config"]["ssm_backend"] = state["given"]["ssm_backend"] = backend
    other = str(tmp_path / "other.pth")
    checkpoint.write(other, {key: value for key, value in state.items() if not key.startswith("format")})
    expected = Recommender(file, ssm_backend="auto").recommend([["i1"]])
    assert Recommender(other).recommend([["i1"]]) == near(expected)
    assert main(["recommend", f"--checkpoint={other}", "--k=1"]) == 0
    assert stored_config(state, None, [])["ssm_backend"] == "auto"
    assert f"ssm_backend {backend} of the training is not there: auto computes" in caplog.text
    assert stored_config(state, None, ["--ssm_backend=torch"])["ssm_backend"] == "torch"
