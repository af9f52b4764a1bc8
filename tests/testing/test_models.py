"""The contract of models: this package's models keep it, and it finds each kind of mistake."""

import pytest
import torch
from model_cases import MODELS
from torch import nn

from recbole_ssm.model.base import PackedSequentialRecommender
from recbole_ssm.model.catalogue import Catalogue
from recbole_ssm.model.declarations import Column
from recbole_ssm.ops import linear_recurrence
from recbole_ssm.ops.packing import at, cumulative_lengths, flip_index
from recbole_ssm.testing import check_model
from recbole_ssm.testing.models import CHECKS

SETTINGS = {"hidden_size": 8, "loss_type": "CE", "initializer_range": 0.02, "MAX_ITEM_LIST_LENGTH": None}


@pytest.mark.sampled(14)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_the_models_of_this_package_keep_the_contract(name, dtype):
    model, settings = MODELS[name]
    check_model(model, settings, dtype=dtype)


class Counted(Catalogue):
    """Random sequences for models that count them."""

    def whole_sequences(self):
        lengths = torch.randint(2, 20, (40,), generator=torch.Generator().manual_seed(0))
        tokens = torch.randint(1, self.item_num, (int(lengths.sum()),), generator=torch.Generator().manual_seed(1))
        return tokens, cumulative_lengths(lengths)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", ["2Mamba4Rec, biases", "SSD4Rec", "LRURec"])
@pytest.mark.parametrize("loss_type", ["CE", "BPR"])
def test_they_keep_it_with_a_memory_of_transitions(name, loss_type):
    model, settings = MODELS[name]
    more = {"loss_type": loss_type, "transition_memory": True, "memory_items": 4}
    check_model(model, settings | more, dataset=Counted(50), dtype=torch.float64)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["2Mamba4Rec, biases", "SSD4Rec"])
def test_they_keep_it_with_pairs_for_a_loss(name):
    model, settings = MODELS[name]
    check_model(model, settings | {"loss_type": "BPR"}, dtype=torch.float64)


class Average(PackedSequentialRecommender):
    """A model that keeps the contract: an exponential moving average with a step."""

    streams = True

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.decay = nn.Parameter(torch.full((self.hidden_size,), 0.5))
        self.apply(self._init_weights)

    def average(self, embedded, cu_seqlens):
        decay = torch.sigmoid(self.decay)
        kind = torch.complex128 if embedded.dtype == torch.float64 else torch.complex64
        return linear_recurrence(embedded.to(kind), decay.to(kind), cu_seqlens).real

    def encode(self, tokens, cu_seqlens, readout=None):
        return at(readout, self.average(self.item_embedding(tokens), cu_seqlens))

    def prefill(self, tokens, cu_seqlens):
        hidden = self.encode(tokens, cu_seqlens, cu_seqlens[1:].long() - 1)
        return hidden, [hidden]

    def step(self, items, state=None):
        hidden = self.item_embedding(items)
        if state is not None:
            hidden = hidden + torch.sigmoid(self.decay) * state[0]
        return hidden, [hidden]


def test_a_model_from_outside_keeps_it():
    check_model(Average, SETTINGS, dtype=torch.float64)
    check_model(Average, SETTINGS)


class ReadsHours(Average):
    """Reads a column beside the items."""

    columns = (Column("hour", source="TIME_FIELD", read=lambda times: (times // 3600 % 24).long()),)
    streams = False

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.hours = nn.Embedding(24, self.hidden_size)

    def encode(self, tokens, cu_seqlens, readout=None, *, hour):
        return at(readout, self.average(self.item_embedding(tokens) + self.hours(hour), cu_seqlens))

    def prefill(self, tokens, cu_seqlens, **columns):
        raise NotImplementedError

    step = prefill


@pytest.mark.slow
def test_a_model_with_a_column_of_its_own_keeps_it():
    check_model(ReadsHours, SETTINGS, dtype=torch.float64)
    check_model(ReadsHours, SETTINGS, column_values={"hour": [0.0, 3600.0, 86399.0]})


class ReadsAcrossBorders(Average):
    def average(self, embedded, cu_seqlens):
        return embedded.cumsum(0)


class ReadsTheFuture(Average):
    def average(self, embedded, cu_seqlens):
        flip = flip_index(cu_seqlens, len(embedded))
        return super().average(embedded[flip], cu_seqlens)[flip]


class CountsFromTheStartOfTheBatch(Average):
    def average(self, embedded, cu_seqlens):
        return super().average(embedded, cu_seqlens) * torch.arange(len(embedded))[:, None]


class KeepsTheLastBatch(Average):
    calls = 0

    def average(self, embedded, cu_seqlens):
        self.calls += 1
        return super().average(embedded, cu_seqlens) * (1 + 0.1 * self.calls)


class PassesOverTheReadout(Average):
    def encode(self, tokens, cu_seqlens, readout=None):
        hidden = self.average(self.item_embedding(tokens), cu_seqlens)
        return hidden if readout is None else hidden[readout.sort().values]


class KeepsNoState(Average):
    streams = False

    def prefill(self, tokens, cu_seqlens):
        raise NotImplementedError

    def step(self, items, state=None):
        raise NotImplementedError


class CannotStep(Average):
    streams = False


class ForgetsAWeight(KeepsNoState):
    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.register_buffer("factor", torch.rand(self.hidden_size), persistent=False)

    def average(self, embedded, cu_seqlens):
        return super().average(embedded, cu_seqlens) * self.factor


class StepsWithoutItsState(Average):
    def step(self, items, state=None):
        return super().step(items)


class PredictsWithoutTheHistory(Average):
    def predict(self, interaction):
        return self.item_embedding(interaction[self.ITEM_ID]).sum(1)


class LosesTheSquare(Average):
    def calculate_loss(self, interaction):
        return super().calculate_loss(interaction).square()


class TrainsTheLastTokenOnly(Average):
    def calculate_loss(self, interaction):
        targets = interaction[self.POS_ITEM_ID]
        if len(targets) > len(interaction["item_length"]):
            interaction.update({self.POS_ITEM_ID: targets[interaction["cu_seqlens"][1:].long() - 1]})
        return super().calculate_loss(interaction)


class ReadsThePadding(Average):
    def full_sort_predict(self, interaction):
        scores = super().full_sort_predict(interaction)
        return scores + (interaction[self.ITEM_SEQ].dim() == 2)


class HasNoFiniteGradient(Average):
    def average(self, embedded, cu_seqlens):
        return super().average(embedded, cu_seqlens) + (embedded - embedded).sqrt()


class LeaksBeforeTheEnd(Average):
    """The last token of each history is as it should be, so that no score tells."""

    def average(self, embedded, cu_seqlens):
        leak = torch.ones(len(embedded), 1)
        leak[cu_seqlens[1:].long() - 1] = 0
        return super().average(embedded, cu_seqlens) + leak * embedded[0]


class Reversed(torch.autograd.Function):
    """The identity, with a gradient of the wrong sign."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return -gradient


class HasAWrongGradient(Average):
    def encode(self, tokens, cu_seqlens, readout=None):
        return Reversed.apply(super().encode(tokens, cu_seqlens, readout))

    def full_sort_predict(self, interaction):
        return self.score_all(self.forward(interaction))


class KnowsNoReadout(Average):
    def encode(self, tokens, cu_seqlens, readout=None):
        return super().encode(tokens, cu_seqlens)


class TakesAnyItem(Average):
    def check_histories(self, tokens, cu_seqlens):
        pass

    def encode(self, tokens, cu_seqlens, readout=None):
        return super().encode(tokens % self.n_items, cu_seqlens, readout)


MISTAKES = {
    KeepsTheLastBatch: "evaluation is deterministic",
    ReadsAcrossBorders: "a packed batch gives what each history gives alone",
    CountsFromTheStartOfTheBatch: "a packed batch gives what each history gives alone",
    ReadsThePadding: "a padded batch gives what a packed one gives",
    ReadsTheFuture: "outputs read only what they may",
    PassesOverTheReadout: "a readout gives the same tokens of the whole output",
    PredictsWithoutTheHistory: "a padded batch gives|candidates get their scores of the full ranking",
    LosesTheSquare: "the loss is what loss type says",
    HasNoFiniteGradient: "not finite",
    LeaksBeforeTheEnd: "no history reads another",
    HasAWrongGradient: "a small step against the gradient lowers the loss",
    TrainsTheLastTokenOnly: "every token can be trained to predict",
    StepsWithoutItsState: "steps give what the whole history gives: step 1",
    CannotStep: "streams is False, but step does not refuse",
    ForgetsAWeight: "weights come back from a file",
    KnowsNoReadout: "encode must return a row for each token of readout",
    TakesAnyItem: "items outside the catalogue are refused: item -1",
}


@pytest.mark.sampled(4)
@pytest.mark.parametrize("model", MISTAKES, ids=lambda model: model.__name__)
def test_a_mistake_is_found(model):
    with pytest.raises(AssertionError, match=f"^{model.__name__}: .*({MISTAKES[model]})"):
        check_model(model, SETTINGS, dtype=torch.float64)


def test_each_check_finds_something():
    found = " ".join(MISTAKES.values())
    assert [check.__name__ for check in CHECKS if check.__name__.replace("_", " ") not in found] == []
