"""What all models of this package share: packed input, tied prediction, loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from recbole.data.interaction import Interaction
from recbole.model.loss import BPRLoss
from torch import Tensor, nn

from recbole_ssm.layers.stepping import Step
from recbole_ssm.model.content import CONTENT_KEYS, make_content
from recbole_ssm.model.declarations import Configuration, Key
from recbole_ssm.model.memory import MEMORY_KEYS, make_memory
from recbole_ssm.model.packed_input import LeftOut, PackedRecommender
from recbole_ssm.ops import linear_cross_entropy
from recbole_ssm.ops.added import Added, AddedWhere
from recbole_ssm.ops.once import once_a_batch
from recbole_ssm.ops.packing import items_read, last_tokens
from recbole_ssm.ops.values import remember_total

_REPEAT_RATE = 10.0
"""The parameter ``repeat_bias`` is multiplied by this: Adam moves all parameters at the same rate, and this one has the
longest way to go."""


class PackedSequentialRecommender(PackedRecommender):
    """A sequential recommender over a packed stream of interactions.

    A subclass builds its layers in ``__init__``, ends it with ``self.apply(self._init_weights)``, and gives
    :meth:`encode`. A batch is an :class:`Interaction` with ``item_id_list`` (T,) and ``cu_seqlens`` (S + 1,), or one
    of RecBole's with a padded ``item_id_list`` (S, L) and ``item_length`` (S,), which is packed on entry.

    The score of an item is its embedding times the representation. The configuration can add a number of each item
    (``item_bias``), and one number for all items that the history holds (``repeat_bias``): how likely people are to
    come back to what they had. Both are learned, and 0 at first.
    """

    causal = True
    """Whether the output at a token depends on nothing after it, so that every token can be trained to predict.

    :meth:`encode` of a model that is not may take ``cut`` (S,), how many of each sequence's first tokens are read in
    both directions: those after them then depend on nothing that comes later. ``train_samples: prefix_lm`` needs that.
    """

    of_items: tuple[str, ...] = ("item_embedding.weight", "item_bias")
    """The weights that have a row for each item: a training that begins with those of other data matches the rows."""

    teachers: Any = None
    """:class:`recbole_ssm.training.distillation.Teachers`, whose predictions are part of the targets; None for none."""

    keys: tuple[Key, ...] = (
        Key("hidden_size", int, "width of embeddings and layers", 64, low=1),
        Key("loss_type", str, "full softmax cross-entropy, or BPR with sampled negatives", "CE", choices=("CE", "BPR")),
        Key("initializer_range", float, "standard deviation of the initial weights", 0.02, low=0),
        Key("item_bias", bool, "learn a number for each item that is added to its score", False),
        Key("repeat_bias", bool, "learn one number that is added to the scores of all items of the history", False),
        *MEMORY_KEYS,
        *CONTENT_KEYS,
    )
    """The keys of the configuration that it reads. A subclass with more of them repeats these:
    ``keys = (*PackedSequentialRecommender.keys, Key(...))``."""

    def __init__(self, config: Configuration, dataset: Any, *, padding_idx: int | None = 0):
        super().__init__(config, dataset)
        self.hidden_size = config["hidden_size"]
        self.loss_type = config["loss_type"]
        self.initializer_range = config["initializer_range"]
        self.item_embedding = nn.Embedding(self.n_items, self.hidden_size, padding_idx=padding_idx)
        self.item_bias = nn.Parameter(torch.zeros(self.n_items)) if config["item_bias"] else None
        self.repeat_bias = nn.Parameter(torch.zeros(1)) if config["repeat_bias"] else None
        self.memory = make_memory(config, dataset, self.n_items) if config["transition_memory"] else None
        self.content = make_content(config, dataset, self.n_items)
        self.bpr_loss = BPRLoss()

    def _init_weights(self, module: nn.Module) -> None:
        """RecBole's initialisation, but for the biases that set a mixer's step sizes."""
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=self.initializer_range)
        if isinstance(module, nn.Linear) and module.bias is not None and not getattr(module.bias, "_no_reinit", False):
            nn.init.zeros_(module.bias)

    def encode(
        self, tokens: Tensor, cu_seqlens: Tensor, readout: Tensor | None = None, **columns_and_cut: Tensor
    ) -> Tensor:
        """Representation of each token.

        Args:
            tokens: (T,) item ids.
            cu_seqlens: (S + 1,) borders of the sequences.
            readout: (R,) int64, the tokens that are wanted, so that the last layer need not finish the others; None
                for all.
            **columns_and_cut: (T,) each of :attr:`columns`, by its name; and ``cut``, see :attr:`causal`.

        Returns:
            (T, hidden_size), or (R, hidden_size); the last token of a sequence stands for the whole of it.
        """
        raise NotImplementedError

    @once_a_batch()
    def forward(self, interaction: Interaction) -> Tensor:
        """Representation (S, hidden_size) of each history."""
        return self.represent(interaction)[0]

    @once_a_batch()
    def calculate_loss(self, interaction: Interaction) -> Tensor:
        """Mean loss over the targets ``item_id``: of each history, of each token, or of each of ``readout`` (R,).

        The last where histories have a ``cut``, see :class:`recbole_ssm.data.dataloader.PackedTrainDataLoader`.
        """
        target = interaction[self.POS_ITEM_ID]
        tokens, cu_seqlens = self.packed(interaction)
        if not self.causal and "readout" in interaction:
            readout, cut = interaction["readout"], interaction["cut"]  # the last token before a cut, and all after it
            options = {"cut": remember_total(cut, len(tokens) + len(cut) - len(readout))}
        else:
            readout, options = last_tokens(cu_seqlens) if len(target) == len(cu_seqlens) - 1 else None, {}
        columns = self.columns_of(interaction)
        hidden = self.encode(tokens, cu_seqlens, readout, **columns, **options)
        counted = target if self.training else None
        added = self.added(tokens, cu_seqlens, readout, counted)
        if self.loss_type == "CE":
            teacher = None
            if self.teachers is not None:
                teacher = self.teachers.predict(tokens, cu_seqlens, readout, columns=columns, target=counted, **options)
            return linear_cross_entropy(
                hidden, self.item_table(), target, bias=self._bias_in_training(), added=added, teacher=teacher
            )
        negative = interaction[self.NEG_ITEM_ID].view(-1, len(target))  # (K, R): K negatives of each target
        rows = torch.arange(len(target), device=target.device)
        return self.bpr_loss(
            self.score_items(hidden, target, added, rows), self.score_items(hidden, negative, added, rows)
        )

    def _bias_in_training(self) -> Tensor | None:
        """What is added to the score of each item (n_items,): its bias; items that nobody has had are left out."""
        if self.content is None:
            return self.item_bias
        return self.content.untrained if self.item_bias is None else self.item_bias + self.content.untrained

    def added(
        self, tokens: Tensor, cu_seqlens: Tensor, readout: Tensor | None = None, target: Tensor | None = None
    ) -> tuple[Added, ...]:
        """Numbers that are added to the scores of some items, beside the bias of each.

        Args:
            tokens: (T,) item ids.
            cu_seqlens: (S + 1,) borders of the sequences.
            readout: (R,) the tokens after which items are scored; None for all.
            target: (R,) in training the items that come after these tokens, so that ``transition_memory`` leaves out
                what it knows from these sequences.

        Returns:
            What ``repeat_bias`` adds to the items of the history, and what ``transition_memory`` adds.
        """
        found: tuple[Added, ...] = ()
        if self.repeat_bias is not None:
            seen = items_read(tokens, cu_seqlens, readout)._replace(below=self.n_items)
            found = (Added(seen, (_REPEAT_RATE * self.repeat_bias).expand(len(seen.start), 1)),)
        return found if self.memory is None else found + self.memory(tokens, cu_seqlens, readout, target)

    def update(self, tokens: Tensor, cu_seqlens: Tensor, new: Tensor) -> None:
        """See :meth:`PackedRecommender.update`; ``transition_memory`` counts the transitions to the new items."""
        if self.memory is None:
            super().update(tokens, cu_seqlens, new)
        else:
            self.memory.update(tokens, cu_seqlens, new)

    def item_vectors(self) -> Tensor | None:
        """The embedding of each item, (n_items, hidden_size)."""
        return self.item_table().detach()

    def item_table(self) -> Tensor:
        """The embedding of each item (n_items, hidden_size), with what is known of it beside its id."""
        weight = self.item_embedding.weight
        return weight if self.content is None else self.content.table(weight)

    def embed_items(self, items: Tensor) -> Tensor:
        """The rows of :meth:`item_table` of items (...), (..., hidden_size)."""
        found = self.item_embedding(items)
        return found if self.content is None else self.content.of(items, found)

    def transitions(self, before: Tensor, after: Tensor) -> Tensor | None:
        """See :meth:`PackedRecommender.transitions`; those of ``transition_memory``."""
        return None if self.memory is None else self.memory.count(before, after)

    @property
    def n_recent(self) -> int:
        """How many latest items :meth:`added_after` reads."""
        return 0 if self.memory is None else self.memory.n_recent

    def added_after(self, seen: Tensor, latest: Tensor) -> tuple[Added | AddedWhere, ...]:
        """As :meth:`added`, after R histories of which only this is kept.

        Args:
            seen: (R, n_items) bool, the items of each.
            latest: (R, n_recent) int64, the latest items of each, the newest first; 0 where there are fewer.

        Returns:
            What is added to their scores.
        """
        found: tuple[Added | AddedWhere, ...] = ()
        if self.repeat_bias is not None:
            found = (AddedWhere(seen, (_REPEAT_RATE * self.repeat_bias).expand(seen.shape[0], 1)),)
        return found if self.memory is None else (*found, self.memory.after(latest))

    def score_items(self, hidden: Tensor, items: Tensor, added: Sequence[Added | AddedWhere], rows: Tensor) -> Tensor:
        """Scores of some items.

        Args:
            hidden: (R, hidden_size) representations of histories.
            items: (..., R) ids.
            added: what is added after histories, see :meth:`added` and :meth:`added_after`.
            rows: (R,) int64, the row of ``added`` that belongs to each row of ``hidden``.

        Returns:
            (..., R).
        """
        score = (hidden * self.embed_items(items)).sum(-1)
        if self.item_bias is not None:
            score = score + self.item_bias[items]
        for each in added:
            score = score + each.at(rows, items)
        return score

    @once_a_batch()
    def predict(self, interaction: Interaction) -> Tensor:
        """Scores (R,) of the candidates ``item_id`` (R,).

        Candidate r belongs to history ``candidate_seq_idx[r]`` where the batch has that field, else to history r.
        """
        hidden, added = self.represent(interaction)
        items, rows = self.candidates(interaction, len(hidden))
        return self.score_items(hidden[rows], items, added, rows)

    @once_a_batch()
    def full_sort_predict(self, interaction: Interaction) -> Tensor:
        """Scores (S, n_items) of every item after each history."""
        return self.score_all(*self.represent(interaction))

    def score_all(self, hidden: Tensor, added: Sequence[Added | AddedWhere] | None = None) -> Tensor:
        """Scores (R, n_items) of every item.

        Args:
            hidden: (R, hidden_size) representations of histories, by :meth:`forward` or :meth:`step`.
            added: what is added after these histories, see :meth:`added` and :meth:`added_after`; a model with
                ``repeat_bias`` or ``transition_memory`` needs it.

        Returns:
            The scores; column i is item i.

        Raises:
            ValueError: ``added`` is needed and not given.
        """
        if added is None and (self.repeat_bias is not None or self.memory is not None):
            raise ValueError(
                "the model has a repeat_bias or a transition_memory, for which score_all needs what is added after the "
                "histories"
            )
        scores = torch.matmul(hidden, self.item_table().T)
        if self.item_bias is not None:
            scores += self.item_bias
        for each in added or ():
            each.add_to(scores)
        return scores

    def rank_after(
        self,
        hidden: Tensor,
        state: Callable[[], Any],
        added: Sequence[Added | AddedWhere],
        k: int,
        left_out: LeftOut,
    ) -> Tensor:
        """Scores (R, n_items) of all items after kept states, of which the k best must be right.

        Args:
            hidden: (R, hidden_size) representations of histories, by :meth:`prefill` or :meth:`step`.
            state: gives the state after them, for a model whose scores take more than a representation.
            added: what is added after these histories, see :meth:`added_after`.
            k: how many items are wanted.
            left_out: gives rows (n,) and items (n,) that are not recommended; their scores are not used.

        Returns:
            The scores.
        """
        return self.score_all(hidden, added)

    def prefill(self, tokens: Tensor, cu_seqlens: Tensor, **columns: Tensor) -> tuple[Tensor, list[Any]]:
        """What :meth:`step` would come to after whole histories, read at once.

        Args:
            tokens: (T,) item ids.
            cu_seqlens: (S + 1,) borders of the histories.
            **columns: (T,) each of :attr:`columns`.

        Returns:
            (S, hidden_size) representations, for :meth:`score_all`, and the state after these histories.
        """
        raise NotImplementedError(self._no_state)

    def step(self, items: Tensor, state: list[Any] | None = None, **columns: Tensor) -> tuple[Tensor, list[Any]]:
        """The representation of R histories that get one item more, in a time that does not depend on their length.

        In evaluation mode it equals what :meth:`forward` gives for the longer histories.

        Args:
            items: (R,) ids of the items that come next.
            state: after the items before; None for the start of a history.
            **columns: (R,) each of :attr:`columns`.

        Returns:
            (R, hidden_size), for :meth:`score_all`, and the state after these items.

        Raises:
            ValueError: no item has one of the ids.
        """
        raise NotImplementedError(self._no_state)

    def stepper(self) -> Step:
        """:meth:`step` in evaluation mode with the weights and the backend as they are now, quicker in many calls."""
        return self.step

    @property
    def _no_state(self) -> str:
        return f"{type(self).__name__} reads a history as a whole, and keeps no state of it"

    def represent(self, interaction: Interaction) -> tuple[Tensor, tuple[Added, ...]]:
        """Representation (S, hidden_size) of each history, and what is added to scores after it, see :meth:`added`."""
        tokens, cu_seqlens = self.packed(interaction)
        readout = last_tokens(cu_seqlens)
        hidden = self.encode(tokens, cu_seqlens, readout, **self.columns_of(interaction))
        if len(hidden) != len(readout):
            raise ValueError(
                f"{type(self).__name__}.encode must return a row for each token of readout, {len(readout)} here, and "
                f"returned {len(hidden)}"
            )
        return hidden, self.added(tokens, cu_seqlens, readout)
