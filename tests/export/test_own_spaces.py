"""A space of the user's own class is refused with two ways out, and both of them work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from tests.command import run_cli
from tests.export.own_spaces import Gears, Meters
from tests.export.policies import BOX, make_model, save, statistics_for
from trpo_deploy.export import export_model
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.spaces import BoxSpace, DiscreteSpace

ALLOW = ("--allow-import", "tests.export.own_spaces:Meters")


def test_an_allowed_space_is_exported_with_its_bounds(tmp_path: Path) -> None:
    model = make_model(Meters(3.0, 4), Meters(0.5, 2))
    save(model, tmp_path)
    run = run_cli("export", tmp_path)
    run.assert_one_clear_line("own_spaces.Meters", "--allow-import module:Class", "export_model")
    assert [path.name for path in tmp_path.iterdir()] == ["policy.zip"]
    run = run_cli("export", tmp_path, *ALLOW)
    assert run.code == 0, run.error
    policy = OnnxPolicy(tmp_path / "policy.onnx")
    for space, high in ((policy.spec.observation_space, 3.0), (policy.spec.action_space, 0.5)):
        assert isinstance(space, BoxSpace)
        assert np.all(space.high == high)
        assert np.all(space.low == -high)
    observations = np.random.default_rng(0).uniform(-3, 3, (9, 4)).astype(np.float32)
    found, _ = policy.predict(observations)
    expected, _ = model.predict(observations, deterministic=True)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)  # float32 sums


def test_a_space_inside_a_dict_and_in_the_statistics_is_allowed(tmp_path: Path) -> None:
    space = spaces.Dict({"a": Meters(2.0, 3), "b": BOX})
    model = make_model(space, Gears(), "MultiInputPolicy")
    save(model, tmp_path, statistics_for(space))
    allow = (*ALLOW, "--allow-import", "tests.export.own_spaces:Gears")
    run_cli("export", tmp_path, *ALLOW).assert_one_clear_line("own_spaces.Gears")
    run = run_cli("export", tmp_path, *allow)
    assert run.code == 0, run.error
    action_space = OnnxPolicy(tmp_path / "policy.onnx").spec.action_space
    assert isinstance(action_space, DiscreteSpace)
    assert action_space.n == 5


def test_statistics_of_an_own_space_name_the_way_out(tmp_path: Path) -> None:
    save(make_model(BOX, BOX), tmp_path, statistics_for(Meters(1.0, 3)))
    run_cli("export", tmp_path).assert_one_clear_line(
        "vecnormalize.pkl", "Meters", "--allow-import"
    )
    assert run_cli("export", tmp_path, *ALLOW).code == 0


def test_a_space_of_a_script_is_exported_from_memory(tmp_path: Path) -> None:
    """Its class is in the zip as code, which is never run."""

    class Local(spaces.Box):
        pass

    space: Any = Local(-1.0, 1.0, (3,), np.float32)
    model = make_model(space, BOX)
    save(model, tmp_path)
    run_cli("export", tmp_path).assert_one_clear_line("none of its code was run", "export_model")
    assert export_model(model, tmp_path / "policy.onnx").certificate is not None


@pytest.mark.parametrize("name", ["tests.export.own_spaces:Nothing", "pathlib:Path"])
def test_a_class_of_another_kind_is_refused(name: str, tmp_path: Path) -> None:
    save(make_model(), tmp_path)
    run_cli("export", tmp_path, "--allow-import", name).assert_one_clear_line(name)
