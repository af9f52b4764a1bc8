"""A trained model in use: item names of a history go in, recommended item names come out."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from logging import getLogger
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from recbole_ssm.checkpoints import format as checkpoint
from recbole_ssm.checkpoints import reading
from recbole_ssm.checkpoints.adapters import with_folder
from recbole_ssm.errors import InputError
from recbole_ssm.ops.packing import cumulative_lengths
from recbole_ssm.serving.choice import Choice, Items
from recbole_ssm.serving.held_out import metrics_of_last
from recbole_ssm.serving.names import read_history, read_list
from recbole_ssm.serving.nearness import Part, nearest, parts
from recbole_ssm.serving.ranker import Ranked, Ranker
from recbole_ssm.serving.session import Session, read_count
from recbole_ssm.serving.user_histories import UserHistories, read_histories, read_user_histories
from recbole_ssm.serving.users import Histories, Naming, Users, as_table, is_user, unknown_in_words, user_name, users_of
from recbole_ssm.system.terminal import printable
from recbole_ssm.training.evaluation import evaluate_states

Rule = Items | Sequence[Items | None]
"""Names of items for all histories, or for each history such a list, or None."""

_NOT_KEPT = {"format", "format_version", "state_dict", "other_parameter", "optimizer", "training"}
"""Of a checkpoint: what the model has, and what only a training needs."""


class Recommender(Ranker):
    """The model of a checkpoint, with the names of its items. It needs no other file.

    Args:
        file: checkpoint of a model of this package.
        device: where the model computes, in torch's notation.
        filter_seen: whether items of the history are left out; None for what the training had.
        ssm_backend: which code computes the model's ops; None for what the training had, or ``auto`` where that cannot
            be used.
        cuda_graph: whether on a GPU the steps of sessions are recorded and launched as one; False to launch each of
            their kernels.
        histories: of the users that :meth:`recommend` is to know by name: a DataFrame of clicks, or lists of items by
            user. A checkpoint has none.
        language_model: the folder in which the language model lies whose adapters (LoRA) are in the checkpoint; None
            for where it lay in the training.

    Attributes:
        model: the model, in evaluation mode.
        name: the model's, as ``--model`` takes it.
        items: name of each item by its number; number 0 is the padding.
        names: the same, to look up numbers.
        columns: names of the columns that the model reads beside the items, as in the data that it was trained on.
        file: the checkpoint.
        history: what each epoch of the training came to, up to the one that was kept.
        metrics: what the training reached: ``valid`` and ``test``, each a dict of metrics, or None where that is not
            known. A checkpoint knows no test.

    Raises:
        CheckpointError: the file cannot be read, or holds another model; or the language model of its adapters is not
            there.
        InputError: there is no such device or backend, or ``filter_seen`` or ``histories`` is something else.
    """

    def __init__(
        self,
        file: str | Path,
        device: torch.device | str = "cpu",
        *,
        filter_seen: bool | None = None,
        ssm_backend: str | None = None,
        cuda_graph: bool = True,
        histories: Histories | None = None,
        language_model: str | Path | None = None,
    ):
        state = checkpoint.read(file)
        if language_model is not None:
            (state,) = with_folder([state], language_model)
        super().__init__(state, file, device, filter_seen=filter_seen, ssm_backend=ssm_backend, cuda_graph=cuda_graph)
        self.file = Path(file)
        self.history: list[dict[str, Any]] = state["history"]
        reached = self.history[-1].get("valid_result") if self.history else None
        self.metrics: dict[str, dict[str, float] | None] = {"valid": reached, "test": None}
        self._stored = {key: value for key, value in state.items() if key not in _NOT_KEPT}
        self._naming = Naming(str(self.model.USER_ID), str(self.model.ITEM_ID))
        self._reading: dict[str, Any] = state.get(reading.KEY, {})
        self._known: Users | Callable[[], Users] | None = None
        if histories is not None:
            self._known = self._users(histories)

    def __repr__(self) -> str:
        config, found = self._stored["config"], self.metrics["test"] or self.metrics["valid"] or {}
        metric = str(config.get("valid_metric")).lower()
        reached = (
            f", {'test' if self.metrics['test'] else 'valid'} {metric} {found[metric]:.4f}" if metric in found else ""
        )
        return printable(f"Recommender({self.name} on {config['dataset']}: {len(self.items) - 1:,} items{reached})")

    def recommend(
        self,
        histories: Any,
        k: int = 10,
        *,
        candidates: Rule | None = None,
        exclude: Rule | None = None,
        filter_seen: bool | None = None,
        skip_unknown: bool = False,
        columns: Mapping[str, Sequence[Sequence[float]]] | None = None,
    ) -> Ranked | pd.DataFrame:
        """The items with the highest scores after each history.

        Args:
            histories: the item names of each history, the latest last. Or a DataFrame of clicks, with columns as in the
                training or with usual names: its users, each after these clicks. Or a dict with such a list for each
                user. Or names of users, after all that is known of them: users of the data that
                :func:`recbole_ssm.fit` had, or of ``histories`` of this class.
            k: how many items are wanted.
            candidates: names of the items that alone may be recommended; or for each history such a list, or None for
                all items. In place of names numbers, an int64 tensor (n,).
            exclude: names of items that may not be recommended, in the same ways.
            filter_seen: whether items of the history are left out; None for what the recommender has.
            skip_unknown: pass over items that the model does not know. A history without any other gets no items.
                Those of users are passed over anyway, and a warning counts them.
            columns: for each of :attr:`columns`, its values in each history: one for each item. Those of users are
                known.

        Returns:
            For each history the names and scores of the best ``k`` items, the best first; fewer if no more are left.
            For users a DataFrame with a row for each recommendation, and columns user, item, ``score`` and ``rank``;
            the first two have names and types of the DataFrame that users came in.

        Raises:
            InputError: a history is empty, an item or user is unknown, ``k`` is not a whole number above 0, or
                something else does not fit.
        """
        choose = partial(self.choice, candidates, exclude, skip_unknown=skip_unknown)
        if isinstance(histories, pd.DataFrame | Mapping):
            users = self._users(histories)
            return self._table(users, list(users.histories), k, choose, filter_seen)
        histories = read_list(histories)
        if histories and all(map(is_user, histories)):
            return self._table(self._known_users(histories[0]), list(map(user_name, histories)), k, choose, filter_seen)
        choice = choose(len(histories))
        return self.ranked(histories, k, choice, filter_seen=filter_seen, skip_unknown=skip_unknown, columns=columns)

    def _table(
        self, users: Users, names: list[str], k: int, choose: Callable[[int], Choice], filter_seen: bool | None
    ) -> pd.DataFrame:
        histories, columns = users.of(names)
        if note := unknown_in_words(self, histories):
            getLogger().warning(note)
        found = self.ranked(
            histories, k, choose(len(names)), filter_seen=filter_seen, skip_unknown=True, columns=columns
        )
        return as_table(names, found, users.naming)

    def _take_training(self, result: Mapping[str, Any], naming: Naming | None) -> None:
        """Know what a training came to, and the users of its data.

        Args:
            result: of :func:`recbole_ssm.run`.
            naming: what the table that it was trained on called its columns; None for a data set.
        """
        self.history = result["history"]
        for part, key in (("valid", "best_valid_result"), ("test", "test_result")):
            self.metrics[part] = result[key] and {name: float(value) for name, value in result[key].items()}
        self._naming = naming or self._naming
        self._known = self._users_of_training

    def _users_of_training(self) -> Users:
        return Users(*self.histories_and_columns(), self._naming)

    def _users(self, given: Histories) -> Users:
        return users_of(given, self._naming, self._reading, self.columns, str(self._stored["config"].get("TIME_FIELD")))

    def _known_users(self, asked: object) -> Users:
        """The users that have names; read from the data of the training when they are first asked for."""
        if self._known is None:
            raise InputError(
                f"a history is a list of names of items, and not {asked!r}; to name users load the model with their "
                "histories=, since a checkpoint has none"
            )
        if not isinstance(self._known, Users):
            self._known = self._known()
        return self._known

    def evaluate(self, clicks: Histories | None = None) -> dict[str, float]:
        """How good the recommendations are.

        Args:
            clicks: whole histories of users, in the training or not. Of each user the last item is the target, and is
                ranked among all items after those before it. A target that the model does not know is a miss. None for
                the test part of the training's data, which are read again, under the training's protocol.

        Returns:
            The metrics of the training that have a rank, such as ``ndcg@10``, as means over users. Seen items are left
            out if the recommender does so, and a target that was seen is then a miss.

        Raises:
            InputError: the data of the training are not there or have no test part, or nobody can be tested.
        """
        if clicks is not None:
            config = self._stored["config"]
            return metrics_of_last(self, self._users(clicks), config["metrics"], config["topk"])
        words = [f"--filter_seen={self.filter_seen}"]
        found: dict[str, float] | None = evaluate_states({self.file: self._state()}, None, words)["test_result"]
        if found is None:
            raise InputError("the training's split has no test part; give a table of clicks")
        return found

    def save(self, file: str | Path) -> None:
        """Write a checkpoint of the model as it is now, with what :meth:`update` has counted.

        Args:
            file: by convention it ends in ``.pth``; what stands there is replaced, in an atomic write.

        Raises:
            CheckpointNotWritten: the disk is full, or the folder is not there.
        """
        checkpoint.write(file, self._state())

    def _state(self) -> dict[str, Any]:
        """What a checkpoint of the model holds now. The file that it was read from may be another one by now."""
        weights = {name: tensor.cpu() for name, tensor in self.model.state_dict().items()}
        now = {"state_dict": weights, "other_parameter": self.model.other_parameter() or {}}
        return self._stored | now | {"optimizer": {}, "training": {}}

    def similar(self, items: Sequence[str], k: int = 10) -> list[list[tuple[str, float]]]:
        """The items whose embeddings are nearest to those of some items, by cosine.

        Args:
            items: names.
            k: how many are wanted for each.

        Returns:
            For each item names and cosines of ``k`` others, the nearest first.

        Raises:
            InputError: an item is unknown, ``k`` is not a whole number above 0, or the model has no embeddings.
        """
        k, numbers = read_count(k), self.names.numbers(items, what="items")
        return [self._named(*found) for found in nearest(self.model, numbers, k)]

    def explain(self, history: Sequence[str], item: str) -> list[Part]:
        """What each item of a history says for another item.

        Similarities and counts go beside the score, and do not add up to it: the model reads the history as a whole.

        Args:
            history: names of items.
            item: name of the other item.

        Returns:
            A part for each item of the history, in its order.

        Raises:
            InputError: an item is unknown.
        """
        (number,), history = self.names.numbers([item], what="item"), read_history(history)
        with self.computing():
            found = parts(self.model, self.names.numbers(history), number)
        return [Part(*each) for each in zip(history, *found, strict=True)]

    def update(
        self, histories: Iterable[Iterable[str]], new: Sequence[int] | None = None, *, skip_unknown: bool = False
    ) -> None:
        """Let what the model counts take in new interactions, without training.

        That is the ``transition_memory`` of a trained model, and all that PCTM, SeqRules and MarkovChain know. Sessions
        go on, and use the new counts. The checkpoint's file stays as it is. Interactions that are given twice count
        twice.

        Args:
            histories: the item names of each history, the latest last.
            new: how many of the latest items of each history are new; None: all are.
            skip_unknown: pass over items that the model does not know.

        Raises:
            InputError: the model counts nothing, ``histories`` are no lists of names, one has an unknown item, or
                ``new`` does not fit.
        """
        lists = list(map(read_history, read_list(histories)))
        try:
            new = [operator.index(n) for n in (map(len, lists) if new is None else new)]
        except TypeError:  # no list, or not of whole numbers
            new = [-1]
        if len(new) != len(lists) or any(not 0 <= n <= len(each) for n, each in zip(new, lists, strict=False)):
            raise InputError("new must be a number for each history, from 0 to the number of its items")
        numbers, fresh = [], []
        for history, n in zip(lists, new, strict=True):
            before = self.names.numbers(history[: len(history) - n], skip_unknown=skip_unknown)
            after = self.names.numbers(history[len(history) - n :], skip_unknown=skip_unknown)
            numbers.append(before + after)
            fresh += [False] * len(before) + [True] * len(after)
        numbers = [each for each in numbers if each]
        tokens = torch.tensor([number for each in numbers for number in each], dtype=torch.int64)
        self.model.update(
            tokens, cumulative_lengths(torch.tensor([len(each) for each in numbers])), torch.tensor(fresh)
        )
        self._steppers.clear()  # what they have recorded reads the counts of before

    def histories(self, dataset: str | None = None, command_line: Iterable[str] = ()) -> dict[str, list[str]]:
        """The items of :meth:`histories_and_columns`."""
        return self.histories_and_columns(dataset, command_line)[0]

    def histories_and_columns(
        self, dataset: str | None = None, command_line: Iterable[str] = ()
    ) -> tuple[dict[str, list[str]], dict[str, dict[str, list[float]]]]:
        """The histories of all users of a dataset, read as the training read its data.

        Rare users and items are kept, whatever the training's filters are.

        Args:
            dataset: name; None for the one that the model was trained on.
            command_line: arguments ``--key=value`` about the data, for example ``--data_path=FOLDER``.

        Returns:
            Item names by user name, the latest last, with those that training held out for validation and test. And for
            each of :attr:`columns` its values by user name.

        Raises:
            InputError: the data cannot be read.
        """
        return read_histories(self._stored, dataset, command_line, self.columns)

    def user_histories(self, dataset: str | None = None, command_line: Iterable[str] = ()) -> UserHistories:
        """As :meth:`histories_and_columns`, in arrays, which take less memory."""
        return read_user_histories(self._stored, dataset, command_line, self.columns)

    def session(self, history: Iterable[str] = (), columns: Mapping[str, Sequence[float]] | None = None) -> Session:
        """A history that grows by one item at a time; see :class:`recbole_ssm.serving.session.Session`."""
        return Session(self, history, columns)
