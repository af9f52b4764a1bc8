"""Loaders of packed batches."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.interaction import Interaction
from recbole.utils import InputType
from torch import Tensor
from torch.utils.data import DataLoader

from recbole_ssm.config import Config
from recbole_ssm.data.blocks import Rows, apart, blocks
from recbole_ssm.data.collate import cut_histories, draw_cuts, mask_items
from recbole_ssm.data.dataset import PackedDataset
from recbole_ssm.data.recbole_loaders import SampledRowPerSample
from recbole_ssm.data.recbole_types import EvalBatch, EvalLoader
from recbole_ssm.data.shares import SHARE, own_rows
from recbole_ssm.data.training_samples import PlannedBatch, TrainingBatches
from recbole_ssm.data.transfer import KeptBatches, on_device, size, spare_bytes
from recbole_ssm.ops.packing import share_out
from recbole_ssm.system.distributed import rank, world_size
from recbole_ssm.system.rng import numpy_seed


class PackedTrainDataLoader(DataLoader[Any]):
    """Packed training batches, by ``train_samples``, ``train_batch_size`` and ``train_batch_tokens``.

    A batch of S sequences has the targets ``item_id``, (S,), or (T,) with ``whole_sequence``. With ``prefix_lm`` it has
    ``cut``, (S,), the number of a history's first items that are read in both directions; ``readout``, (R,), the tokens
    from the last of these on; and their targets ``item_id``, (R,). For a pairwise loss it has ``neg_item_id``,
    (K * targets,), K negatives of each target, by RecBole's sampler.

    On a GPU batches are packed there, many at once (:mod:`recbole_ssm.data.blocks`): all histories stay on it, and the
    samples go there in one copy. How many tokens and targets there are is counted before, so that the host never waits
    for the GPU. What is drawn for ``mask_ratio`` comes from the GPU's own generator, and differs from a CPU's.

    Args:
        config: the configuration.
        dataset: the training split.
        sampler: RecBole's sampler of negative items, or None.
        shuffle: whether the order changes from epoch to epoch.
    """

    def __init__(self, config: Config, dataset: PackedDataset, sampler: Any, shuffle: bool = True):
        self.config = config
        self.shuffle = shuffle
        self._dataset = dataset
        self._sampler = sampler
        self._list_field = config.ITEM_ID_FIELD + config.LIST_SUFFIX
        assert config.train_samples is not None
        self._cuts = config.train_samples == "prefix_lm"
        self._whole_sequences = self._cuts or config.train_samples == "whole_sequence"
        self._mask_ratio = config.mask_ratio
        self._n_negatives = 0
        if config.MODEL_INPUT_TYPE == InputType.PAIRWISE and sampler is not None:
            self._n_negatives = config.train_neg_sample_args["sample_num"]
        self._batches = TrainingBatches(
            dataset,
            train_samples=config.train_samples,
            prefixes_per_user=config.prefixes_per_user,
            batch_size=config.train_batch_size if config.train_batch_tokens is None else None,
            batch_tokens=config.train_batch_tokens,
            shuffle=shuffle,
            seed=config.seed,
            causal_epochs=config.causal_epochs or 0,
        )
        self._device: torch.device = config.device
        self._there = self._dataset_there()
        super().__init__(
            dataset,
            batch_sampler=self._batches,
            collate_fn=self._collate,  # type: ignore[arg-type]  # a batch of the sampler is a PlannedBatch, and no list
            num_workers=config.worker,
        )

    def _dataset_there(self) -> PackedDataset | None:
        """The dataset with its histories on the GPU; None where batches are packed on the CPU.

        RecBole's sampler of negative items needs the targets on the CPU.
        """
        histories = self._dataset.history, *self._dataset.history_columns.values()
        if self._device.type != "cuda" or self._n_negatives or size(*histories) > spare_bytes(self._device):
            return None
        return self._dataset.with_history_on(self._device)

    def total(self, epochs: int) -> int:
        """The number of batches in so many epochs, see :meth:`TrainingBatches.total`."""
        return self._batches.total(epochs)

    def __iter__(self) -> Any:
        """The batches of the epoch that comes next, on the device."""
        if self._there is not None:
            return self._packed_there(self._there)
        collated = super().__iter__()
        return (on_device(batch, self._device) for batch in collated)

    def _packed_there(self, there: PackedDataset) -> Iterator[Interaction]:
        """As :meth:`_collate` gives them, but for masks."""
        target, fields = there.iid_field, [self._list_field, *there.history_columns]
        per_token = [*fields, target] if self._whole_sequences and not self._cuts else fields
        per_target = [] if target in per_token else [target]
        for block in blocks(self._rows(planned) for planned in self._batches.planned()):
            samples = self._samples(torch.cat([each.rows for each in block]), torch.cat([each.cut for each in block]))
            n_tokens, n_targets = sum(each.n_tokens for each in block), sum(each.n_targets for each in block)
            packed = self._packed(there, on_device(samples, self._device), n_tokens, n_targets)
            for batch, each in zip(apart(packed, block, per_token, per_target), block, strict=True):
                if self._mask_ratio:
                    generator = torch.Generator(self._device).manual_seed(each.seed)
                    batch[self._list_field] = mask_items(batch[self._list_field], self._mask_ratio, generator)
                if each.share is not None:
                    batch[SHARE] = each.share
                yield batch
        self._batches.set_epoch(self._batches.epoch + 1)

    def _collate(self, planned: PlannedBatch) -> Interaction:
        generator = torch.Generator().manual_seed(planned.seed)
        own = self._rows(planned, generator)
        batch = self._packed(self._dataset, self._samples(own.rows, own.cut), own.n_tokens, own.n_targets)
        if own.share is not None:
            batch[SHARE] = own.share
        if self._n_negatives:
            positives = batch[self._dataset.iid_field].numpy()
            with numpy_seed(planned.seed & 0xFFFF_FFFF):  # else all workers would draw the same
                negatives = self._sampler.sample_by_user_ids(positives, positives, self._n_negatives)
            batch[self.config.NEG_PREFIX + self._dataset.iid_field] = negatives
        if self._mask_ratio:
            batch[self._list_field] = mask_items(batch[self._list_field], self._mask_ratio, generator)
        return batch

    def _rows(self, planned: PlannedBatch, generator: torch.Generator | None = None) -> Rows:
        """What this process computes of a batch; cuts are drawn from the generator, or one with the batch's seed."""
        rows, share = planned.rows, None
        lengths = self._dataset.inter_feat[self._dataset.item_list_length_field][rows]
        cut = torch.ones_like(lengths)
        if self._cuts and not planned.one_way:
            cut = draw_cuts(lengths, generator or torch.Generator().manual_seed(planned.seed))
        targets = lengths - cut + 1 if self._whole_sequences else torch.ones_like(lengths)
        if world_size() > 1:
            mine, share = own_rows(share_out(lengths, world_size()), targets, rank(), world_size())
            rows, cut, lengths, targets = rows[mine], cut[mine], lengths[mine], targets[mine]
        return Rows(rows, cut, int(lengths.sum()), int(targets.sum()), share, planned.seed)

    def _samples(self, rows: Tensor, cut: Tensor) -> Interaction:
        """Samples without their histories, with ``cut`` where histories are cut."""
        batch = self._dataset.samples(rows)
        if self._cuts:
            batch["cut"] = cut
        return batch

    def _packed(self, dataset: PackedDataset, batch: Interaction, n_tokens: int, n_targets: int) -> Interaction:
        """Samples with their histories and targets, on the device that has both samples and histories."""
        dataset.with_histories(batch, dataset.iid_field if self._whole_sequences else None, n_tokens)
        if self._cuts:
            cut_histories(batch, batch["cut"], dataset.iid_field, n_targets)
        return batch


class PackedFullSortEvalDataLoader(FullSortEvalDataLoader):
    """RecBole's full ranking, in batches of ``eval_batch_size`` histories, or of fewer for a large catalogue.

    RecBole ranks a batch with several matrices of the size histories x items. Here they have :data:`LARGEST` numbers at
    most, or a single row.
    """

    _kept: KeptBatches | None = None
    LARGEST = 1 << 25

    def _init_batch_size_and_step(self) -> None:
        self.step = min(self.config.eval_batch_size, max(self.LARGEST // self._dataset.item_num, 1))
        self.set_batch_size(self.step)

    def __iter__(self) -> Any:
        """The batches; on a GPU they are there, and kept there for the next time."""
        batches = super().__iter__
        device = self.config.device
        if device.type != "cuda":
            return batches()
        if self._kept is None:
            self._kept = KeptBatches(device, spare_bytes(device))
        return self._kept.of(batches)


class PackedNegSampleEvalDataLoader(SampledRowPerSample):
    """RecBole's sampled evaluation, with each history packed once, and not once for each of its candidates.

    A batch of S histories and R candidates has the packed fields of the histories, ``item_id`` (R,) and
    ``candidate_seq_idx`` (R,), the number of each candidate's history.
    """

    def __init__(self, config: Config, dataset: PackedDataset, sampler: Any, shuffle: bool = False):
        super().__init__(config, dataset.packing(False), sampler, shuffle)

    def collate_fn(self, index: Any) -> EvalBatch:
        """As in RecBole: the batch, each candidate's row in the batch, and the rows and items of the positives."""
        candidates, row, positive_u, positive_i = super().collate_fn(index)
        ranges, candidate_seq_idx = torch.unique(
            torch.stack([candidates["history_start"], candidates["history_end"]]), dim=1, return_inverse=True
        )
        batch = Interaction({"history_start": ranges[0], "history_end": ranges[1]})
        self._dataset.with_histories(batch)
        for field in (self.iid_field, self.label_field):
            batch[field] = candidates[field]
        batch["candidate_seq_idx"] = candidate_seq_idx
        # RecBole's trainer divides a batch that is too long, and would divide this one within a history.
        batch.length = 1
        return batch, row, positive_u, positive_i


def full_ranking(config: Config, loader: EvalLoader) -> FullSortEvalDataLoader:
    """A loader that ranks all items, for the samples of an evaluation loader of any mode."""
    dataset = loader._dataset
    if isinstance(loader, FullSortEvalDataLoader):
        return loader
    if isinstance(dataset, PackedDataset):
        return PackedFullSortEvalDataLoader(config, dataset.packing(True), None)
    return FullSortEvalDataLoader(config, dataset, SimpleNamespace(used_ids=np.array([set()] * dataset.user_num)))
