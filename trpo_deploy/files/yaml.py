"""YAML files of plain values: configurations of ours and of RL Zoo."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from trpo_deploy.errors import ConfigError


class _Loader(yaml.SafeLoader):
    """Constructs plain values only, and refuses a mapping with the same key twice.

    PyYAML takes the last value silently.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Check the keys before merge keys (``<<``) add others, then construct the mapping."""
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            line = int(node.start_mark.line) + 1
            raise ValueError(f"{', '.join(twice)} twice in the mapping of line {line}")
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes text that looks like a number with quotes, and equal parts without references."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        """Write a value that occurs twice in full each time."""
        return True


def _ordered_dict(loader: yaml.SafeLoader, node: yaml.Node) -> dict[Any, Any]:
    # OrderedDict([[key, value], ...]): a sequence of arguments, the first a sequence of pairs.
    assert isinstance(node, yaml.SequenceNode)
    arguments = loader.construct_sequence(node, deep=True)
    return dict(arguments[0]) if arguments else {}


def _text(loader: yaml.SafeLoader, node: yaml.Node) -> str:
    assert isinstance(node, yaml.ScalarNode)
    return str(loader.construct_scalar(node))


# No setting is a date.
_Loader.add_constructor("tag:yaml.org,2002:timestamp", _text)
# The only Python tag in RL Zoo's files.
_Loader.add_constructor(
    "tag:yaml.org,2002:python/object/apply:collections.OrderedDict", _ordered_dict
)
for _each in (_Loader, _Dumper):
    # PyYAML follows YAML 1.1, which reads 1e-3 as text; this is the rule of YAML 1.2.
    _each.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
        list("-+.0123456789"),
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a mapping from a file.

    Raises:
        ConfigError: The file is missing, or is not a YAML mapping of plain values.
    """
    try:
        value = _load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, ValueError, TypeError) as error:
        raise ConfigError(
            f"{path} is not a YAML file of plain values ({_one_line(error)})"
        ) from error
    if not isinstance(value, dict):
        found = "nothing" if value is None else f"a {type(value).__name__}"
        raise ConfigError(f"{path} contains {found}, expected a mapping")
    return value


def parse_yaml_value(text: str) -> Any:
    """Parse one value as written on a command line: a number, text, list or mapping.

    Raises:
        ConfigError: The text is not YAML.
    """
    try:
        return _load(text)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ConfigError(f"{text!r} is not a YAML value ({_one_line(error)})") from error


def to_yaml(value: dict[str, Any]) -> str:
    """Write a mapping as YAML text, in the order given."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def to_commented_yaml(value: dict[str, Any], comments: Mapping[str, str]) -> str:
    """Write a mapping as YAML text with comments for its readers.

    PyYAML writes no comments. So they are put into its text: each before the line of its key, as
    far in as the key.

    Args:
        value: The mapping.
        comments: A comment of one or more lines by key; ``""`` for the start of the text. The
            comment of a key stands where the key occurs first.

    Raises:
        ValueError: No line has a key.
    """
    lines = to_yaml(value).splitlines()
    for key, comment in comments.items():
        at = 0 if not key else next((i for i, line in enumerate(lines) if _key(line) == key), None)
        if at is None:
            raise ValueError(f"no line has the key {key!r}")
        indent = " " * (len(lines[at]) - len(lines[at].lstrip(" ")) if key else 0)
        lines[at:at] = [f"{indent}# {line}" for line in comment.splitlines()]
    return "\n".join(lines) + "\n"


def _key(line: str) -> str:
    return line.lstrip(" -").partition(":")[0]


def _load(text: str) -> Any:
    # _Loader is a SafeLoader: an unknown tag is an error, never a call.
    return yaml.load(text, Loader=_Loader)  # noqa: S506


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
