"""Models in half precision give what their rounded weights give in float32, to the rounding of their layers."""

import pytest
import torch
from model_cases import each_model, make, packed_batch, some_tokens
from packed_cases import alone, relative_error

from recbole_ssm.ops import use_backend

BOUND = {torch.bfloat16: 3e-2, torch.float16: 4e-3}

both_types = pytest.mark.parametrize("dtype", BOUND, ids=str)


def both(name, dtype):
    """A model in half precision, and one in float32 with the same weights."""
    half = make(name, torch.float32).to(dtype)
    exact = make(name, torch.float32)
    exact.load_state_dict(half.state_dict())
    return half, exact


@pytest.mark.sampled(14)
@each_model
@both_types
def test_scores_and_loss(name, dtype):
    half, exact = both(name, dtype)
    batch = packed_batch()
    for backend in ("auto", "torch"):
        with use_backend(backend):
            for function in ("forward", "full_sort_predict", "predict", "calculate_loss"):
                found, expected = (getattr(model, function)(batch) for model in (half, exact))
                assert found.dtype == dtype or function == "calculate_loss"
                assert relative_error(found, expected) < BOUND[dtype], (function, backend)


@pytest.mark.sampled(7)
@each_model
@both_types
def test_gradients(name, dtype):
    """Of all weights together, since those that cancel are nothing but rounding."""
    models = both(name, dtype)
    for model in models:
        model.calculate_loss(packed_batch()).backward()
    for (key, parameter), other in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert (parameter.grad is None) == (other.grad is None), key
    found, expected = (
        torch.cat([p.grad.float().flatten() for p in model.parameters() if p.grad is not None]) for model in models
    )
    assert (found - expected).norm() < 3 * BOUND[dtype] * expected.norm()


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["Mamba4Rec", "2Mamba4Rec", "LRURec", "2Mamba4Rec, biases"])
@both_types
@torch.no_grad()
def test_steps(name, dtype):
    half, exact = both(name, dtype)
    items, state = some_tokens(12), None
    for item in items:
        hidden, state = half.step(item[None], state)
    read = {"tokens": items, "cu_seqlens": alone(12)}
    assert relative_error(hidden, exact.encode(**read)[-1:]) < BOUND[dtype]
    begun, state = half.prefill(**read)
    assert relative_error(begun, exact.encode(**read)[-1:]) < BOUND[dtype]
    followed, _ = half.step(items[:1], state)
    longer = exact.encode(torch.cat([items, items[:1]]), alone(13))[-1:]
    assert relative_error(followed, longer) < BOUND[dtype]
    added = half.added(items, alone(12), torch.tensor([11]))
    assert half.score_all(hidden, added).dtype == dtype
