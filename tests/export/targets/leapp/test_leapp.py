"""LEAPP descriptions: LEAPP's own loader runs them, and what they say and refuse to say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from gymnasium import spaces

from tests.command import run_cli
from tests.export.policies import BOX, make_model, save
from tests.export.targets.leapp.loader import outputs_of, run_in_leapp
from tests.export.targets.programs import KINDS, make
from tests.runtime.policy_files import ACTION_SPACES, box, make_spec, write_policy
from trpo_deploy.errors import ExportError
from trpo_deploy.export import TargetOptions, export_file
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.targets.leapp.consumer import LeappGraph
from trpo_deploy.export.targets.leapp.semantics import action_semantics, observation_semantics
from trpo_deploy.files.yaml import read_yaml
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.components import Component
from trpo_deploy.spec.policy_spec import ACTION, METADATA_KEY, PolicySpec
from trpo_deploy.spec.spaces import DictSpace, Space

QUICK = ("--steps", 50, "--seconds", 0)
MODELS = Path(__file__).parents[4] / "models"
JOINTS = "hip.position [rad], slide.position [m]"
SPEEDS = "slide.velocity [m/s], hip.velocity [rad/s]"
ODD = ("on", "1e3")
"""Keys that are no text in some version of YAML unless they are quoted."""


def write(onnx_path: Path, folder: Path, *, verify: bool = True) -> Path:
    export_file(onnx_path, TargetOptions("leapp", folder, "pol"), verify=verify)
    return folder


def described(folder: Path) -> Any:
    return yaml.safe_load((folder / "pol.yaml").read_text(encoding="utf-8"))


def named(texts: str) -> tuple[Component, ...]:
    """Components such as ``hip.position [rad], knee.position``."""
    pairs = (text.strip().removesuffix("]").split(" [") for text in texts.split(","))
    return tuple(Component(*pair) for pair in pairs)


def robot_policy(path: Path, keys: Sequence[str]) -> Path:
    """A policy with the positions of two joints under one key and their velocities under another.

    Its spec has all names, units and the control period.
    """
    write_policy(path, DictSpace({key: box(2) for key in keys}))
    file = ExportedFile.parse(path.read_bytes())
    spec = replace(
        file.spec,
        observation_components=dict(zip(keys, (named(JOINTS), named(SPEEDS)), strict=True)),
        action_components=named("slide [N], hip [N m]"),
        period=0.008,
    )
    onnx.helper.set_model_props(file.model, {METADATA_KEY: spec.to_json()})
    onnx.save(file.model, path)
    return path


def golden_of(folder: Path) -> tuple[dict[str, Any], Any]:
    """The golden observations by key, and the actions of ``OnnxPolicy`` in one episode."""
    policy = OnnxPolicy(folder / "policy.onnx")
    rows = json.loads((folder / "golden.json").read_text())["observations"]
    inputs = [policy.spec.validate(row)[0] for row in rows]
    state, actions = None, []
    for row in rows:
        action, state = policy.predict(row, state)
        actions.append(action)
    stacked = {key: np.concatenate([each[key] for each in inputs]) for key in inputs[0]}
    return stacked, np.array(actions)


REFUSED = "observation box uint16"
HELD = [kind for kind in KINDS if kind != REFUSED]
SHIPPED = sorted(path.parent.name for path in MODELS.glob("*/policy.onnx"))


@pytest.fixture(scope="module")
def run_by_leapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a target's folder for each kind of policy and each model that ships."""
    root = tmp_path_factory.mktemp("leapp")
    paths = {kind: make(root / "models" / kind, **KINDS[kind]) for kind in HELD}
    keys = ("policy", "action", "a b|`c: #", "ключ 🙂", "null")
    paths["odd keys"] = make(
        root / "models" / "odd keys",
        observation_space=spaces.Dict(dict.fromkeys(keys, BOX)),
        policy="MultiInputPolicy",
    )
    paths["named joints"] = robot_policy(root / "models" / "joints.onnx", ODD)
    paths.update({name: MODELS / name / "policy.onnx" for name in SHIPPED})
    episodes = {}
    for name, path in paths.items():
        folder = write(path, root / name, verify=False)
        observations, _ = golden_of(folder)
        inputs = OnnxPolicy(path).spec.inputs
        episodes[folder] = {
            each.name: observations[each.key] for each in inputs if each.key in observations
        }
    run_in_leapp(episodes)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", [*HELD, "named joints", "odd keys", *SHIPPED])
def test_leapps_loader_gives_the_policys_actions(run_by_leapp: Path, name: str) -> None:
    _, expected = golden_of(run_by_leapp / name)
    found = outputs_of(run_by_leapp / name)[ACTION]
    assert found.dtype == expected.dtype
    # LEAPP's session has more threads, which may order sums differently: a few units in the last
    # place. Discrete actions are equal.
    limit = 1e-5 if found.dtype.kind == "f" else 0
    np.testing.assert_allclose(found, expected, rtol=0, atol=limit)


@pytest.mark.parametrize("kind", HELD)
def test_every_policy_gives_the_same_actions_through_the_description(
    kind: str, tmp_path: Path
) -> None:
    onnx_path = make(tmp_path / "model", **KINDS[kind])
    folder = write(onnx_path, tmp_path / "leapp")
    (check,) = json.loads((folder / "certificate.json").read_text())["checks"]
    assert (check["name"], check["passed"]) == ("policy.onnx, leapp description", True)
    assert check["measured"]["rows"] > 100
    assert (folder / "policy.onnx").read_bytes() == onnx_path.read_bytes()


def test_a_trained_policy_gets_a_certificate_with_the_description(tmp_path: Path) -> None:
    save(make_model(action_space=spaces.Discrete(3)), tmp_path / "Model")
    done = run_cli("export", "Model", "--target", "leapp", *QUICK, cwd=tmp_path)
    assert done.code == 0, done.error
    folder = tmp_path / "Model" / "leapp"
    assert {path.name for path in folder.iterdir()} == {
        *("policy.onnx", "model.yaml", "README.md"),
        *("policy.json", "golden.json", "certificate.json"),
    }
    certificate = json.loads((folder / "certificate.json").read_text())
    checks = [each for each in certificate["checks"] if "leapp description" in each["name"]]
    assert len(checks) == 2  # ordinary observations and edges
    assert {"policy.zip", "policy.onnx", "model.yaml"} <= {*certificate["sha256"]}
    assert run_cli("verify", "Model", "Model/leapp", *QUICK, cwd=tmp_path).code == 0
    save(make_model(action_space=spaces.Discrete(3), seed=1), tmp_path / "Other")
    done = run_cli("verify", "Other", "Model/leapp", *QUICK, cwd=tmp_path)
    assert done.code == 1
    assert "NOT the same policy" in done.output


def test_a_mujoco_policy_tells_names_units_and_frequency(tmp_path: Path) -> None:
    pytest.importorskip("mujoco")
    arguments = ("--target", "leapp", "-o", tmp_path / "leapp", "--name", "pol", "--no-verify")
    done = run_cli("export", MODELS / "Ant-v5", *arguments)
    assert done.code == 0, done.error
    value = described(tmp_path / "leapp")
    (observation,), (action,) = (value["models"]["policy"][each] for each in ("inputs", "outputs"))
    assert observation["element_names"][1][5:7] == ["hip_1.position", "ankle_1.position"]
    assert action["element_names"] == [
        [],
        ["hip_4", "ankle_4", "hip_1", "ankle_1", "hip_2", "ankle_2", "hip_3", "ankle_3"],
    ]
    assert action["units"] == ["150 N m"] * 8
    # The observation mixes quantities, and an action of 1 is not 1 N m.
    assert "kind" not in observation
    assert "kind" not in action
    assert value["pipeline"]["configs"] == {"frequency": 20.0}


def robot(
    observations: dict[str, str], action: str, action_space: Space | None = None
) -> PolicySpec:
    components = {key: named(texts) for key, texts in observations.items()}
    return make_spec(
        DictSpace({key: box(len(each)) for key, each in components.items()}),
        action_space or box(len(named(action)), low=-1, high=1),
        observation_components=components,
        action_components=named(action),
    )


def test_joints_of_one_kind_get_it_and_their_names() -> None:
    spec = robot({"q": JOINTS, "v": SPEEDS}, "slide [m], hip [rad]")
    found = observation_semantics(spec)
    assert (found["q"].kind, found["q"].names) == ("state/joint/position", ("hip", "slide"))
    assert (found["v"].kind, found["v"].names) == ("state/joint/velocity", ("slide", "hip"))
    assert found["v"].units == ("m/s", "rad/s")
    action = action_semantics(spec)
    assert (action.kind, action.names) == ("target/joint/position", ("slide", "hip"))


@pytest.mark.parametrize(
    ("observation", "why"),
    [
        ("hip.position [rad], hip.velocity [rad/s]", "two kinds"),
        ("hip.position [rad], knee.position", "a unit is unknown"),
        ("hip.position [deg]", "not the unit of the kind"),
        ("hip.velocity [4 rad/s]", "a factor"),
        ("hip.position [rad/s]", "another quantity's unit"),
        ("hip.angle [rad]", "another word"),
        ("position [m]", "no joint"),
        (".position [m]", "no joint"),
        ("joint[3].position [rad]", "a number in a model, not a name"),
        ("arm.hip.position [rad]", "the key of a flattened Dict before the joint"),
        ("root.position.x [m], root.position.y [m]", "a body, in a frame that is not told"),
        ("imu.angular_velocity.x [rad/s]", "a body, in a frame that is not told"),
    ],
)
def test_what_is_not_known_to_be_joints_keeps_its_names_without_a_kind(
    observation: str, why: str
) -> None:
    semantics = observation_semantics(robot({"q": observation}, "a [1]"))["q"]
    assert semantics.kind is None, why
    assert semantics.names == tuple(each.name for each in named(observation))


def test_a_goal_is_not_a_state() -> None:
    found = observation_semantics(robot({"achieved_goal": JOINTS, "desired_goal": JOINTS}, "a"))
    assert found["achieved_goal"].kind == "state/joint/position"
    assert found["desired_goal"].kind is None


def test_a_joint_with_two_positions_has_none() -> None:
    found = observation_semantics(
        robot({"now": JOINTS, "wanted": "hip.position [rad]", "v": SPEEDS}, "a")
    )
    assert [found[key].kind for key in found] == [None, None, "state/joint/velocity"]
    assert found["now"].names == ("hip.position", "slide.position")


@pytest.mark.parametrize(
    ("action", "kind"),
    [
        ("hip [rad], slide [m]", "target/joint/position"),
        ("hip [rad/s], slide [m/s]", "target/joint/velocity"),
        ("hip [N m], slide [N]", "target/joint/effort"),
        ("hip [150 N m], slide [N]", None),
        ("hip [rad], slide [N]", None),
        ("hip, slide", None),
        ("hip [N m], motor [N m]", None),  # not a joint that is observed
    ],
)
def test_an_action_needs_joints_and_a_unit_without_a_factor(action: str, kind: str | None) -> None:
    assert action_semantics(robot({"q": JOINTS}, action)).kind == kind


def test_arrays_of_several_axes_and_values_of_a_discrete_action_have_no_element_names() -> None:
    spec = robot({"q": JOINTS}, "left, right, up, down", ACTION_SPACES["discrete"])
    assert action_semantics(spec).names == ()
    grid = replace(
        spec,
        observation_space=DictSpace({"q": box(2, 1)}),
    )
    assert observation_semantics(grid) == {}


def test_kinds_are_in_the_file(tmp_path: Path) -> None:
    folder = write(robot_policy(tmp_path / "policy.onnx", ("q", "v")), tmp_path / "leapp")
    value = described(folder)
    q, v = value["models"]["policy"]["inputs"]
    assert (q["name"], q["kind"], q["element_names"]) == (
        "q",
        "state/joint/position",
        [[], ["hip", "slide"]],
    )
    assert v["units"] == ["m/s", "rad/s"]
    assert value["models"]["policy"]["outputs"][0]["kind"] == "target/joint/effort"
    assert value["pipeline"]["configs"]["frequency"] == pytest.approx(125, rel=1e-15)
    assert value["models"]["policy"]["parameters"]["opset_version"] > 0
    readme = (folder / "README.md").read_text()
    assert "state/joint/velocity" in readme
    assert "unknown" not in readme


def test_names_are_read_as_text_whatever_they_look_like(tmp_path: Path) -> None:
    folder = write(robot_policy(tmp_path / "policy.onnx", ODD), tmp_path / "leapp")
    # YAML 1.1, which LEAPP reads, and 1.2, which C++ reads, take other words for numbers.
    value = described(folder)
    assert value["pipeline"]["inputs"]["policy"] == list(ODD)
    assert read_yaml(folder / "pol.yaml") == value


def test_a_slash_in_a_key_is_refused(tmp_path: Path) -> None:
    path = write_policy(tmp_path / "policy.onnx", DictSpace({"arm/q": box(2), "v": box(2)}))
    done = run_cli("export", path, "--target", "leapp", "-o", tmp_path / "leapp")
    done.assert_one_clear_line("'arm/q'", "slash")
    assert not (tmp_path / "leapp").exists()


def test_a_dtype_that_leapp_lacks_is_refused(tmp_path: Path) -> None:
    onnx_path = make(tmp_path / "model", **KINDS[REFUSED])
    done = run_cli("export", onnx_path, "--target", "leapp", "-o", tmp_path / "leapp")
    done.assert_one_clear_line("uint16", "'obs'", "int32")
    assert not (tmp_path / "leapp").exists()


def test_an_unknown_period_gives_no_frequency(tmp_path: Path) -> None:
    folder = write(write_policy(tmp_path / "policy.onnx"), tmp_path / "leapp")
    assert "configs" not in described(folder)["pipeline"]


def test_stacked_frames_are_fed_back(tmp_path: Path) -> None:
    folder = write(make(tmp_path / "model", **KINDS["stack of vectors"]), tmp_path / "leapp")
    value = described(folder)
    assert value["pipeline"]["feedback_flow"] == {"policy/next_state_obs": ["policy/state_obs"]}
    assert value["pipeline"]["inputs"] == {"policy": ["obs"]}
    assert value["pipeline"]["outputs"] == {"policy": ["action"]}


def _swap_inputs(value: Any) -> None:
    value["models"]["policy"]["inputs"].reverse()


def _one_input(value: Any) -> None:
    del value["models"]["policy"]["inputs"][1]
    value["pipeline"]["feedback_flow"] = {}
    value["pipeline"]["outputs"]["policy"].append("next_state_obs")


def _other_dtype(value: Any) -> None:
    value["models"]["policy"]["inputs"][0]["dtype"] = "float64"


def _unknown_dtype(value: Any) -> None:
    value["models"]["policy"]["inputs"][0]["dtype"] = "uint16"


def _other_shape(value: Any) -> None:
    value["models"]["policy"]["outputs"][0]["shape"] = [1, 7]


def _other_hash(value: Any) -> None:
    value["models"]["policy"]["parameters"]["sha256sum"] = "0" * 64


def _other_folder(value: Any) -> None:
    value["models"]["policy"]["parameters"]["model_path"] = "../model/policy.onnx"


def _other_backend(value: Any) -> None:
    value["models"]["policy"]["parameters"]["backend"] = "jit"


def _no_feedback(value: Any) -> None:
    value["pipeline"]["feedback_flow"] = {}


def _state_from_outside(value: Any) -> None:
    value["pipeline"]["feedback_flow"] = {}
    value["pipeline"]["inputs"]["policy"].append("state_obs")
    value["pipeline"]["outputs"]["policy"].append("next_state_obs")


def _no_models(value: Any) -> None:
    del value["models"]


def _models_as_a_list(value: Any) -> None:
    value["models"] = [1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_swap_inputs, "inputs > 0 > name is 'state_obs', expected 'obs'"),
        (_other_dtype, "inputs > 0 > dtype is 'float64', expected 'float32'"),
        (_unknown_dtype, "dtype is 'uint16', expected 'float32'"),
        (_other_shape, "outputs > 0 > shape > 1 is 7, expected 3"),
        (_one_input, "policy > inputs is"),
        (_other_hash, "SHA-256"),
        (_other_folder, "beside it"),
        (_other_backend, "beside it"),
        (_no_feedback, "its pipeline has the inputs"),
        (_state_from_outside, "feedback_flow > policy/next_state_obs is None, expected"),
        (_no_models, "not a LEAPP description"),
        (_models_as_a_list, "not a LEAPP description"),
    ],
)
def test_a_changed_description_is_one_line(change: Any, says: str, tmp_path: Path) -> None:
    onnx_path = make(tmp_path / "model", observation_space=BOX, frames=2)
    folder = write(onnx_path, tmp_path / "leapp", verify=False)
    value = described(folder)
    change(value)
    (folder / "pol.yaml").write_text(yaml.safe_dump(value, sort_keys=False))
    run_cli("verify", onnx_path, folder).assert_one_clear_line(says)


def _other_order(value: Any) -> None:
    value["models"]["policy"]["outputs"][0]["element_names"][1].reverse()


def _other_unit(value: Any) -> None:
    value["models"]["policy"]["inputs"][0]["units"][0] = "deg"


def _other_kind(value: Any) -> None:
    value["models"]["policy"]["inputs"][1]["kind"] = "state/joint/position"


def _other_frequency(value: Any) -> None:
    value["pipeline"]["configs"]["frequency"] = 500


def _no_frequency(value: Any) -> None:
    del value["pipeline"]["configs"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_other_order, "element_names > 1 > 0 is 'hip', expected 'slide'"),
        (_other_unit, "units > 0 is 'deg', expected 'rad'"),
        (_other_kind, "kind is 'state/joint/position'"),
        (_other_frequency, "frequency is 500, expected 125"),
        (_no_frequency, "configs is None"),
    ],
)
def test_what_a_robot_would_do_wrongly_is_one_line(change: Any, says: str, tmp_path: Path) -> None:
    onnx_path = robot_policy(tmp_path / "policy.onnx", ("q", "v"))
    folder = write(onnx_path, tmp_path / "leapp", verify=False)
    value = described(folder)
    change(value)
    (folder / "pol.yaml").write_text(yaml.safe_dump(value))
    run_cli("verify", onnx_path, folder).assert_one_clear_line(says)


def test_a_description_may_say_more(tmp_path: Path) -> None:
    onnx_path = write_policy(tmp_path / "policy.onnx")
    folder = write(onnx_path, tmp_path / "leapp", verify=False)
    value = described(folder)
    value["models"]["policy"]["inputs"][0]["kind"] = "state/body/rotation"
    (folder / "pol.yaml").write_text(yaml.safe_dump(value))
    done = run_cli("verify", onnx_path, folder)
    assert done.code == 0, done.error


def test_another_file_in_the_folder_is_one_line(tmp_path: Path) -> None:
    onnx_path = robot_policy(tmp_path / "policy.onnx", ("q", "v"))
    folder = write(onnx_path, tmp_path / "leapp", verify=False)
    value = json.loads((folder / "policy.json").read_text())
    value["spec"]["period"] = 0.5
    (folder / "policy.json").write_text(json.dumps(value))
    run_cli("verify", onnx_path, folder).assert_one_clear_line("another policy")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "- 1",
        "a: [",
        "a: !!python/name:os.system",
        "\x00",
        "models: &a {policy: *a}",
        "[" * 5000,
    ],
)
def test_what_is_not_a_description_is_one_line(content: str, tmp_path: Path) -> None:
    folder = write(write_policy(tmp_path / "policy.onnx"), tmp_path / "leapp", verify=False)
    (folder / "pol.yaml").write_text(content)
    run_cli("verify", tmp_path / "policy.onnx", folder).assert_one_clear_line("pol.yaml")
    (folder / "pol.yaml").unlink()
    run_cli("verify", tmp_path / "policy.onnx", folder).assert_one_clear_line("pol.yaml")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "pol.yaml"
    with path.open("wb") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(ExportError, match="larger than 16 MiB"):
        LeappGraph(path)
