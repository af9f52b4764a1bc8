"""Parameters and wiring around the ops. Layers take packed tokens (T, d) and their ``cu_seqlens``."""

from recbole_ssm.layers.attention import CausalSelfAttention
from recbole_ssm.layers.dropout import Dropout
from recbole_ssm.layers.feed_forward import FeedForward
from recbole_ssm.layers.hydra import Hydra
from recbole_ssm.layers.item_content import ItemContent
from recbole_ssm.layers.lru import LRU
from recbole_ssm.layers.mamba import Mamba
from recbole_ssm.layers.mamba2 import Mamba2
from recbole_ssm.layers.time_gaps import TimeGaps
from recbole_ssm.layers.transition_memory import TransitionMemory

__all__ = [
    "LRU",
    "CausalSelfAttention",
    "Dropout",
    "FeedForward",
    "Hydra",
    "ItemContent",
    "Mamba",
    "Mamba2",
    "TimeGaps",
    "TransitionMemory",
]
