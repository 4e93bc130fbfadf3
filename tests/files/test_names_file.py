"""The file of names: a template says what is known, and everything that does not fit is refused."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trpo_deploy.errors import ConfigError
from trpo_deploy.files.names_file import names_template, read_names
from trpo_deploy.files.yaml import read_yaml
from trpo_deploy.spec.components import Component, ControlSpec
from trpo_deploy.spec.spaces import BoxSpace, DiscreteSpace, MultiBinarySpace, Space

BOX = BoxSpace(np.array([-1, -np.inf], np.float32), np.array([1, np.inf], np.float32))
IMAGE = BoxSpace(np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8))
SPACES: dict[str, Space] = {"joints": BOX, "camera": IMAGE, "no": DiscreteSpace(4)}
KNOWN = ControlSpec(
    {"joints": (Component("yes", "rad"), Component('h: "ö" #', None))},
    (Component("null", "150 N m"), Component("1.5")),
    1 / 3,
    np.array([0.1, -2e-7], np.float32),
)


def read(path: Path, text: str, action_space: Space = BOX) -> ControlSpec:
    path.write_text(text, encoding="utf-8")
    return read_names(path, SPACES, action_space)


def test_a_template_reads_as_what_is_known(tmp_path: Path) -> None:
    control = read(tmp_path / "names.yaml", names_template(KNOWN, SPACES, BOX))
    assert control.to_json() == KNOWN.to_json()


TEXT = st.text(min_size=1, max_size=200).filter(lambda each: each.isprintable())
COMPONENT = st.builds(Component, TEXT.map(str.strip).filter(bool), st.none() | st.just("N m"))


@given(st.lists(COMPONENT, min_size=2, max_size=2, unique_by=lambda each: each.name))
@example([Component("\N{ROBOT FACE}: {}"), Component("'\"\\\\#")])
@example([Component("~"), Component("0x1F")])
def test_a_template_keeps_every_name(components: list[Component]) -> None:
    control = ControlSpec(action_components=tuple(components))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "names.yaml"
        assert read(path, names_template(control, SPACES, BOX)).to_json() == control.to_json()


@pytest.mark.parametrize("space", [BOX, DiscreteSpace(3, start=5), MultiBinarySpace((2, 2))])
def test_a_template_of_nothing_says_nothing(tmp_path: Path, space: Space) -> None:
    text = names_template(ControlSpec(), SPACES, space)
    assert read(tmp_path / "names.yaml", text, space).to_json() == {}
    listed = read_yaml(tmp_path / "names.yaml")
    assert listed["observation"].keys() == {"joints", "no"}  # the image is too large to list
    assert '"camera" has 12288 numbers' in text
    assert len(listed["action"]) == (
        3 if isinstance(space, DiscreteSpace) else np.prod(space.shape)
    )


def test_a_name_alone_has_no_unit(tmp_path: Path) -> None:
    control = read(tmp_path / "n.yaml", "action: [hip, {name: knee, unit: rad}]")
    assert control.action_components == (Component("hip"), Component("knee", "rad"))
    assert control.period is None


@pytest.mark.parametrize("text", ["{}", "period:", "action: [null, null]", "observation: {}"])
def test_missing_and_null_entries_say_nothing(tmp_path: Path, text: str) -> None:
    assert read(tmp_path / "n.yaml", text).to_json() == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("action: [a]", "the action needs 2 names, received 1"),
        ("action: [a, b, c]", "the action needs 2 names, received 3"),
        ("action: [a, a]", "the action has the name 'a' twice"),
        ("action: [a, null]", "the action, number 1: the name None is not a text"),
        ("action: ['', b]", "the action, number 0: the name '' is not a text"),
        ("action: [1, b]", "the action, number 0: the name 1 is not a text"),
        ("action: [no, b]", "the action, number 0: the name False is not a text"),
        ("action: [[a], b]", "the action, number 0: the name ['a'] is not a text"),
        ("action: [' a', b]", "without spaces around it"),
        ("action: ['a\\tb', b]".replace("'", '"'), "one line of printable text"),
        ("action: [{name: a, units: m}, b]", "unknown entry 'units'; expected name, unit"),
        ("action: [{unit: m}, b]", "the action, number 0: the name None"),
        ("action: [{name: a, unit: 3}, b]", "the unit 3 is not a text"),
        ("action: {a: b}", "expected a list of names"),
        ("action: ab", "expected a list of names"),
        ("observation: [a, b]", "observation is not a mapping"),
        ("observation: {hands: [a, b]}", "the observation 'hands' does not exist"),
        ("observation: {joints: [a]}", "the observation 'joints' needs 2 names, received 1"),
        ("observation: {camera: [a]}", "needs 12288 names, received 1"),
        ("joints: [a, b]", "unknown entry 'joints'; expected period, observation, action"),
        ("period: 0", "the period is 0, expected a positive number of seconds"),
        ("period: -0.1", "the period is -0.1"),
        ("period: .inf", "the period is inf"),
        ("period: .nan", "the period is nan"),
        ("period: 1" + 400 * "0", "the period is 1000"),
        ("period: yes", "the period is True"),
        ("period: 10 ms", "the period is '10 ms'"),
        ("safe_action: [2, 0]", "the safe action contains 2.0, expected numbers in [-1.0, 1.0]"),
        ("safe_action: [0]", "the safe action is shape (1,), expected float32 of shape (2,)"),
        ("safe_action: [[0, 0]]", "the safe action is shape (1, 2), expected shape (2,)"),
        ("safe_action: stop", "the safe action is"),
        ("safe_action: [.nan, 0]", "the safe action is nan"),
        ("safe_action: {hip: 0, knee: 0}", "the safe action is"),
        ("action: [a, b]\naction: [c, d]", "action twice"),
        ("- action", "expected a mapping"),
        ("action: [a, b", "is not a YAML file"),
        ("action: !!python/name:os.system [a, b]", "is not a YAML file of plain values"),
    ],
    ids=lambda each: each[:40],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as error:
        read(tmp_path / "n.yaml", text)
    assert says in str(error.value)
    assert "n.yaml" in str(error.value)


def test_an_error_is_short_and_one_line(tmp_path: Path) -> None:
    many: Any = ", ".join("x" * 100 for _ in range(1000))
    with pytest.raises(ConfigError) as error:
        read(tmp_path / "n.yaml", f"action: {{a: [{many}]}}")
    assert len(str(error.value)) < 400
    assert "\n" not in str(error.value)
