"""A step of a model as one graph gives what the model gives."""

import pytest
import torch
from torch.testing import assert_close

from recbole_ssm import Recommender
from recbole_ssm.serving.traced import _CALLS_BEFORE, TracedStep
from recbole_ssm.testing.checkpoints import made_checkpoint

SMALL = {"hidden_size": 8, "headdim": 4, "d_state": 4, "num_layers": 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "keys"), [("2Mamba4Rec", {"time_gaps": True}), ("Mamba4Rec", {}), ("LRURec", {})], ids=str
)
def test_a_session_goes_on_when_its_step_is_traced(tmp_path, model, keys, caplog):
    recommender = Recommender(made_checkpoint(tmp_path / "model.pth", 20, model, **SMALL, **keys))
    session = recommender.session()
    times = [978300000.0 + 1000.0 * number for number in range(_CALLS_BEFORE + 6)]
    for number, time in enumerate(times):
        session.add(f"i{1 + number % 20}", {name: time for name in recommender.columns})
        if number > _CALLS_BEFORE:
            columns = {name: [times[: number + 1]] for name in recommender.columns}
            expected = dict(recommender.recommend([session.history], 20, columns=columns)[0])
            assert dict(session.recommend(20)) == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert isinstance(recommender._stepper()._step._graph, torch.jit.ScriptModule)
    assert not caplog.text


def test_a_step_that_depends_on_the_number_of_sessions_is_not_traced(caplog):
    class Odd(torch.nn.Module):
        def step(self, items, state):
            return items * float(len(items)), state + items

    step, state = TracedStep(Odd(), torch.zeros(1)), torch.zeros(1)
    for _ in range(_CALLS_BEFORE + 2):
        _, state = step(torch.ones(1), state)
    assert_close(step(torch.ones(4), torch.zeros(4))[0], torch.full((4,), 4.0))
    assert "are not traced" in caplog.text
