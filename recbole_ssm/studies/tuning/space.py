"""The search space: RecBole's params file, with a line for each key, and draws from it."""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isfinite
from pathlib import Path
from typing import Any

import numpy as np

from recbole_ssm.config.shipped_files import properties_folder
from recbole_ssm.errors import InputError

_NUMBERS = {"uniform": 2, "loguniform": 2, "quniform": 3}
"""How many numbers follow the kind of a parameter: lowest, highest, and step."""

_EXAMPLE = "learning_rate loguniform -8,-4, or dropout_prob uniform 0,0.5, or d_state choice [32,64]"

_MOST_STEPS = 1000


@dataclass(frozen=True)
class Parameter:
    """A key of the configuration, and the values that it may have.

    Args:
        name: of the key.
        kind: ``choice``, ``uniform``, ``quniform`` (in steps) or ``loguniform`` (uniform in the logarithm).
        values: of a choice all of them; else the lowest, the highest and, with ``quniform``, the step. Those of
            ``loguniform`` are natural logarithms, as RecBole and hyperopt have them.
    """

    name: str
    kind: str
    values: tuple

    @property
    def telling(self) -> tuple:
        """All values, or where they are numbers without steps the lowest and the highest."""
        if self.kind == "choice":
            return self.values
        low, high = map(exp, self.values) if self.kind == "loguniform" else self.values[:2]
        if self.kind == "quniform":
            step = self.values[2]
            return tuple(self.plain(low + step * number) for number in range(round((high - low) / step) + 1))
        return self.plain(low), self.plain(high)

    def draw(self, random: np.random.Generator) -> Any:
        """Draw a random value."""
        if self.kind in ("choice", "quniform"):
            return self.telling[random.integers(len(self.telling))]
        drawn = random.uniform(*self.values)
        return self.plain(exp(drawn) if self.kind == "loguniform" else drawn)

    def plain(self, value: Any) -> Any:
        """A value as hyperopt draws it, in the type that the configuration takes: steps of whole numbers are whole."""
        if self.kind == "choice":
            return json.loads(json.dumps(value))  # lists are tuples to hyperopt
        whole = self.kind == "quniform" and all(number.is_integer() for number in self.values)
        return int(value) if whole else float(value)


def draw(space: Sequence[Parameter], trials: int, seed: int) -> list[dict[str, Any]]:
    """Draw random settings, all different; fewer than ``trials`` if the space has no more.

    Args:
        space: the parameters.
        trials: how many.
        seed: of the draws. With more trials the first ones are the same.

    Returns:
        Names and values of each trial.
    """
    random = np.random.default_rng(seed)
    found: dict[str, dict[str, Any]] = {}
    for _ in range(100 * trials):
        params = {parameter.name: parameter.draw(random) for parameter in space}
        found.setdefault(json.dumps(params), params)
        if len(found) == trials:
            break
    return list(found.values())


def find_space(file: str | Path) -> Path:
    """Find a params file; one that does not exist is looked for in the package's ``properties/``.

    Args:
        file: its path, or its path within ``properties/``.

    Returns:
        Its path.

    Raises:
        InputError: it is in neither place.
    """
    found = next((path for path in (Path(file), properties_folder() / file) if path.is_file()), None)
    if found is None:
        shipped = sorted(path.name for path in (properties_folder() / "tuning").glob("*.hyper"))
        raise InputError(f"there is no params file {file}; the package has tuning/{', tuning/'.join(shipped)}")
    return found


def read_space(file: str | Path) -> tuple[Parameter, ...]:
    """The parameters of a params file.

    Its lines are ``NAME KIND VALUES``: ``choice [32,64]``, ``uniform 0,0.5``, ``quniform 16,128,16`` or
    ``loguniform -8,-4``. Values are numbers, words in quotation marks, True, False, None, and lists of them. RecBole
    runs them as Python; here they are read as what they write, and RecBole is given what was read.

    Args:
        file: see :func:`find_space`.

    Returns:
        A parameter for each line.

    Raises:
        InputError: the file is missing, or a line cannot be understood.
    """
    found = find_space(file)
    try:
        lines = found.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the params file {found} cannot be read as UTF-8: {error}") from error
    parameters: dict[str, Parameter] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            parameter = _parameter(line.strip())
        except ValueError as error:
            raise InputError(f"{found}, line {number}: {error}; write, for example, {_EXAMPLE}") from error
        if parameter.name in parameters:
            raise InputError(f"{found}, line {number}: {parameter.name} has a line before; leave one of them")
        parameters[parameter.name] = parameter
    if not parameters:
        raise InputError(f"{found} names no parameter; write, for example, {_EXAMPLE}")
    return tuple(parameters.values())


def _parameter(line: str) -> Parameter:
    """The parameter of a line; raises ValueError that says what is wrong with it."""
    words = line.split(" ")
    if len(words) < 3:
        raise ValueError(f"{line!r} is not a name, a kind and values, with single spaces between")
    name, kind, text = words[0], words[1], "".join(words[2:])
    if kind == "choice":
        return Parameter(name, kind, _choices(text))
    if kind not in _NUMBERS:
        raise ValueError(f"{kind!r} is not one of choice, {', '.join(_NUMBERS)}")
    try:
        numbers = tuple(float(word) for word in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != _NUMBERS[kind] or not all(map(isfinite, numbers)):
        raise ValueError(f"{kind} takes {_NUMBERS[kind]} numbers, not {text!r}")
    if numbers[0] >= numbers[1] or (kind == "quniform" and numbers[2] <= 0):
        raise ValueError(f"{text} has nothing between its lowest and its highest value")
    if kind == "loguniform" and not -50 <= numbers[0] < numbers[1] <= 50:
        raise ValueError(f"{text} are natural logarithms, and e to the power of them is out of reach")
    if kind == "quniform":
        low, high, step = numbers
        if any(abs(end / step - round(end / step)) > 1e-9 for end in (low, high)) or high - low > _MOST_STEPS * step:
            raise ValueError(f"{text}: the lowest and the highest must be multiples of the step, {_MOST_STEPS} at most")
    return Parameter(name, kind, numbers)


def _choices(text: str) -> tuple:
    try:
        values = ast.literal_eval(text)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise ValueError(f"{text} is no list of values") from error
    if not isinstance(values, list | tuple) or not values:
        raise ValueError(f"{text} is no list of values")
    try:
        values = json.loads(json.dumps(values))
    except TypeError as error:
        raise ValueError(f"{text} has values that no key of the configuration takes") from error
    return tuple(values)
