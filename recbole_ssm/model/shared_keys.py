"""Keys that several models declare."""

from __future__ import annotations

from recbole_ssm.errors import InputError
from recbole_ssm.model.declarations import Configuration, Key

NUM_LAYERS = Key("num_layers", int, "number of layers", 1, low=1)
DROPOUT_PROB = Key("dropout_prob", float, "dropout probability", 0.2, low=0, high=1)
D_STATE = Key("d_state", int, "state size of the recurrence", 32, low=1)
D_CONV = Key("d_conv", int, "width of the convolution in front of the recurrence", 4, low=1)
EXPAND = Key("expand", int, "inner width of a mixer, as a multiple of hidden_size", 2, low=1)
HEADDIM = Key("headdim", int, "width of a head; must divide expand * hidden_size", 16, low=1)


def check_heads(config: Configuration) -> None:
    """Raise InputError unless ``headdim`` divides the inner width."""
    inner = config["expand"] * config["hidden_size"]
    if inner % config["headdim"]:
        raise InputError(f"headdim {config['headdim']} does not divide expand * hidden_size = {inner}")
