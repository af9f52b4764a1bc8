"""Metrics of a trained model for each test sample, and the time that it takes to recommend."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter
from typing import Any

import numpy as np
import torch
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import DataStruct
from recbole.utils import ModelType
from torch import Tensor

from recbole_ssm.config.config import Config
from recbole_ssm.data.dataloader import full_ranking
from recbole_ssm.data.eval_users import evaluated_rows
from recbole_ssm.ops.packing import last_tokens
from recbole_ssm.studies.compare.beyond import novelty, training_popularity

METRICS = {"hit": "HR", "ndcg": "NDCG", "mrr": "MRR"}
"""Names of the compared metrics in RecBole, and in papers."""

AT = 10


class SampleEvaluator(Evaluator):
    """RecBole's evaluator, which also keeps the metrics at 10 of each row that it has evaluated.

    Args:
        config: the configuration of the trainer that it is for.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.samples: dict[str, np.ndarray] = {}
        self.recommended: np.ndarray = np.zeros((0, AT), dtype=np.int64)
        self.popularity: np.ndarray = np.zeros(0, dtype=np.int64)
        self.means: dict[str, float] = {}
        for metric in self.metric_class.values():
            metric.decimal_place = 15  # which rounds no more than the last digits

    def evaluate(self, dataobject: DataStruct) -> dict[str, float]:
        """Compute the metrics as RecBole does, and fill ``samples``: an array (rows,) in float64 for each metric.

        ``means`` gets all metrics, not rounded, and ``recommended`` the items (rows, 10), if a metric needs them.
        """
        for name in METRICS:
            metric = self.metric_class[name]
            positives, lengths = metric.used_info(dataobject)
            values = metric.metric_info(positives, lengths) if name == "ndcg" else metric.metric_info(positives)
            self.samples[name] = values[:, AT - 1].astype(np.float64)
        if "rec.items" in dataobject:
            self.recommended = dataobject.get("rec.items")[:, :AT].numpy()
        self.means = super().evaluate(dataobject)
        return self.means


@torch.no_grad()
def by_sample(trainer: Any, train: Any, loader: Any) -> dict[str, np.ndarray]:
    """The metrics at 10 of each test sample, as RecBole computes them before it takes the mean.

    Args:
        trainer: RecBole's, with the trained model.
        train: loader of training data.
        loader: of test data.

    Returns:
        Arrays (N,). ``hit``, ``ndcg`` and ``mrr`` in float64. ``user`` and ``item``: the names of user and target; the
        item is empty where a user has several. For a sequential model also ``length`` of the history, as the model may
        read it, and ``popularity``: how often the item is a training target.
    """
    evaluator = trainer.evaluator = SampleEvaluator(trainer.config)
    if "data.count_items" in trainer.eval_collector.data_struct:
        evaluator.popularity = training_popularity(train._dataset)
        counts = {item: int(evaluator.popularity[item]) for item in np.flatnonzero(evaluator.popularity).tolist()}
        trainer.eval_collector.data_struct.set("data.count_items", counts)
    trainer.evaluate(loader, load_best_model=False)
    found = evaluator.samples
    dataset = loader._dataset
    users, items = (dataset.inter_feat[field].numpy() for field in (dataset.uid_field, dataset.iid_field))
    names, rows = dataset.id2token(dataset.iid_field, items), evaluated_rows(loader).numpy()
    if len(items) != loader.sample_size:  # a row for each user, of all targets
        users, first, count = np.unique(users, return_index=True, return_counts=True)
        names = np.where(count == 1, names[first], "")
    elif train.config.MODEL_TYPE == ModelType.SEQUENTIAL:
        found["length"] = dataset.inter_feat[dataset.item_list_length_field].numpy()[rows]
        targets = train._dataset.inter_feat[dataset.iid_field].numpy()
        found["popularity"] = np.bincount(targets, minlength=dataset.item_num)[items[rows]]
    found["item"] = names[rows]
    found["user"] = dataset.id2token(dataset.uid_field, users[rows])
    return found


def beyond_accuracy(trainer: Any, names: Sequence[str]) -> dict[str, float]:
    """Metrics beyond accuracy of the evaluation that :func:`by_sample` has made.

    Args:
        trainer: as :func:`by_sample` left it; its configuration has the metrics of
            :func:`recbole_ssm.studies.compare.beyond.to_evaluate`.
        names: of the metrics.

    Returns:
        The value of each by its name in small letters.
    """
    evaluator: SampleEvaluator = trainer.evaluator
    of_recbole = {name: float(evaluator.means[f"{name}@{AT}"]) for name in map(str.lower, names) if name != "novelty"}
    if len(of_recbole) == len(names):
        return of_recbole
    return of_recbole | {"novelty": novelty(evaluator.recommended, evaluator.popularity)}


@torch.no_grad()
def latency(trainer: Any, loader: Any, users: int, seconds: float = 2.0, most: int = 200) -> dict[str, Any]:
    """Measure how long the ten best of all items take: batch, model, scores, ranking.

    Histories are read anew each time; nothing is kept between them.

    Args:
        trainer: RecBole's, with the trained model.
        loader: of test data; all items are ranked, also where it has candidates.
        users: how many histories at a time; as many as there are if there are fewer.
        seconds: how long it is tried, if not ``most`` times; five times at least, but once where that takes a minute.
        most: tries.

    Returns:
        ``users`` at a time, ``tries``, ``median_ms`` and ``p99_ms``, and ``mean_history`` of those tried.
    """
    loader = full_ranking(trainer.config, loader)
    trainer.model.eval()
    trainer.tot_item_num = loader._dataset.item_num
    trainer.item_tensor = loader._dataset.get_item_feature().to(trainer.device)
    all_rows = evaluated_rows(loader).numpy()
    size = min(users, len(all_rows))
    draw = np.random.default_rng(0)
    took: list[float] = []
    lengths: list[float] = []
    while len(took) < 2 or (len(took) < 6 and sum(took) < 60) or (sum(took) < seconds and len(took) <= most):
        rows = draw.choice(all_rows, size, replace=False)
        start = perf_counter()
        batch = loader.collate_fn(rows)
        torch.topk(trainer._full_sort_batch_eval(batch)[1], AT, dim=-1).indices.cpu()
        took.append(perf_counter() - start)
        if "item_length" in batch[0]:
            lengths.append(batch[0]["item_length"].double().mean().item())
    return {"users": size, **_spread(took), "mean_history": float(np.mean(lengths)) if lengths else None}


@torch.no_grad()
def step_latency(trainer: Any, loader: Any, seconds: float = 1.0, most: int = 200) -> dict[str, Any] | None:
    """Measure how long the ten best take after one click more, from the state before it.

    Args:
        trainer: RecBole's, with the trained model.
        loader: of test data.
        seconds: how long it is tried, if not ``most`` times; five times at least.
        most: tries.

    Returns:
        ``tries``, ``median_ms`` and ``p99_ms``; None for a model that keeps no state.
    """
    model = trainer.model
    if not getattr(model, "streams", False):
        return None
    loader = full_ranking(trainer.config, loader)
    model.eval()
    draw = np.random.default_rng(0)
    took: list[float] = []
    while len(took) < 6 or (sum(took) < seconds and len(took) <= most):
        history = loader.collate_fn(draw.choice(loader.sample_size, 1))[0].to(trainer.device)
        tokens, cu_seqlens = model.packed(history)
        added = model.added(tokens, cu_seqlens, last_tokens(cu_seqlens))  # whoever keeps states has it too
        columns = model.columns_of(history)
        _, state = model.step(tokens[:1], **{name: values[:1] for name, values in columns.items()})
        last = {name: values[-1:] for name, values in columns.items()}
        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
        start = perf_counter()
        hidden, state = model.step(tokens[-1:], state, **last)
        _best_after(model, hidden, state, added).cpu()
        took.append(perf_counter() - start)
    return _spread(took)


def _best_after(model: Any, hidden: Tensor, state: Any, added: Any) -> Tensor:
    """The ten best items after kept states, (R, 10)."""
    nothing = torch.zeros(0, dtype=torch.int64, device=hidden.device)
    scores = model.rank_after(hidden, lambda: state, added, AT, lambda: (nothing, nothing))
    return torch.topk(scores, AT, dim=-1).indices


def _spread(seconds: list[float]) -> dict[str, Any]:
    """Median and 99th percentile of all tries but the first, which warms up."""
    took = [1000 * each for each in seconds[1:]]
    return {"tries": len(took), "median_ms": float(np.median(took)), "p99_ms": float(np.quantile(took, 0.99))}
