"""OnnxPolicy gives a legal action for every space and one clear error for every bad input."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from tests.runtime.policy_files import (
    ACTION_SPACES,
    OBSERVATION_SPACES,
    box,
    make_spec,
    write_policy,
)
from tests.runtime.slow_policy import FAST, SLOW, write_slow_policy
from trpo_deploy.errors import ObservationError, PolicyFileError, PolicyStoppedError
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.spaces import DictSpace, MultiBinarySpace, Space

MODELS = Path(__file__).parents[2] / "models"


@pytest.fixture
def policy(tmp_path: Path) -> OnnxPolicy:
    return OnnxPolicy(write_policy(tmp_path / "policy.onnx"))


def test_the_runtime_imports_no_heavy_package() -> None:
    code = (
        "import sys, trpo_deploy.runtime\n"
        "heavy = 'torch stable_baselines3 onnx gymnasium bentoml pydantic yaml'.split()\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("observation", OBSERVATION_SPACES)
@pytest.mark.parametrize("action", ACTION_SPACES)
def test_actions_are_legal_for_every_pair_of_spaces(
    tmp_path: Path, observation: str, action: str
) -> None:
    space = ACTION_SPACES[action]
    file = write_policy(tmp_path / "p.onnx", OBSERVATION_SPACES[observation], space)
    policy = OnnxPolicy(file)
    rng = np.random.default_rng(0)
    for _ in range(5):
        value, state = policy.predict(policy.spec.sample_observation(rng))
        assert state is None
        assert value.shape == space.shape
        assert value.dtype == space.dtype
        space.check_values(value[np.newaxis], "action")
        if action == "box":
            assert (abs(value) <= [1, 2]).all()


@pytest.mark.parametrize("observation", OBSERVATION_SPACES)
def test_a_batch_gives_the_same_actions_as_its_rows(tmp_path: Path, observation: str) -> None:
    policy = OnnxPolicy(write_policy(tmp_path / "p.onnx", OBSERVATION_SPACES[observation]))
    rng = np.random.default_rng(1)
    rows = [policy.spec.sample_observation(rng) for _ in range(7)]
    batch = _stack(rows)
    actions, _ = policy.predict(batch)
    singles = np.stack([policy.predict(row)[0] for row in rows])
    # The same float32 sums, in the order that the batched product takes them.
    np.testing.assert_allclose(actions, singles, rtol=0, atol=1e-5)
    assert actions.shape == (7, 2)


def _stack(rows: list[Any]) -> Any:
    if isinstance(rows[0], dict):
        return {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    return np.stack(rows)


def test_lists_and_integers_give_the_action_of_the_array(policy: OnnxPolicy) -> None:
    want, _ = policy.predict(np.array([1, 2, 3, 4], np.float32))
    for same in ([1, 2, 3, 4], (1.0, 2, 3, 4), np.arange(1, 5, dtype=np.float64)):
        np.testing.assert_array_equal(policy.predict(same)[0], want)


def test_an_array_that_is_not_contiguous_gives_the_same_action(policy: OnnxPolicy) -> None:
    wide = np.arange(16, dtype=np.float32).reshape(4, 4)
    want, _ = policy.predict(wide[:, 1].copy())
    np.testing.assert_array_equal(policy.predict(wide[:, 1])[0], want)


def test_an_empty_batch_gives_an_empty_batch_of_actions(policy: OnnxPolicy) -> None:
    actions, _ = policy.predict(np.zeros((0, 4), np.float32))
    assert actions.shape == (0, 2)


def test_large_finite_numbers_are_not_taken_for_infinities(policy: OnnxPolicy) -> None:
    # Their sum overflows float32, which a check by sums would take for an infinity.
    action, _ = policy.predict(np.full(4, 3e38, np.float32))
    assert (abs(action) <= [1, 2]).all()


@pytest.mark.parametrize(
    ("bad", "received", "kind"),
    [
        ([1, 2, 3], "shape (3,)", "shape"),
        (np.zeros((2, 2, 4), np.float32), "shape (2, 2, 4)", "shape"),
        (np.zeros((4, 4, 4), np.float32), "shape (4, 4, 4)", "shape"),
        (None, "null", "dtype"),
        ([True, 0, 0, 0], "true or false", "dtype"),
        ([[1, 2, 3, 4], [1, 2]], "uneven", "ragged"),
        (["1", "2", "3", "4"], "text", "dtype"),
        ([None] * 4, "null", "dtype"),
        ([1, 2, 3, 10**400], "1329 bits", "out_of_range"),
        (np.zeros(4, complex), "complex", "dtype"),
        ([1, 2, 3, float("nan")], "nan", "not_finite"),
        (np.array([1, 2, 3, np.inf], np.float32), "inf", "not_finite"),
        ([1, 2, 3, float("-inf")], "-inf", "not_finite"),
        ([1, 2, 3, 1e39], "inf", "not_finite"),
        ({"obs": [1, 2, 3, 4]}, "keys", "extra_key"),
    ],
)
def test_the_error_says_what_is_wrong_with_an_observation(
    policy: OnnxPolicy, bad: object, received: str, kind: str
) -> None:
    with pytest.raises(ObservationError) as caught:
        policy.predict(bad)
    assert caught.value.field == "obs"
    assert received in caught.value.received
    assert caught.value.kind == kind


@pytest.mark.parametrize(
    ("space", "bad"),
    [
        ("discrete", 4),
        ("discrete", -2),
        ("discrete", 1.0),
        ("multi_discrete", [3, 1]),
        ("multi_discrete", [0, 0]),
        ("multi_binary", [0, 1, 2, 0, 0, 0]),
        ("multi_binary", [0, 1, 0.5, 0, 0, 0]),
        ("image", np.zeros((12, 12, 3), np.float32)),
        ("image", np.full((12, 12, 3), 256)),
        ("image", np.full((12, 12, 3), -1)),
    ],
)
def test_a_value_outside_the_space_is_refused(tmp_path: Path, space: str, bad: object) -> None:
    policy = OnnxPolicy(write_policy(tmp_path / "p.onnx", OBSERVATION_SPACES[space]))
    with pytest.raises(ObservationError):
        policy.predict(bad)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda obs: {k: v for k, v in obs.items() if k != "goal"}, "goal"),
        (lambda obs: {**obs, "extra": 1}, "extra"),
        (lambda obs: {**obs, "joints": [1, 2, 3]}, "joints"),
        (lambda obs: {**obs, "joints": [[1, 2]]}, "camera"),  # one key batched, the others not
        (lambda obs: obs["joints"], "camera"),
    ],
)
def test_the_error_names_the_key(tmp_path: Path, change: Any, field: str) -> None:
    policy = OnnxPolicy(write_policy(tmp_path / "p.onnx", OBSERVATION_SPACES["dict"]))
    good = policy.spec.sample_observation(np.random.default_rng(0))
    policy.predict(good)
    with pytest.raises(ObservationError) as caught:
        policy.predict(change(good))
    assert caught.value.field == field


def test_keys_of_different_batch_sizes_are_refused(tmp_path: Path) -> None:
    space = DictSpace({"a": box(2), "b": box(3)})
    policy = OnnxPolicy(write_policy(tmp_path / "p.onnx", space))
    with pytest.raises(ObservationError, match="one batch size"):
        policy.predict({"a": np.zeros((2, 2)), "b": np.zeros((3, 3))})


def test_threads_get_the_actions_of_a_single_thread(policy: OnnxPolicy) -> None:
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(200, 4)).astype(np.float32)
    want = [policy.predict(row)[0] for row in rows]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(lambda row: policy.predict(row)[0], rows))
    np.testing.assert_array_equal(got, want)


def test_a_model_folder_stands_for_its_file(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match=r"policy\.onnx"):
        OnnxPolicy(tmp_path)
    policy = OnnxPolicy(MODELS / "Hopper-v5")
    assert policy.path == MODELS / "Hopper-v5" / "policy.onnx"
    assert OnnxPolicy(str(MODELS / "Hopper-v5")).sha256 == policy.sha256


def test_the_error_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PolicyFileError, match=r"cannot read .*nothing\.onnx: No such file"):
        OnnxPolicy(tmp_path / "nothing.onnx")


@pytest.mark.parametrize("content", [b"", b"no onnx", b"\x00" * 100, b"PK\x03\x04zip"])
def test_content_that_is_not_onnx_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "p.onnx"
    file.write_bytes(content)
    with pytest.raises(PolicyFileError) as caught:
        OnnxPolicy(file)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    file = write_policy(tmp_path / "p.onnx")
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(PolicyFileError):
        OnnxPolicy(file)


def test_a_file_of_another_tool_is_refused_with_the_command_to_run(tmp_path: Path) -> None:
    file = write_policy(tmp_path / "p.onnx", metadata="")
    with pytest.raises(PolicyFileError, match="trpo-deploy export"):
        OnnxPolicy(file)


@pytest.mark.parametrize("text", ["no json", "[]", "{}", '{"format_version": 1}'])
def test_a_spec_that_cannot_be_read_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(PolicyFileError, match="cannot be read"):
        OnnxPolicy(write_policy(tmp_path / "p.onnx", metadata=text))


def test_a_spec_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    text = '{"format_version": 99}'
    with pytest.raises(PolicyFileError, match="format version 99, expected 1 or 2"):
        OnnxPolicy(write_policy(tmp_path / "p.onnx", metadata=text))


@pytest.mark.parametrize("wrong", ["inputs", "outputs", "shape", "dtype", "batch"])
def test_a_graph_that_differs_from_its_spec_is_refused(tmp_path: Path, wrong: str) -> None:
    spec = make_spec(OBSERVATION_SPACES["box"], ACTION_SPACES["box"])
    value = json.loads(spec.to_json())
    other: dict[str, Space | DictSpace] = {
        "inputs": DictSpace({"other": box(4)}),
        "shape": box(5),
        "dtype": MultiBinarySpace((4,)),
    }
    file = tmp_path / "p.onnx"
    if wrong in other:
        value["observation_space"] = other[wrong].to_json()
    elif wrong == "outputs":
        value["outputs"].append({"name": "value", "dtype": "float32", "shape": ["batch"]})
    write_policy(file, metadata=json.dumps(value))
    if wrong == "batch":
        model = onnx.load(str(file))
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
        onnx.save(model, file)
    with pytest.raises(PolicyFileError, match="export the policy again"):
        OnnxPolicy(file)


@pytest.mark.parametrize("location", ["weights.bin", "../elsewhere/weights.bin", "/etc/hostname"])
def test_a_file_with_external_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, location: str
) -> None:
    file = write_policy(tmp_path / "p.onnx")
    monkeypatch.chdir(tmp_path)
    model = onnx.load(str(file))
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 2)
    (tmp_path / "weights.bin").write_bytes(weight.raw_data)
    weight.ClearField("raw_data")
    weight.data_location = onnx.TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", location
    file.write_bytes(model.SerializeToString())
    with pytest.raises(PolicyFileError):
        OnnxPolicy(file)


def test_a_file_with_the_mode_only_refuses_to_sample(policy: OnnxPolicy) -> None:
    with pytest.raises(PolicyFileError, match="deterministic"):
        policy.predict(np.zeros(4, np.float32), deterministic=False)


def test_a_run_can_be_stopped_from_another_thread(tmp_path: Path) -> None:
    policy = OnnxPolicy(write_slow_policy(tmp_path / "policy.onnx"))
    before, _ = policy.predict(FAST)
    timer = threading.Timer(0.5, policy.stop)
    timer.start()
    with pytest.raises(PolicyStoppedError, match="was stopped"):
        policy.predict(SLOW)
    timer.join()
    np.testing.assert_array_equal(policy.predict(FAST)[0], before)
