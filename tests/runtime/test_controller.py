"""A controller fits its policy and its robot, and its calls never fail, whatever they are given."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.runtime.control_policy import write_linear_policy
from tests.runtime.policy_files import (
    ACTION_SPACES,
    OBSERVATION_SPACES,
    box,
    make_spec,
    write_policy,
)
from trpo_deploy.errors import ControlError
from trpo_deploy.runtime import Controller, OnnxPolicy, Session
from trpo_deploy.spec.components import Component
from trpo_deploy.spec.spaces import BoxSpace, DictSpace, DiscreteSpace

POLICY = json.loads(Path(__file__).with_name("controller_cases.json").read_text())["policy"]
USABLE = [0.5, 0.25, 1.0]


@pytest.fixture
def policy(tmp_path: Path) -> OnnxPolicy:
    return OnnxPolicy(write_linear_policy(tmp_path / "policy.onnx", POLICY))


def still(policy: OnnxPolicy, **settings: Any) -> Controller:
    """A controller whose clock stands still, so that no call is late."""
    return Controller(policy, **{"period": 0.125, "clock": lambda: 0.0, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"period": 0.002}, r"0\.002 s \(500 Hz\).*trained with 0\.125 s \(8 Hz\)"),
        ({"period": 0.1265}, "period"),
        ({"period": 0}, "positive"),
        ({"period": float("nan")}, "positive"),
        ({"period_tolerance": -1}, "period_tolerance"),
        ({"observation_order": ["a", "b"]}, "missing: 'c'"),
        ({"observation_order": ["a", "b", "c", "d"]}, "unknown: 'd'"),
        ({"observation_order": ["a", "b", "b"]}, "missing: 'c'; doubled: 'b'"),
        ({"observation_order": {"obs": ["a", "b", "c"]}}, "expected a list"),
        ({"observation_order": "abc"}, "expected a list"),
        ({"action_order": ["x"]}, "the action.*missing: 'y'"),
        ({"action_order": "xy"}, "expected a list"),
        ({"action_order": []}, "missing: 'x', 'y'"),
        ({"action_order": 2}, "expected a list of names"),
        ({"action_order": [["x"], "y"]}, r"has \['x'\], expected names"),
        ({"action_order": [0, 1]}, "has 0, expected names"),
        ({"max_age": -1}, "max_age"),
        ({"max_age": float("nan")}, "max_age"),
        ({"max_delay": "1"}, "max_delay"),
        ({"max_hold": True}, "max_hold"),
        ({"on_fault": "stop"}, "hold, safe, raise"),
        ({"safe_action": [0, 5]}, "the safe action contains 5"),
        ({"safe_action": [0, float("nan")]}, "NaN"),
        ({"safe_action": [0, 0, 0]}, "3 numbers, expected 2"),
        ({"safe_action": {"x": 0}}, "missing: 'y'"),
        ({"safe_action": "left"}, "not a number"),
        ({"safe_action": "0"}, "not a number"),
        ({"safe_action": {"x": 0, "y": "0"}}, "not a number"),
        ({"rate_limit": ["1", "1"]}, "not a number"),
        ({"clock": 0.0}, "clock is 0.0"),
        ({"rate_limit": 0}, "positive"),
        ({"rate_limit": {"z": 1}}, "unknown: 'z'"),
        ({"rate_limit": {"x": float("nan")}}, "NaN"),
        ({"blend_in": -1}, "at least 0"),
        ({"blend_in": float("inf")}, "at least 0"),
        ({"observation_range": {"z": (0, 1)}}, "'z', which the file does not have"),
        ({"observation_range": {"a": (1, 0)}}, "low <= high"),
        ({"observation_range": {"a": (float("nan"), 0)}}, "low <= high"),
        ({"observation_range": {"a": 1}}, "two numbers"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(
    policy: OnnxPolicy, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ControlError, match=message):
        Controller(policy, **{"period": 0.125, **settings})


def test_an_order_may_be_an_iterator(policy: OnnxPolicy) -> None:
    controller = still(policy, observation_order=iter("cba"), action_order=iter("yx"))
    np.testing.assert_array_equal(controller.act(USABLE[::-1]), [1.5, 0.5])


def test_a_period_within_the_tolerance_is_accepted(policy: OnnxPolicy) -> None:
    Controller(policy, period=0.126)
    Controller(policy, period=0.15, period_tolerance=0.2)


def test_what_the_file_does_not_know_must_be_told(tmp_path: Path) -> None:
    plain = OnnxPolicy(write_policy(tmp_path / "plain.onnx"))
    with pytest.raises(ControlError, match="safe action; pass safe_action"):
        Controller(plain, period=0.01)
    orders: list[Any] = [{"observation_order": ["x", "y"]}, {"action_order": ["x", "y"]}]
    for order in orders:
        with pytest.raises(ControlError, match="does not name the numbers"):
            Controller(plain, period=0.01, safe_action=0, **order)
    with pytest.raises(ControlError, match="has no names; pass a list"):
        Controller(plain, period=0.01, safe_action={"x": 0, "y": 0})
    Controller(plain, period=0.01, safe_action=0)


NUMBERLESS: list[Any] = [
    None,
    "text",
    b"",
    Ellipsis,
    [],
    [1.0],
    [[1.0, 2.0, 3.0]],
    [1.0, [2.0], 3.0],
    ["1", "2", "3"],
    [1j, 0, 0],
    [None, 0, 0],
    [10**400, 0, 0],
    {"obs": USABLE},
    np.zeros(2),
    np.array(["2020-01-01"] * 3, "datetime64[D]"),
]


@pytest.mark.parametrize("observation", NUMBERLESS, ids=repr)
def test_whatever_is_no_observation_is_malformed_and_gives_the_safe_action(
    policy: OnnxPolicy, observation: Any
) -> None:
    controller = still(policy)
    np.testing.assert_array_equal(controller.act(observation), POLICY["safe_action"])
    assert controller.stats.faults["malformed"] == 1
    np.testing.assert_array_equal(controller.act(USABLE), [0.5, 1.5])


STAMPS: list[Any] = ["now", object(), [0.0], None, 1j, 10**5000, np.zeros(2), np.array(["0"])]


@pytest.mark.parametrize("stamp", STAMPS, ids=lambda stamp: type(stamp).__name__)
def test_a_stamp_that_is_no_time_is_stale(policy: OnnxPolicy, stamp: Any) -> None:
    controller = still(policy, max_age=1)
    controller.act(USABLE, stamp)
    assert controller.stats.faults["stale"] == 1


def test_a_stamp_that_the_driver_overwrites_was_its_time(policy: OnnxPolicy) -> None:
    controller, stamp = still(policy, max_age=1), np.array(0.5)
    controller.act(USABLE, stamp)  # type: ignore[arg-type]
    stamp[...] = 0.25
    controller.act(USABLE, stamp)  # type: ignore[arg-type]
    assert controller.stats.faults["stale"] == 1


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int8", "int64", "bool"])
def test_numbers_of_any_real_dtype_are_an_observation(policy: OnnxPolicy, dtype: str) -> None:
    action = still(policy).act(np.array([1, 0, 1], dtype))
    np.testing.assert_array_equal(action, [1, 1])


def test_on_request_a_fault_is_an_error_that_names_the_number(policy: OnnxPolicy) -> None:
    controller = still(policy, on_fault="raise", observation_order=["c", "b", "a"])
    assert controller.act([1, 0.25, 0.5]).tolist() == [0.5, 1.5]
    with pytest.raises(
        ControlError, match=r"'a' in \[-1e\+06, 1e\+06\], received 1e\+30"
    ) as raised:
        controller.act([1, 0.25, 1e30])
    assert raised.value.cause == "out_of_range"
    with pytest.raises(ControlError, match=r"expected 'c' in .*, received nan") as raised:
        controller.act([np.nan, 1e30, 0.5])
    assert raised.value.cause == "not_finite"
    assert controller.stats.faults["not_finite"] == 1


def test_an_action_that_is_not_finite_is_a_fault_of_the_policy(tmp_path: Path) -> None:
    table = {**POLICY, "weights": [[np.nan, 0], [0, 1], [0, 1]]}
    controller = still(OnnxPolicy(write_linear_policy(tmp_path / "nan.onnx", table)))
    np.testing.assert_array_equal(controller.act(USABLE), POLICY["safe_action"])
    assert controller.stats.faults["policy"] == 1


def test_a_caller_may_keep_and_change_an_action(policy: OnnxPolicy) -> None:
    controller = still(policy)
    first = controller.act(USABLE)
    kept = first.copy()
    first[:] = 100
    np.testing.assert_array_equal(controller.act([np.nan] * 3), kept)
    second = controller.act([-0.5, 0, 1])
    np.testing.assert_array_equal(controller.act(USABLE), kept)
    np.testing.assert_array_equal(second, [-0.5, 1])


@pytest.mark.parametrize("observation", OBSERVATION_SPACES)
@pytest.mark.parametrize("action", ACTION_SPACES)
def test_without_orders_it_is_the_policy_for_every_pair_of_spaces(
    tmp_path: Path, observation: str, action: str
) -> None:
    file = write_policy(tmp_path / "p.onnx", OBSERVATION_SPACES[observation], ACTION_SPACES[action])
    policy = OnnxPolicy(file)
    safe = {"discrete": 3, "multi_discrete": [1, 6]}.get(action, 1)
    controller = still(policy, safe_action=safe)
    rng = np.random.default_rng(0)
    for _ in range(5):
        observed = policy.spec.sample_observation(rng)
        expected, _ = policy.predict(observed)
        given = controller.act(observed)
        np.testing.assert_array_equal(given, expected)
        assert given.dtype == expected.dtype
        assert given.shape == expected.shape
    assert sum(controller.stats.faults.values()) == 0


def test_integers_outside_their_space_are_out_of_range(tmp_path: Path) -> None:
    spaces = ACTION_SPACES["discrete"], ACTION_SPACES["multi_discrete"]
    controller = still(OnnxPolicy(write_policy(tmp_path / "p.onnx", *spaces)), safe_action=[0, 7])
    for wrong in (1, 6, -(2**40)):
        np.testing.assert_array_equal(controller.act(wrong), [0, 7])
    assert controller.stats.faults["out_of_range"] == 3
    controller.act(2.0)
    assert controller.stats.faults["malformed"] == 1


def test_discrete_actions_refuse_what_needs_real_numbers(tmp_path: Path) -> None:
    policy = OnnxPolicy(write_policy(tmp_path / "p.onnx", None, ACTION_SPACES["discrete"]))
    transitions: list[Any] = [{"rate_limit": 1}, {"blend_in": 1}]
    for settings in transitions:
        with pytest.raises(ControlError, match="real numbers"):
            Controller(policy, period=1, safe_action=2, **settings)
    with pytest.raises(ControlError, match="leave action_order out"):
        Controller(policy, period=1, safe_action=2, action_order=["left"])
    with pytest.raises(ControlError, match="integers"):
        Controller(policy, period=1, safe_action=2.5)
    with pytest.raises(ControlError, match="the safe action"):
        Controller(policy, period=1, safe_action=6)


def test_keys_have_an_order_each(tmp_path: Path) -> None:
    space = DictSpace({"arm": box(2), "goal": DiscreteSpace(3), "leg": box(2, 2)})
    names = {"arm": ("a", "b"), "leg": ("a", "p", "q", "r")}
    components = {key: tuple(map(Component, each)) for key, each in names.items()}
    spec = make_spec(space, ACTION_SPACES["box"], observation_components=components)
    policy = OnnxPolicy(write_policy(tmp_path / "p.onnx", space, metadata=spec.to_json()))
    controller = still(
        policy,
        safe_action=0,
        observation_order={"leg": ["r", "a", "q", "p"], "arm": ["b", "a"]},
        observation_range={"q": (-5, 5)},
    )
    given: dict[str, Any] = {"arm": [2, 1], "goal": 2, "leg": [6, 3, 5, 4]}
    expected, _ = policy.predict({"arm": [1, 2], "goal": 2, "leg": [[3, 4], [5, 6]]})
    np.testing.assert_array_equal(controller.act(given), expected)
    wrong: list[Any] = [
        {**given, "leg": [6, 3, 5.5, 4]},
        {**given, "extra": 1},
        {"arm": [2, 1]},
        [1, 2],
        {**given, "leg": [[3, 4], [5, 6]]},
    ]
    for each in wrong:
        np.testing.assert_array_equal(controller.act(each), expected)
    assert controller.stats.faults["out_of_range"] == 1
    assert controller.stats.faults["malformed"] == 4
    orders: list[Any] = [["a", "b"], {"hand": ["a"]}, {"goal": ["g"]}]
    for order in orders:
        with pytest.raises(ControlError):
            still(policy, safe_action=0, observation_order=order)
    with pytest.raises(ControlError, match="several keys"):
        still(policy, safe_action=0, observation_range={"a": (0, 1)})


def test_earlier_frames_are_kept_and_a_fault_does_not_change_them(tmp_path: Path) -> None:
    policy = OnnxPolicy(write_policy(tmp_path / "p.onnx", box(4), frames=3))
    session, controller = Session(policy), still(policy, safe_action=0)
    rng = np.random.default_rng(0)
    for episode in range(2):
        session.reset()
        controller.reset()
        for _ in range(4):
            observation = rng.normal(size=4)
            np.testing.assert_array_equal(controller.act(observation), session.act(observation))
            controller.act(observation * np.nan)
        assert controller.stats.faults["not_finite"] == 4 * (episode + 1)


def test_the_largest_float32_as_a_bound_means_no_bound(tmp_path: Path) -> None:
    limit = float(np.finfo(np.float32).max)
    file = write_policy(tmp_path / "p.onnx", box(4, low=-limit, high=limit))
    controller = still(OnnxPolicy(file), safe_action=0)
    controller.act([1e30, 0, 0, 0])
    assert controller.stats.faults["out_of_range"] == 1


@pytest.mark.parametrize("limit", [0.1, 0.7])  # float32 rounds one up and one down
def test_a_stated_bound_is_in_its_range_in_every_dtype(policy: OnnxPolicy, limit: float) -> None:
    controller = still(policy, observation_range={"a": (-limit, limit)})
    for dtype in ("float32", "float64"):
        for sign in (-1, 1):
            controller.act(np.array([sign * limit, 0, 1], dtype))
    assert sum(controller.stats.faults.values()) == 0
    controller.act([limit + 1e-6, 0, 1])
    assert controller.stats.faults["out_of_range"] == 1


def test_many_numbers_are_checked_like_few(tmp_path: Path) -> None:
    controller = still(OnnxPolicy(write_policy(tmp_path / "p.onnx", box(10, 10))), safe_action=0)
    good = np.zeros((10, 10))
    for wrong, cause in ((np.nan, "not_finite"), (1e30, "out_of_range"), ("x", "malformed")):
        for index in (0, 57, 99):
            bad = good.astype(object)
            bad.flat[index] = wrong
            controller.act(bad if cause == "malformed" else bad.astype(float))
        assert controller.stats.faults[cause] == 3  # type: ignore[index]
    controller.act(good)
    assert sum(controller.stats.faults.values()) == 9


def test_a_number_beyond_float32_is_out_of_range(policy: OnnxPolicy) -> None:
    controller = still(policy)
    controller.act([1e300, 0, 1])
    assert controller.stats.faults["out_of_range"] == 1


def test_a_float64_input_keeps_its_precision(tmp_path: Path) -> None:
    controller = still(OnnxPolicy(write_policy(tmp_path / "p.onnx", box(4))), safe_action=0)
    values = np.array([0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(controller.act(values), controller.act(np.float32(values)))


def test_calls_collect_no_garbage_and_keep_no_memory(policy: OnnxPolicy) -> None:
    collections: list[Any] = []

    def count(phase: str, info: Mapping[str, int]) -> None:
        collections.append((phase, info))

    controller = Controller(
        policy,
        period=0.125,
        observation_order=["c", "b", "a"],
        action_order=["y", "x"],
        rate_limit=1,
        blend_in=0.5,
        max_age=100,
        max_delay=100,
    )
    good, bad = np.array([1, 0, 0.5], np.float32), np.array([1, np.nan, 0.5], np.float32)

    def calls(number: int) -> None:
        for _ in range(number):
            controller.act(good, 0.0)
            controller.act(bad, 0.0)

    calls(100)
    gc.collect()
    thresholds = gc.get_threshold()
    gc.set_threshold(700)  # Python's own; the tests have a higher one
    gc.callbacks.append(count)
    tracemalloc.start()
    try:
        calls(500)
        before, _ = tracemalloc.get_traced_memory()
        calls(2500)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        gc.callbacks.remove(count)
        gc.set_threshold(*thresholds)
    assert collections == []
    assert after - before < 1000  # bytes; a number kept for each call would be 140 kB


def test_two_controllers_share_a_policy(policy: OnnxPolicy) -> None:
    one, two = still(policy), still(policy)
    first = one.act(USABLE)
    two.act([-0.5, 0, 1])
    np.testing.assert_array_equal(one.act([np.nan] * 3), first)


def test_bounds_that_float32_rounds_still_hold_after_a_blend(tmp_path: Path) -> None:
    space = BoxSpace(np.full(64, -0.1), np.full(64, 0.1))
    file = write_policy(tmp_path / "p.onnx", box(4), space)
    controller = still(OnnxPolicy(file), safe_action=0.1, blend_in=5.0)
    for _ in range(39):  # then the action is the file's own
        action = controller.act([100, -100, 100, 100]).astype(np.float64)
        assert ((action >= -0.1) & (action <= 0.1)).all()
