"""YAML without code: our own configurations and RL Zoo's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from trpo_deploy.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """Plain values, and the one Python tag that RL Zoo writes: an ordered dictionary.

    A key that a mapping has twice is refused: YAML's readers take the last without a word.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """As SafeLoader does, before it has merged other mappings in."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise ValueError(f"{', '.join(twice)} twice in the mapping of line {_line(node)}")
        return super().construct_mapping(node, deep)


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _ordered_dict(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
    # OrderedDict([[key, value], ...]): a sequence of arguments, the first a sequence of pairs
    assert isinstance(node, yaml.SequenceNode)
    arguments = loader.construct_sequence(node, deep=True)
    return dict(arguments[0]) if arguments else {}


def _text(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    assert isinstance(node, yaml.ScalarNode)
    return str(loader.construct_scalar(node))


# No setting takes a date, and a checkpoint holds none.
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _text)
_Loader.add_constructor(
    "tag:yaml.org,2002:python/object/apply:collections.OrderedDict", _ordered_dict
)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping.

    Raises:
        ConfigError: no such file, no YAML, another Python tag, or no mapping.
    """
    try:
        value = _load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} is no YAML of plain values ({_one_line(error)})") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path} holds {type(value).__name__}, expected a mapping")
    return value


def parse_yaml_value(text: str) -> Any:
    """One value as written on a command line: a number, text, list or mapping.

    Raises:
        ConfigError: the text is no YAML.
    """
    try:
        return _load(text)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(f"{text!r} is no YAML value ({_one_line(error)})") from error


def to_yaml(value: dict[str, Any]) -> str:
    """A mapping as YAML text, in the order given."""
    text: str = yaml.safe_dump(value, sort_keys=False, allow_unicode=True)
    return text


def _load(text: str) -> Any:
    # _Loader is a SafeLoader: an unknown tag is an error, never a call.
    return yaml.load(text, Loader=_Loader)  # noqa: S506


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
