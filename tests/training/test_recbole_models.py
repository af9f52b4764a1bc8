"""Every model of RecBole runs, or names what it needs. Takes minutes: only with RECBOLE_SSM_ALL_MODELS=1."""

import os

import numpy as np
import pytest
from atomic import interactions, write_dataset

import recbole_ssm
from recbole_ssm.errors import InputError
from recbole_ssm.model.recbole_models import recbole_models

pytestmark = pytest.mark.skipif(
    not os.environ.get("RECBOLE_SSM_ALL_MODELS"), reason="takes minutes; RECBOLE_SSM_ALL_MODELS=1 runs it"
)
ITEMS = 140  # of which GRU4RecCPR and SASRecCPR look at 100


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Interactions with labels, features of users and items, and a knowledge graph with embeddings of its entities."""
    folder = tmp_path_factory.mktemp("world")
    frame = interactions(n_users=40, n_items=ITEMS, shortest=9, longest=16).drop_duplicates(["user_id", "item_id"])
    frame["rating"] = np.random.default_rng(0).integers(1, 6, len(frame)).astype(float)
    file = write_dataset(folder, frame)
    rng = np.random.default_rng(1)
    tables = {
        "user": ["user_id:token\tage:token", *(f"u{user}\t{user % 5}" for user in range(40))],
        "item": [
            "item_id:token\tclass:token_seq",
            *(f"i{item}\t{'a' if item % 3 else 'b'} c" for item in range(ITEMS)),
        ],
        "link": ["item_id:token\tentity_id:token", *(f"i{item}\te{item}" for item in range(ITEMS))],
        "kg": [
            "head_id:token\trelation_id:token\ttail_id:token",
            *(f"e{item}\tr{item % 3}\te{other}" for item in range(ITEMS) for other in rng.integers(0, ITEMS, 3)),
        ],
        "ent": [
            "ent_id:token\tent_emb:float_seq",
            *(f"e{item}\t{' '.join(f'{value:.3f}' for value in rng.normal(size=8))}" for item in range(ITEMS)),
        ],
        "rel": [
            "rel_id:token\trel_emb:float_seq",
            *(f"r{relation}\t{' '.join(f'{value:.3f}' for value in rng.normal(size=8))}" for relation in range(3)),
        ],
    }
    for suffix, lines in tables.items():
        file.with_suffix(f".{suffix}").write_text("\n".join(lines) + "\n")
    return folder


COLUMNS = {
    "inter": ["user_id", "item_id", "rating", "timestamp"],
    "user": ["user_id", "age"],
    "item": ["item_id", "class"],
}
GRAPH = {"kg": ["head_id", "relation_id", "tail_id"], "link": ["item_id", "entity_id"]}
OF_ENTITIES = {
    "load_col": {**COLUMNS, **GRAPH, "ent": ["ent_id", "ent_emb"], "rel": ["rel_id", "rel_emb"]},
    "additional_feat_suffix": ["ent", "rel"],
    "alias_of_entity_id": ["ent_id"],
    "alias_of_relation_id": ["rel_id"],
    "preload_weight": {"ent_id": "ent_emb", "rel_id": "rel_emb"},
    "kg_embedding_size": 8,
}
SMALL = {
    **{
        "epochs": 1,
        "train_batch_size": 64,
        "eval_batch_size": 2000,
        "embedding_size": 8,
        "hidden_size": 8,
        "worker": 0,
    },
    **{"use_gpu": False, "show_progress": False, "MAX_ITEM_LIST_LENGTH": 10, "threshold": {"rating": 3}},
    **{"pretrain_epochs": 1, "save_step": 1},  # of S3Rec and RaCT
}


@pytest.mark.parametrize("model", recbole_models())
def test_a_model_of_recbole_runs_or_names_what_it_needs(world, model):
    keys = SMALL | {"data_path": str(world), "load_col": COLUMNS | GRAPH}
    if model == "ConvNCF":
        del keys["embedding_size"]  # its layers are of one size
    if model in ("KSR", "GRU4RecKG"):
        keys |= OF_ENTITIES
    try:
        result = recbole_ssm.run(model, "tiny", config_dict=keys)
    except InputError as error:
        assert "pip install" in str(error)
        print(f"{model}: {error}")
        return
    assert all(np.isfinite(value) for value in result["test_result"].values())
