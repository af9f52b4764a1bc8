"""A params file is understood as RecBole understands it, runs nothing, and a wrong line is named."""

from math import exp, log

import pytest

from recbole_ssm.config.config import Config
from recbole_ssm.config.shipped_files import properties_folder
from recbole_ssm.errors import InputError
from recbole_ssm.studies.tuning import read_space
from recbole_ssm.studies.tuning.space import draw

LINES = """learning_rate loguniform -8,-4
dropout_prob uniform 0, 0.5

d_state quniform 16,64,16
headdim choice [4, 8]
train_samples choice ['whole_sequence','all_prefixes']
weight_decay quniform 0,0.1,0.05
"""


@pytest.fixture
def params_file(tmp_path):
    def write(text: str):
        (tmp_path / "my.hyper").write_text(text)
        return tmp_path / "my.hyper"

    return write


def test_lines_are_read(params_file):
    space = {parameter.name: parameter for parameter in read_space(params_file(LINES))}
    assert list(space) == ["learning_rate", "dropout_prob", "d_state", "headdim", "train_samples", "weight_decay"]
    assert space["learning_rate"].telling == (exp(-8), exp(-4))
    assert space["dropout_prob"].telling == (0.0, 0.5)
    assert space["train_samples"].telling == ("whole_sequence", "all_prefixes")
    assert space["d_state"].telling == (16, 32, 48, 64)
    assert all(isinstance(value, int) for value in space["d_state"].telling)
    assert space["weight_decay"].telling == pytest.approx((0.0, 0.05, 0.1))
    assert all(isinstance(value, float) for value in space["weight_decay"].telling)
    assert read_space(params_file("mlp_hidden_size choice [(64,32),[32]]"))[0].values == ([64, 32], [32])


def test_draws_are_different_and_begin_alike(params_file):
    space = read_space(params_file(LINES))
    few, many = draw(space, 5, seed=3), draw(space, 30, seed=3)
    assert many[:5] == few and len(many) == 30
    assert draw(space, 5, seed=4) != few
    for params in many:
        assert exp(-8) <= params["learning_rate"] <= exp(-4) and 0 <= params["dropout_prob"] <= 0.5
        assert params["d_state"] in (16, 32, 48, 64) and params["headdim"] in (4, 8)
    assert {params["d_state"] for params in many} == {16, 32, 48, 64}
    all_four = draw(read_space(params_file("headdim choice [4,8]\nd_state choice [8,16]")), 20, seed=0)
    assert sorted(tuple(params.values()) for params in all_four) == [(4, 8), (4, 16), (8, 8), (8, 16)]


@pytest.mark.slow
def test_recbole_reads_the_same(params_file):
    """Both sides: the same names, and what its space draws lies within ours."""
    pytest.importorskip("hyperopt", reason="pip install -e '.[tune]' brings hyperopt")
    from hyperopt.pyll.stochastic import sample
    from numpy.random import default_rng
    from recbole.trainer import HyperTuning

    file = params_file(LINES)
    theirs = HyperTuning(None, params_file=str(file), algo="random").space
    ours = {parameter.name: parameter for parameter in read_space(file)}
    assert list(theirs) == list(ours)
    random = default_rng(0)
    for _ in range(50):
        for name, value in sample(theirs, random).items():
            if ours[name].kind == "choice":
                assert ours[name].plain(value) in ours[name].values
            else:
                assert min(ours[name].telling) <= ours[name].plain(value) <= max(ours[name].telling)
    assert log(ours["learning_rate"].telling[0]) == pytest.approx(-8)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names no parameter"),
        ("learning_rate", "line 1: 'learning_rate' is not a name, a kind and values"),
        ("d_state choice [8]\nlearning_rate loguniform", "line 2: "),
        ("d_state among [8,16]", "line 1: 'among' is not one of choice, uniform, loguniform, quniform"),
        ("d_state choice []", "is no list of values"),
        ("d_state choice [8", "is no list of values"),
        ("d_state choice __import__('os').getpid()", "is no list of values"),
        ("dropout_prob uniform 0.5", "uniform takes 2 numbers"),
        ("dropout_prob uniform 0,a", "uniform takes 2 numbers"),
        ("dropout_prob uniform 0,inf", "uniform takes 2 numbers"),
        ("dropout_prob uniform 0.5,0.1", "nothing between"),
        ("d_state quniform 8,64", "quniform takes 3 numbers"),
        ("d_state quniform 8,64,0", "nothing between"),
        ("learning_rate loguniform -8,1000", "out of reach"),
        ("learning_rate loguniform -800,-4", "out of reach"),
        ("d_state quniform 10,100,40", "must be multiples of the step"),
        ("dropout_prob quniform 0,0.5,0.0001", "1000 at most"),
        ("d_state choice [{8,16}]", "that no key of the configuration takes"),
        ("d_state choice [8]\nd_state choice [16]", "line 2: d_state has a line before"),
    ],
)
def test_a_wrong_line_is_named(params_file, text, says):
    with pytest.raises(InputError, match=says.replace("(", r"\(")):
        read_space(params_file(text))


def test_a_file_in_another_encoding(tmp_path):
    (tmp_path / "latin.hyper").write_bytes("# für später\n".encode("latin-1"))
    with pytest.raises(InputError, match="cannot be read as UTF-8"):
        read_space(tmp_path / "latin.hyper")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match=r"there is no params file none\.hyper; the package has tuning/2Mamba4Rec"):
        read_space("none.hyper")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("model", ["SSD4Rec", "Mamba4Rec", "2Mamba4Rec", "Hydra4Rec"])
def test_every_value_of_the_spaces_of_the_package_can_be_used(model):
    space = read_space(f"tuning/{model}.hyper")
    assert len(space) > 5 and (properties_folder() / "tuning" / f"{model}.hyper").is_file()
    for parameter in space:
        for value in parameter.telling:
            Config(model, "ml-100k", config_dict={parameter.name: value})
