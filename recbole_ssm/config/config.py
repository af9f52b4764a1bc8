"""RecBole's configuration, with this package's models, keys and defaults."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from recbole_ssm.config.checks import check
from recbole_ssm.config.from_data import Group, Statistics, settings_from
from recbole_ssm.config.keys import keys_of
from recbole_ssm.config.model_checks import check_together
from recbole_ssm.config.settings import Settings

_OF_RECBOLE = {"epochs", "stopping_step", "learner", "learning_rate", "weight_decay"}
"""Keys of RecBole that may follow from the data."""


class Config(Settings):
    """A RecBole ``Config``: same keys, same files, same priorities (command line > dict > files > defaults).

    What differs: the models of this package are known by name; the command line is what the caller passes, not
    ``sys.argv``; values and keys are checked; ``loss_type: CE`` needs no ``train_neg_sample_args: ~`` beside it;
    a sequential model loads the time column of a dataset that RecBole does not know; of ``eval_args`` a part can be
    given alone.

    Args:
        model: a name, or a model class.
        dataset: a name.
        config_file_list: yaml files; one that does not exist is looked for in the package's ``properties/``. Or what
            stands in one, as a dict.
        config_dict: keys and values. A word that is a number, list or dict in Python is that, as in ``command_line``.
        command_line: arguments ``--key=value``.
        trains: whether a training is to follow; what decides only that is not checked otherwise.

    Raises:
        InputError: something in them cannot be used.
    """

    def __init__(
        self,
        model: str | type[Any] | None = None,
        dataset: str | None = None,
        config_file_list: Sequence[str | Path | dict[str, Any]] | None = None,
        config_dict: dict[str, Any] | None = None,
        command_line: Iterable[str] = (),
        *,
        trains: bool = True,
    ):
        self.trains = trains
        super().__init__(model, dataset, config_file_list, config_dict, command_line)
        check(self)

    def settle(self, data: Statistics, begun: Mapping[str, Any] | None = None) -> None:
        """Replace defaults by settings that follow from the data, for a model of packed histories that is trained.

        What is given stays as it is, and so does everything with ``defaults: paper``.

        Args:
            data: its size.
            begun: settings of the checkpoint that the training begins with. They come before those from the data, and
                hold with ``defaults: paper``, too.

        Raises:
            InputError: something that is given does not fit these settings.
        """
        kept = self.external_config_dict.keys() | self.above_the_data | self._assigned()
        self.from_data = []
        if begun is not None:
            self._take("as in init_from", {key: value for key, value in begun.items() if key not in kept})
            kept |= begun.keys()
        names = {key.name for key in self.model_class.keys} if self["defaults"] == "data" else set()
        if "hidden_size" in names:  # of models with other sizes nobody knows what fits
            names |= {key.name for key in keys_of(self.model_class)} | _OF_RECBOLE
            names -= self.model_class.without_effect(self)
            for why, settings in settings_from(data, self, kept, self.model_class.width(self)):
                self._take(why, {key: value for key, value in settings.items() if key in names - kept})
        if self.from_data:
            check_together(self)

    def _take(self, why: str, settings: dict[str, Any]) -> None:
        """Replace defaults, for a reason."""
        self.internal_config_dict |= settings
        self.final_config_dict |= settings
        self.from_data += [Group(why, settings)] if settings else []

    def _assigned(self) -> set[str]:
        """Keys that somebody has set after the configuration was made."""
        final, internal = self.final_config_dict, self.internal_config_dict
        return {key for key in final if key not in internal or final[key] != internal[key]}
