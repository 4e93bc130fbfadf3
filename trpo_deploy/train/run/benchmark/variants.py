"""Settings to compare in a benchmark, by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

DEFAULT = "default"
"""Name of the variant that the others are compared with."""

_NAMED_SETTING = re.compile(r"([\w-]+):([\w.]+=.*)", re.DOTALL)
_NAMED_PRESET = re.compile(r"([\w-]+):(.+)", re.DOTALL)


@dataclass(frozen=True)
class Variant:
    """One way to train every task of a benchmark."""

    name: str = DEFAULT
    preset: str | None = None
    """See :func:`~trpo_deploy.train.config.load.load_config`; None for the task's own."""
    settings: tuple[str, ...] = ()
    """``key=value`` each."""

    @property
    def options(self) -> list[str]:
        """Its options of ``trpo-deploy train``."""
        preset = [] if self.preset is None else ["--preset", self.preset]
        return [*preset, *(word for setting in self.settings for word in ("--set", setting))]

    def folder(self, output: Path) -> Path:
        """Folder of its runs and tables in the folder of the benchmark."""
        return output if self.name == DEFAULT else output / "variants" / self.name


def parse_variants(presets: Iterable[str], settings: Iterable[str]) -> list[Variant]:
    """The variants of a command line: :data:`DEFAULT`, then the others as they are first named.

    Args:
        presets: ``NAME:PRESET`` each; without a name, for all variants without their own.
        settings: ``NAME:key=value`` each; without a name, for all variants.
    """
    named_presets = [_named(_NAMED_PRESET, text) for text in presets]
    named_settings = [_named(_NAMED_SETTING, text) for text in settings]
    names = [name for name, _ in (*named_presets, *named_settings) if name is not None]
    preset = dict(named_presets)
    return [
        Variant(
            name,
            preset.get(name, preset.get(None)),
            tuple(text for each, text in named_settings if each in (None, name)),
        )
        for name in dict.fromkeys([DEFAULT, *names])
    ]


def _named(pattern: re.Pattern[str], text: str) -> tuple[str | None, str]:
    found = pattern.fullmatch(text)
    return (None, text) if found is None else (found[1], found[2])
