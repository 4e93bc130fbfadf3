"""What the C promises beyond right actions: a guard, no memory of its own, little stack."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces

from tests.export.norms import Normed
from tests.export.policies import BOX, exported, make_model, statistics_for
from tests.export.targets.c.folders import NAME, WARNINGS, compiler, run, write_folder
from tests.export.targets.programs import KINDS, SMALL, make
from trpo_deploy import TRPO
from trpo_deploy.export import TargetOptions, export_file, export_model
from trpo_deploy.export.certify.engines import Engine
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.targets.c import library
from trpo_deploy.export.targets.c.compiler import Compiler
from trpo_deploy.export.targets.c.header import header_text
from trpo_deploy.export.targets.c.interface import Interface
from trpo_deploy.export.targets.c.literals import comment, number, string
from trpo_deploy.export.targets.c.readme import readme_text
from trpo_deploy.export.targets.c.source import source_text
from trpo_deploy.export.targets.folder import TargetFolder
from trpo_deploy.export.targets.read_graph import read_program
from trpo_deploy.export.targets.robot import RobotFacts, robot_facts
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.spec.components import Component

FAST = ("-O3", "-ffast-math", "-march=native")


def load(folder: Path, *options: str, monkeypatch: pytest.MonkeyPatch | None = None) -> Engine:
    """The folder's engine, compiled with some more options."""
    if options and monkeypatch is not None:
        plain = Compiler.compile

        def compile_and_link(self: Compiler, source: Path, output: Path, *own: str) -> None:
            # Linked without the options: gcc adds code that sets denormal numbers to zero, for the
            # whole process, to what it links with -ffast-math.
            plain(self, source, output.with_suffix(".o"), *own, *options, "-c")
            plain(self, output.with_suffix(".o"), output, "-shared")

        monkeypatch.setattr(Compiler, "compile", compile_and_link)
    found = TargetFolder.read(folder)
    return library.load_engine(folder, found.name, found.spec)


@pytest.mark.parametrize("compiler_name", ["gcc", "clang"])
def test_fast_math_keeps_the_guard_and_the_actions(
    compiler_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", compiler(compiler_name))
    bounds = spaces.Box(np.array([0.25, -1.0], np.float32), np.array([1.0, 1.0], np.float32))
    folder = write_folder(tmp_path, action_space=bounds, statistics={})
    rows = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    expected = load(folder).run({"obs": rows})["action"]
    fast = load(folder, *FAST, monkeypatch=monkeypatch)
    # fast-math reorders sums of float32: a few units in the last place of numbers of order one
    np.testing.assert_allclose(fast.run({"obs": rows})["action"], expected, atol=5e-6)
    for position in range(3):
        for value in (np.nan, np.inf, -np.inf):
            bad = rows[:1].copy()
            bad[0, position] = value
            found = fast.run({"obs": bad})
            assert not found["obs_ok"][0]
            assert found["action"][0].tolist() == [0.25, 0.0]  # the value closest to zero
    assert fast.run({"obs": rows})["obs_ok"].all()


@pytest.mark.parametrize("compiler_name", ["gcc", "clang"])
def test_fast_math_keeps_a_mean_far_from_zero(
    compiler_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", compiler(compiler_name))
    statistics = statistics_for(BOX)
    rms: Any = statistics.obs_rms
    rms.mean, rms.var = np.array([1000.1, -2000.3, 3.0]), np.full(3, 1e-4)
    onnx = exported(make_model(algorithm=TRPO), tmp_path, statistics, verify=False).path
    export_file(onnx, TargetOptions("c", tmp_path / "c", NAME), verify=False)
    noise = np.random.default_rng(0).normal(scale=0.01, size=(40, 3))
    rows = (rms.mean + noise).astype(np.float32)
    fast = load(tmp_path / "c", *FAST, monkeypatch=monkeypatch)
    # a mean in one float32 alone would be off by up to 7e-3 of its standard deviation
    expected, _ = OnnxPolicy(onnx).predict(rows)
    np.testing.assert_allclose(fast.run({"obs": rows})["action"], expected, atol=5e-6)


@pytest.mark.parametrize("compiler_name", ["gcc", "clang"])
def test_fast_math_keeps_layer_norms_of_any_mean_and_size(
    compiler_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", compiler(compiler_name))
    space = spaces.Box(-np.inf, np.inf, (64,))
    folder = write_folder(tmp_path, observation_space=space, policy=Normed, policy_kwargs=SMALL)
    noise = np.random.default_rng(0).normal(size=(9, 64))
    rows = np.concatenate([noise, 1000.1 + 0.01 * noise, 1e15 * noise, np.full((1, 64), 1000.1)])
    overflowing = 1e30 * noise  # the variance does; what is divided by its root is zero
    observations = np.concatenate([rows, overflowing]).astype(np.float32)
    expected, _ = OnnxPolicy(tmp_path / "model" / "policy.onnx").predict(observations)
    for options in ((), FAST):
        found = load(folder, *options, monkeypatch=monkeypatch).run({"obs": observations})
        assert found["obs_ok"].all()
        # the rounding of float32 in a few layers of gain one
        np.testing.assert_allclose(found["action"], expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("options", [(), FAST], ids=["O2", "fast-math"])
@pytest.mark.parametrize("norm", [torch.nn.LayerNorm, torch.nn.RMSNorm])
def test_no_norm_hides_a_hidden_number_that_is_infinite(
    norm: type[Any], options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = spaces.Box(-np.inf, np.inf, (3,))
    network = {"net_arch": [4], "activation_fn": lambda: norm(4)}
    model = make_model(space, algorithm=TRPO, policy_kwargs=network)
    with torch.no_grad():
        model.policy.mlp_extractor.policy_net[0].weight[:2] = 2.0
    onnx = export_model(model, tmp_path / "policy.onnx", verify=False).path
    export_file(onnx, TargetOptions("c", tmp_path / "c", NAME), verify=False)
    engine = load(tmp_path / "c", *options, monkeypatch=monkeypatch)
    rows = np.array([[3e38, 0, 0], [1, 1, 0]], np.float32)
    assert engine.run({"obs": rows})["obs_ok"].tolist() == [False, True]


def test_the_largest_finite_number_is_finite_except_in_a_guarded_file(tmp_path: Path) -> None:
    largest = np.full((1, 3), np.finfo(np.float32).max, np.float32)
    for guard in (False, True):
        space = spaces.Box(-np.inf, np.inf, (3,))
        keywords: dict[str, Any] = {"observation_space": space, "statistics": {}}
        folder = write_folder(tmp_path / str(guard), options={"guard": guard}, **keywords)
        assert load(folder).run({"obs": largest})["obs_ok"].tolist() == [not guard]


def test_an_overflow_in_the_network_gives_the_safe_action(tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path,
        observation_space=spaces.Box(-np.inf, np.inf, (3,)),
        policy_kwargs={"net_arch": []},
        action_space=spaces.Discrete(3, start=5),
    )
    found = load(folder).run({"obs": np.full((1, 3), 3e38, np.float32)})
    assert not found["obs_ok"][0]
    assert found["action"].tolist() == [5]


@pytest.mark.parametrize("options", [(), FAST], ids=["O2", "fast-math"])
def test_no_activation_hides_a_hidden_number_that_is_nan(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = spaces.Box(-np.inf, np.inf, (3,))
    network = {"net_arch": [4, 4], "activation_fn": torch.nn.ReLU}
    model = make_model(space, algorithm=TRPO, policy_kwargs=network)
    with torch.no_grad():
        model.policy.mlp_extractor.policy_net[0].weight[:] = torch.tensor([2.0, -2.0, 0.0])
    onnx = exported(model, tmp_path, verify=False).path
    export_file(onnx, TargetOptions("c", tmp_path / "c", NAME), verify=False)
    engine = load(tmp_path / "c", *options, monkeypatch=monkeypatch)
    rows = np.array([[3e38, 3e38, 0], [3e38, 0, 0], [1, 1, 0]], np.float32)
    # infinity minus infinity; infinity in the last layer; right
    assert engine.run({"obs": rows})["obs_ok"].tolist() == [False, False, True]


@pytest.mark.parametrize(
    ("space", "good", "bad"),
    [
        (spaces.Discrete(3, start=-1), [-1, 1], [-2, 2]),
        (spaces.MultiDiscrete([2, 3]), [[0, 0], [1, 2]], [[2, 0], [0, -1]]),
        (spaces.MultiBinary(2), [[0, 1]], [[2, 0], [0, -1]]),
    ],
    ids=str,
)
def test_integers_outside_their_space_give_the_safe_action(
    space: spaces.Space[Any], good: Any, bad: Any, tmp_path: Path
) -> None:
    engine = load(write_folder(tmp_path, observation_space=space))
    for rows, ok in ((good, True), (bad, False)):
        assert (engine.run({"obs": np.asarray(rows)})["obs_ok"] == ok).all()


def test_a_bad_observation_leaves_the_earlier_frames(tmp_path: Path) -> None:
    engine = load(write_folder(tmp_path, **KINDS["stack of vectors"]))
    state = np.arange(9, dtype=np.float32).reshape(1, 9)
    bad = np.array([[0, np.nan, 0]], np.float32)
    found = engine.run({"obs": bad, "state_obs": state})
    np.testing.assert_array_equal(found["next_state_obs"], state)
    found = engine.run({"obs": np.full((1, 3), 7, np.float32), "state_obs": state})
    assert found["next_state_obs"].tolist() == [[3, 4, 5, 6, 7, 8, 7, 7, 7]]


def test_two_policies_share_a_program_without_memory_of_their_own(tmp_path: Path) -> None:
    onnx, objects = make(tmp_path / "model", **KINDS["normalised stack"]), []
    for name in ("left", "right"):
        export_file(onnx, TargetOptions("c", tmp_path / name, name), verify=False)
        objects.append(tmp_path / f"{name}.o")
        source = tmp_path / name / f"{name}.c"
        run([compiler("gcc"), "-std=c99", "-O2", "-c", source, "-o", objects[-1]])
        symbols = run(["nm", "--defined-only", objects[-1]]).split()[2::3]
        # .LC0 and the like are labels of the assembler
        assert all(symbol.startswith((f"{name}_", ".L")) for symbol in symbols), symbols
        _, data, bss = run(["size", objects[-1]]).splitlines()[1].split()[:3]
        assert (data, bss) == ("0", "0")
    includes = '#include "left/left.h"\n#include "right/right.h"\n'
    main = tmp_path / "main.cpp"
    main.write_text(
        includes + "int main() { left_state a; right_state b; left_reset(&a); right_reset(&b);\n"
        "const float o[3] = {0, 1, 2}; float x[3], y[3];\n"
        "return left_act(&a, o, x) && right_act(&b, o, y) && x[0] == y[0] ? 0 : 1; }\n"
    )
    run([compiler("g++"), "-std=c++17", main, *objects, "-lm", "-o", tmp_path / "both"])
    run([tmp_path / "both"])


def test_a_pixel_policy_needs_little_stack(tmp_path: Path) -> None:
    grey = spaces.Box(0, 255, (36, 36, 1), np.uint8)
    folder = write_folder(tmp_path, observation_space=grey, frames=4, policy="CnnPolicy")
    source = folder / f"{NAME}.c"
    run([compiler("gcc"), "-std=c99", "-O2", "-fstack-usage", "-c", source], cwd=tmp_path)
    usage = (tmp_path / f"{NAME}.su").read_text()
    assert sum(int(line.split("\t")[1]) for line in usage.splitlines()) <= 40_000


def test_the_source_needs_math_h_only(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, **KINDS["stack of a dict"])
    text = (folder / f"{NAME}.c").read_text() + (folder / f"{NAME}.h").read_text()
    assert set(re.findall(r"#include (\S+)", text)) == {
        f'"{NAME}.h"',
        *("<math.h>", "<stdbool.h>", "<stdint.h>"),
    }


def test_the_selftest_detects_a_wrong_weight(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, action_space=BOX)
    source = folder / f"{NAME}.c"
    text = source.read_text()
    head = text.rindex("static const float")
    start = text.index("{", head) + 1
    end = text.index("f", start)
    source.write_text(text[:start] + "0.9" + text[end:])
    program = [compiler("gcc"), f"-D{NAME.upper()}_TEST_MAIN", *WARNINGS, source]
    run([*program, folder / f"{NAME}_test.c", "-lm", "-o", tmp_path / "wrong"])
    with pytest.raises(AssertionError, match="largest error"):
        run([tmp_path / "wrong"])


def test_literals_are_exact() -> None:
    rng = np.random.default_rng(0)
    for value in np.concatenate([rng.normal(size=50), [1.0, 1e-45, 3.4e38, -0.0, 16777216]]):
        single = np.float32(value)
        assert np.float32(number(single, "float").removesuffix("f")) == single
        assert float(number(value, "double")) == value
    assert number(np.inf, "float") == "3.4028235e+38f"
    assert string('a"\\??/é') == '"a\\"\\\\\\?\\?/\\303\\251"'
    assert comment("x */ \n /* y") == "x * / ? / * y"


def test_names_and_the_period_are_constants_in_flash(tmp_path: Path) -> None:
    file = ExportedFile.parse(make(tmp_path, **KINDS["normalised"]).read_bytes())
    interface = Interface.of(file.spec, NAME)
    names = ("left knee", 'a "quoted\\" one', "é ??/ */")
    observation = {"obs": tuple(map(Component, names))}
    action = (Component("hip", "N m"), Component("knee"))
    facts = RobotFacts(robot_facts(file.spec).safe_action, 0.002, observation, action)
    source = source_text(read_program(file), interface, facts)
    (tmp_path / f"{NAME}.h").write_text(header_text(file.spec, interface, facts, ""))
    (tmp_path / f"{NAME}.c").write_text(source)
    main = tmp_path / "main.c"
    main.write_text(
        f'#include "{NAME}.h"\n#include <stdio.h>\nint main(void) {{\n'
        'for (int i = 0; i < 3; ++i) { printf("%s\\n", pol_observation_names[i]); }\n'
        'for (int i = 0; i < 2; ++i) { printf("%s [%s]\\n", pol_action_names[i], '
        "pol_action_units[i]); }\n"
        'printf("%g\\n", (double)POL_PERIOD_SECONDS); return 0; }\n'
    )
    gcc, objects = compiler("gcc"), tmp_path / "pol.o"
    run([gcc, "-std=c99", "-c", *WARNINGS, tmp_path / f"{NAME}.c", "-o", objects])
    assert run(["size", objects]).splitlines()[1].split()[1:3] == ["0", "0"]
    run([gcc, "-std=c99", *WARNINGS, main, objects, "-lm", "-o", tmp_path / "main"])
    said = run([tmp_path / "main"]).splitlines()
    assert said == [*names, "hip [N m]", "knee []", "0.002"]
    assert "observation_units" not in source


def test_header_and_readme_name_the_values_of_a_discrete_action(tmp_path: Path) -> None:
    left_right = spaces.Discrete(2, start=-1)
    file = ExportedFile.parse(make(tmp_path, action_space=left_right).read_bytes())
    unknown = header_text(file.spec, Interface.of(file.spec, NAME), robot_facts(file.spec), "")
    assert "does not tell a safe" in unknown
    assert "_names" not in unknown
    spec = replace(
        file.spec,
        action_components=(Component("left"), Component("right")),
        observation_components={"obs": tuple(Component(f"x{i}", "rad") for i in range(3))},
        safe_action=np.array(0),
    )
    interface = Interface.of(spec, NAME)
    header = header_text(spec, interface, robot_facts(spec), "")
    assert "pol_action_names[2][6];" in header
    assert "pol_action_names[action - -1]" not in header
    assert "pol_action_names[action + 1]" in header
    assert "pol_observation_names[3][3];" in header
    assert "pol_observation_units[3][4];" in header
    assert "does not tell a safe" not in header
    readme = readme_text(spec, interface, "", has_controller=False)
    assert "| `-1` | `left` |" in readme
    assert "| `2` | `x2` | `rad` |" in readme
