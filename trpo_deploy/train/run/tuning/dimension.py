"""One setting of a search space: its values, and how Optuna suggests one of them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.trial import BaseTrial

from trpo_deploy.errors import ConfigError
from trpo_deploy.files.yaml import parse_yaml_value
from trpo_deploy.train.config.checks import check_choice, unknown_name

_SCALES = ("linear", "log", "log_of_1_minus", "powers_of_2")
_DIGITS = 4
"""Significant digits of a suggested number; more would not change the training."""


class Dimension(Protocol):
    """One setting of a search space."""

    @property
    def name(self) -> str:
        """The setting, as ``--set`` takes it."""
        ...

    def examples(self) -> Sequence[Any]:
        """Values that are valid if all values are."""
        ...

    def suggest(self, trial: BaseTrial) -> Any:
        """A value for a trial; for the same trial always the same one."""
        ...


@dataclass(frozen=True)
class Choices:
    """A setting with a list of values."""

    name: str
    values: Sequence[Any]

    def examples(self) -> Sequence[Any]:
        """All values."""
        return self.values

    def suggest(self, trial: BaseTrial) -> Any:
        """One of the values. Optuna gets their texts, because it accepts plain values only."""
        texts = [value_text(value) for value in self.values]
        return self.values[texts.index(trial.suggest_categorical(self.name, texts))]


@dataclass(frozen=True)
class Range:
    """A setting with a range of numbers; whole numbers if both bounds are."""

    name: str
    low: float
    high: float
    scale: str = "linear"
    """One of :data:`_SCALES`."""

    def examples(self) -> Sequence[Any]:
        """The bounds."""
        return self.low, self.high

    def suggest(self, trial: BaseTrial) -> float:
        """A number from the range."""
        if self.scale == "powers_of_2":
            low, high = (math.log2(bound) for bound in (self.low, self.high))
            return int(2 ** trial.suggest_int(f"log2({self.name})", int(low), int(high)))
        if self.scale == "log_of_1_minus":
            below = trial.suggest_float(f"1 - {self.name}", 1 - self.high, 1 - self.low, log=True)
            return self._within(float(f"{1 - _rounded(below):.12g}"))
        log = self.scale == "log"
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.name, self.low, self.high, log=log)
        return self._within(_rounded(trial.suggest_float(self.name, self.low, self.high, log=log)))

    def _within(self, value: float) -> float:
        return min(max(value, self.low), self.high)


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def read_dimension(name: str, entry: Any) -> Dimension:
    """Read an entry of a search space: a list of values, or ``low``, ``high`` and ``scale``.

    Raises:
        ConfigError: The entry is invalid.
    """
    if isinstance(entry, list):
        return _choices(name, entry)
    if isinstance(entry, Mapping):
        return _range(name, entry)
    raise ConfigError(
        f"{name}: {entry!r}: expected a list of values, or a range such as "
        "{low: 0.001, high: 0.1, scale: log}"
    )


def value_text(value: Any) -> str:
    """A value as YAML on one line, as ``--set`` takes it."""
    is_plain = isinstance(value, str) and parse_yaml_value(value) == value
    return str(value) if is_plain else json.dumps(value)


def _choices(name: str, values: list[Any]) -> Choices:
    texts = [value_text(value) for value in values]
    twice = [text for text in dict.fromkeys(texts) if texts.count(text) > 1]
    if twice:
        raise ConfigError(f"{name}: {twice[0]} twice in the list")
    if len(values) < 2:
        raise ConfigError(f"{name}: {values!r}: expected two values or more to choose from")
    return Choices(name, values)


def _range(name: str, entry: Mapping[Any, Any]) -> Range:
    for key in entry:
        if key not in ("low", "high", "scale"):
            raise ConfigError(f"{name}: {unknown_name(key, ('low', 'high', 'scale'))}")
    for key in ("low", "high"):
        bound: Any = entry.get(key)
        if type(bound) not in (int, float) or not math.isfinite(bound):
            raise ConfigError(f"{name}: {key}={bound!r}: expected a finite number")
    low, high, scale = entry["low"], entry["high"], entry.get("scale", "linear")
    check_choice(f"{name}: scale", scale, _SCALES)
    if not low < high:
        raise ConfigError(f"{name}: low={low!r}, high={high!r}: expected low below high")
    _check_scale(name, low, high, scale)
    return Range(name, low, high, scale)


def _check_scale(name: str, low: float, high: float, scale: str) -> None:
    if scale == "log" and low <= 0:
        raise ConfigError(f"{name}: low={low!r}: expected a number above 0 for scale: log")
    if scale == "log_of_1_minus" and high >= 1:
        raise ConfigError(
            f"{name}: high={high!r}: expected a number below 1 for scale: log_of_1_minus"
        )
    if scale == "powers_of_2":
        for key, bound in (("low", low), ("high", high)):
            if not (isinstance(bound, int) and bound > 0 and bound & (bound - 1) == 0):
                raise ConfigError(
                    f"{name}: {key}={bound!r}: expected 1, 2, 4, 8, ... for scale: powers_of_2"
                )
