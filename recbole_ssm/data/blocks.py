"""Training batches that are packed many at once, on a GPU, and cut apart: to pack one is a dozen small kernels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from recbole.data.interaction import Interaction
from torch import Tensor

_TOKENS = 1 << 20
"""Tokens of a block, unless one batch has more."""


class Rows(NamedTuple):
    """The samples of a batch, before it is packed, and how much there is of it."""

    rows: Tensor
    """(S,) int64, numbers of rows."""
    cut: Tensor
    """(S,), see :func:`recbole_ssm.data.collate.cut_histories`; ones where nothing is cut."""
    n_tokens: int
    n_targets: int
    share: Tensor | None
    """See :data:`recbole_ssm.data.shares.SHARE`; None for a process that is alone."""
    seed: int
    """Of masks and negatives."""


def blocks(batches: Iterable[Rows]) -> Iterator[list[Rows]]:
    """Batches that follow one another, as many at a time as :data:`_TOKENS` allows."""
    block: list[Rows] = []
    for batch in batches:
        if block and sum(each.n_tokens for each in block) + batch.n_tokens > _TOKENS:
            yield block
            block = []
        block.append(batch)
    if block:
        yield block


def apart(
    packed: Interaction, block: Iterable[Rows], per_token: Collection[str], per_target: Collection[str]
) -> Iterator[Interaction]:
    """Cut a block apart.

    Args:
        packed: all samples of the block, packed as one batch.
        block: its batches.
        per_token: fields with a value for each token, or sequence numbers or places of tokens.
        per_target: fields with a value for each target.

    Yields:
        Each batch, as if it had been packed alone. What kernels read begins at aligned addresses.
    """
    sample = token = target = 0
    for batch in block:
        samples = slice(sample, sample + len(batch.rows))
        tokens, targets = slice(token, token + batch.n_tokens), slice(target, target + batch.n_targets)
        part = {name: values[samples] for name, values in packed.interaction.items()}
        part |= {name: packed[name][tokens].clone() for name in per_token}
        part |= {name: packed[name][targets].clone() for name in per_target}
        part["cu_seqlens"] = packed["cu_seqlens"][sample : samples.stop + 1] - token
        part["seq_idx"] = packed["seq_idx"][tokens] - sample
        if "readout" in packed:
            part["readout"] = packed["readout"][targets] - token
        found = Interaction(part)
        found.length = len(batch.rows)
        yield found
        sample, token, target = samples.stop, tokens.stop, targets.stop
