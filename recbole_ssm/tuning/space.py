"""What is searched: RecBole's params file, a line for each key of the configuration."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from math import exp, isfinite
from pathlib import Path

from recbole_ssm.config import properties_folder
from recbole_ssm.errors import InputError

_NUMBERS = {"uniform": 2, "loguniform": 2, "quniform": 3}
"""How many follow the kind of a parameter: the lowest, the highest, and the step."""

_EXAMPLE = "learning_rate loguniform -8,-4, or dropout_prob uniform 0,0.5, or d_state choice [32,64]"


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
    def extremes(self) -> tuple:
        """Values that can all be used only if every value can."""
        if self.kind == "choice":
            return self.values
        low, high = map(exp, self.values) if self.kind == "loguniform" else self.values[:2]
        return self.plain(low), self.plain(high)

    def plain(self, value):
        """A value as a search draws it, in the type that the configuration takes: steps of whole numbers are whole."""
        if self.kind == "choice":
            return value
        whole = self.kind == "quniform" and all(float(number).is_integer() for number in self.values)
        return int(value) if whole else float(value)


def read_space(file: str | Path) -> tuple[Parameter, ...]:
    """The parameters of a params file.

    Its lines are ``NAME KIND VALUES``: ``choice [32,64]``, ``uniform 0,0.5``, ``quniform 16,128,16`` or
    ``loguniform -8,-4``. Values are numbers, words in quotation marks, True, False, None, and lists of them; unlike
    RecBole, this runs no code that stands in the file.

    Args:
        file: see :func:`find_space`.

    Raises:
        InputError: the file is missing, or a line cannot be understood.
    """
    found = find_space(file)
    parameters: dict[str, Parameter] = {}
    for number, line in enumerate(found.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            parameter = _parameter(line)
        except ValueError as error:
            raise InputError(f"{found}, line {number}: {error}; write, for example, {_EXAMPLE}") from error
        if parameter.name in parameters:
            raise InputError(f"{found}, line {number}: {parameter.name} has a line before; leave one of them")
        parameters[parameter.name] = parameter
    if not parameters:
        raise InputError(f"{found} names no parameter; write, for example, {_EXAMPLE}")
    return tuple(parameters.values())


def find_space(file: str | Path) -> Path:
    """A params file; one that does not exist is looked for in the package's ``properties/``.

    Raises:
        InputError: it is in neither place.
    """
    found = next((path for path in (Path(file), properties_folder() / file) if path.is_file()), None)
    if found is None:
        shipped = sorted(path.name for path in (properties_folder() / "tuning").glob("*.hyper"))
        raise InputError(f"there is no params file {file}; the package has tuning/{', tuning/'.join(shipped)}")
    return found


def _parameter(line: str) -> Parameter:
    """Raises ValueError that says what is wrong with the line."""
    words = line.split(" ")
    if len(words) < 3:
        raise ValueError(f"{line.strip()!r} is not a name, a kind and values, with single spaces between")
    name, kind, text = words[0], words[1], "".join(words[2:]).strip()
    if kind == "choice":
        try:
            values = ast.literal_eval(text)
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            raise ValueError(f"{text} is no list of values") from error
        if not isinstance(values, list | tuple) or not values:
            raise ValueError(f"{text} is no list of values")
        return Parameter(name, kind, tuple(values))
    if kind not in _NUMBERS:
        raise ValueError(f"{kind!r} is none of choice, {', '.join(_NUMBERS)}")
    try:
        numbers = tuple(float(word) for word in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) != _NUMBERS[kind] or not all(map(isfinite, numbers)):
        raise ValueError(f"{kind} takes {_NUMBERS[kind]} numbers, not {text!r}")
    if numbers[0] >= numbers[1] or (kind == "quniform" and numbers[2] <= 0):
        raise ValueError(f"{text} has nothing between its lowest and its highest value")
    if kind == "loguniform" and numbers[1] > 50:
        raise ValueError(f"{text} are natural logarithms, and e to the {numbers[1]:g} is out of reach")
    return Parameter(name, kind, numbers)
