"""YAML keeps plain values, reads RL Zoo's tags, and refuses what is ambiguous or code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from trpo_deploy.errors import ConfigError
from trpo_deploy.files.yaml import parse_yaml_value, read_yaml, to_commented_yaml, to_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),  # text in YAML 1.1
        ("-1E+2", -100.0),
        (".5e1", 5.0),
        ("!!float 1e6", 1_000_000.0),
        ("10", 10),
        ("yes", True),  # as RL Zoo reads it: YAML 1.1
        ("lin_1e-3", "lin_1e-3"),
        ("8x8", "8x8"),
        ("e5", "e5"),
        ("'1e-3'", "1e-3"),
        ("2024-01-01", "2024-01-01"),
        ("2024-13-41", "2024-13-41"),
        ("own.wrappers:Slow", "own.wrappers:Slow"),
        ("{a: [1e1]}", {"a": [10.0]}),
        ("!!python/object/apply:collections.OrderedDict [[[a, 1]]]", {"a": 1}),
    ],
)
def test_a_value_has_the_type_that_it_looks_like(text: str, value: Any) -> None:
    parsed = parse_yaml_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("value", ["1e5", "1e-3", "0.5", "yes", "null", "2024-01-01", "a: b", ""])
def test_text_is_read_back_as_text(value: str, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(to_yaml({"key": value, "list": [value]}))
    assert read_yaml(path) == {"key": value, "list": [value]}


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "!!python/tuple [1]",
        "[1",
        "{a: 1, a: 2}",
    ],
)
def test_code_and_broken_text_are_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a YAML value") as caught:
        parse_yaml_value(text)
    assert "\n" not in str(caught.value)


def test_a_key_may_override_a_merged_one_but_not_itself(tmp_path: Path) -> None:
    path = tmp_path / "presets.yml"
    path.write_text("a: &a {x: 1, y: 1}\nb:\n  <<: *a\n  x: 2\n")
    assert read_yaml(path)["b"] == {"x": 2, "y": 1}
    path.write_text("a:\n  x: 1\n  x: 1\n")
    with pytest.raises(ConfigError, match="x twice in the mapping of line 2"):
        read_yaml(path)


def test_comments_stand_before_the_lines_of_their_keys() -> None:
    part = {"name": "a", "size": 1}
    value = {"kind": "Test", "spec": {"parts": [part, part], "name": "x"}}
    comments = {"": "First.", "parts": "Two\nlines.", "size": "A size."}
    text = to_commented_yaml(value, comments)
    assert text == (
        "# First.\nkind: Test\nspec:\n  # Two\n  # lines.\n  parts:\n  - name: a\n    # A size.\n"
        "    size: 1\n  - name: a\n    size: 1\n  name: x\n"
    )
    assert yaml.safe_load(text) == value


def test_a_comment_without_its_key_is_an_error() -> None:
    with pytest.raises(ValueError, match="'names'"):
        to_commented_yaml({"name": 1}, {"names": "?"})
