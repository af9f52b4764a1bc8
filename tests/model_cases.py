"""The models as the tests build them, and batches for them."""

from copy import copy
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from packed_cases import alone, borders, randn, randomise, slices
from recbole.data.interaction import Interaction

from recbole_ssm.config.config import Config
from recbole_ssm.model.catalogue import Catalogue
from recbole_ssm.ops.packing import sequence_index

N_ITEMS = 50
LENGTHS = (5, 1, 24, 3)
SMALL = {"hidden_size": 16, "d_state": 4, "num_layers": 2}
HEADS = {"headdim": 8}
BIASES = {"item_bias": True, "repeat_bias": True}

MODELS = {
    "Mamba4Rec": ("Mamba4Rec", SMALL),
    "Mamba4Rec, 1 layer": ("Mamba4Rec", SMALL | {"num_layers": 1}),
    "2Mamba4Rec": ("2Mamba4Rec", SMALL | HEADS),
    "SSD4Rec": ("SSD4Rec", SMALL | HEADS | {"beta": 0.5}),
    "SSD4Rec, aligned": ("SSD4Rec", SMALL | HEADS | {"beta": 0.5, "align_backward": True}),
    "SSD4Rec, raw embedding": ("SSD4Rec", SMALL | HEADS | {"norm_embedding": False}),
    "Hydra4Rec": ("Hydra4Rec", SMALL | HEADS),
    "LRURec": ("LRURec", {"hidden_size": 16, "num_layers": 2, "item_bias": False}),
    "PackedSASRec": ("PackedSASRec", {"hidden_size": 16, "num_layers": 2, "max_positions": 20}),
    "2Mamba4Rec, biases": ("2Mamba4Rec", SMALL | HEADS | BIASES),
    "2Mamba4Rec, memory": ("2Mamba4Rec", SMALL | HEADS | {"transition_memory": True, "memory_dropout": 0.0}),
    "SSD4Rec, biases": ("SSD4Rec", SMALL | HEADS | BIASES),
}
CAUSAL = ["Mamba4Rec", "Mamba4Rec, 1 layer", "2Mamba4Rec", "LRURec", "PackedSASRec"]
BIDIRECTIONAL = ["SSD4Rec", "SSD4Rec, aligned", "SSD4Rec, raw embedding", "Hydra4Rec"]

each_model = pytest.mark.parametrize("name", MODELS)


@cache
def default_config(model):
    """The configuration of a model on ml-100k."""
    return Config(model, "ml-100k", config_dict={"use_gpu": False})


def config_of(model, **keys):
    """The configuration of a model, with other values of some keys."""
    config = copy(default_config(model))
    config.final_config_dict = config.final_config_dict | keys
    return config


def build(model, n_items=N_ITEMS, **keys):
    """A model as it comes."""
    config = config_of(model, **keys)
    return config.model_class(config, Catalogue(n_items))


def make(name, dtype=torch.float64, **keys):
    """A small model in which everything matters, in evaluation mode."""
    model, sizes = MODELS[name]
    torch.manual_seed(0)
    return randomise(build(model, **{**sizes, **keys})).to(dtype).eval()


def some_tokens(n_tokens, seed=0):
    return torch.randint(1, N_ITEMS, (n_tokens,), generator=torch.Generator().manual_seed(seed))


def packed_batch(lengths=LENGTHS, **columns):
    """A batch as this package's loaders make it."""
    batch = {
        "item_id_list": some_tokens(sum(lengths)),
        "item_length": torch.tensor(lengths),
        "cu_seqlens": borders(lengths),
        "seq_idx": sequence_index(borders(lengths), sum(lengths)),
        "item_id": some_tokens(len(lengths), seed=1),
    }
    return Interaction(batch | columns)


def padded_batch(lengths=LENGTHS, width=40, **columns):
    """The same batch as RecBole's loaders make it."""
    tokens = some_tokens(sum(lengths))
    rows = [F.pad(tokens[part], (0, width - length)) for part, length in zip(slices(lengths), lengths, strict=True)]
    batch = {
        "item_id_list": torch.stack(rows),
        "item_length": torch.tensor(lengths),
        "item_id": some_tokens(len(lengths), seed=1),
    }
    return Interaction(batch | columns)


def evaluate(model, tokens, cu_seqlens):
    """Representation of each token, and the gradient of each token's embedding for a fixed random gradient of it."""
    looked_up = []
    hook = model.item_embedding.register_forward_hook(lambda module, ids, embedded: looked_up.append(embedded))
    hidden = model.encode(tokens, cu_seqlens)
    hook.remove()
    (gradient,) = torch.autograd.grad(hidden, looked_up, randn(*hidden.shape, seed=1).to(hidden.dtype))
    return {"hidden": hidden.detach(), "gradient": gradient}


def influence(model, length, **options):
    """(length, length): whether the output at i has a gradient at the embedding of j, of one sequence."""
    looked_up = []
    hook = model.item_embedding.register_forward_hook(lambda module, ids, embedded: looked_up.append(embedded))
    hidden = model.encode(some_tokens(length), alone(length), **options)
    hook.remove()
    rows = [torch.autograd.grad(output.sum(), looked_up, retain_graph=True)[0].any(1) for output in hidden.unbind()]
    return torch.stack(rows)
