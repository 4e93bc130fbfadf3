"""What the JavaScript promises beyond right actions: clear errors, plain numbers, small files."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from tests.command import run_cli
from tests.export.policies import BOX
from tests.export.targets.programs import KINDS
from tests.export.targets.web.folders import NAME, run_module, tool, write_folder
from tests.runtime.policy_files import box, write_policy
from trpo_deploy.errors import ExportError
from trpo_deploy.export.targets.web.literals import comment, number, string
from trpo_deploy.spec.spaces import DictSpace, DiscreteSpace

MATRIX = spaces.Box(-9, 9, (2, 3), np.float32)
KEYS = spaces.Dict({"a": BOX, "b": spaces.Discrete(2)})
CAUGHT = """
result = [];
for (const make of [%s]) {
  try {
    result.push(["returned", JSON.stringify(policy.act(make()))]);
  } catch (error) {
    result.push([error.name, error.message]);
  }
}
"""
BAD: dict[str, tuple[spaces.Space[Any], list[tuple[str, str, str]]]] = {
    "box": (
        BOX,
        [
            ("[1, 2]", "RangeError", "observation: expected 3 numbers, received an array of len"),
            ("[]", "RangeError", "expected 3 numbers, received an array of length 0"),
            ("[[1, 2, 3]]", "RangeError", "expected 3 numbers, received an array of length 1"),
            ("1", "TypeError", "observation: expected 3 numbers, received 1"),
            ("undefined", "TypeError", "expected 3 numbers, received undefined"),
            ("null", "TypeError", "expected 3 numbers, received null"),
            ("'123'", "TypeError", "expected 3 numbers, received a value of type string"),
            ("({ obs: [1, 2, 3] })", "TypeError", "received a value of type object"),
            ("new DataView(new ArrayBuffer(3))", "TypeError", "received a value of type object"),
            ("[1, NaN, 3]", "RangeError", "observation[1]: expected a finite number, received NaN"),
            ("[1, 2, Infinity]", "RangeError", "observation[2]: expected a finite number"),
            ("[-1e39, 2, 3]", "RangeError", "[0]: expected a finite number, received -1e+39"),
            ("[1, '2', 3]", "TypeError", "[1]: expected a finite number, received a value of type"),
            ("[1, 2n, 3]", "TypeError", "received a value of type bigint"),
            ("[1, true, 3]", "TypeError", "[1]: expected a finite number, received true"),
            ("[1, , 3]", "TypeError", "[1]: expected a finite number, received undefined"),
            ("new BigInt64Array(3)", "TypeError", "received a value of type bigint"),
        ],
    ),
    "matrix": (
        MATRIX,
        [
            ("[[1, 2, 3]]", "RangeError", "observation: expected 2 x 3 numbers, received an array"),
            ("[[1, 2, 3], [4, 5]]", "RangeError", "observation[1]: expected 3 numbers"),
            ("[[1, 2, 3], 4]", "TypeError", "observation[1]: expected 3 numbers, received 4"),
            ("[[1, 2, 3], [4, NaN, 6]]", "RangeError", "observation[1][1]: expected a finite"),
            ("[1, 2, 3, 4, 5, 6, 7]", "RangeError", "2 x 3 numbers, received an array of length 7"),
        ],
    ),
    "discrete": (
        spaces.Discrete(3, start=-1),
        [
            ("2", "RangeError", "observation: expected an integer from -1 to 1, received 2"),
            ("0.5", "RangeError", "expected an integer from -1 to 1, received 0.5"),
            ("NaN", "RangeError", "expected an integer from -1 to 1, received NaN"),
            ("[0]", "TypeError", "received an array of length 1"),
            ("true", "TypeError", "received true"),
            ("0n", "TypeError", "received a value of type bigint"),
        ],
    ),
    "multi discrete": (
        spaces.MultiDiscrete([2, 3]),
        [("[0, 3]", "RangeError", "observation[1]: expected an integer from 0 to 2, received 3")],
    ),
    "multi binary": (
        spaces.MultiBinary(2),
        [("[0, 2]", "RangeError", "observation[1]: expected an integer from 0 to 1, received 2")],
    ),
    "bytes": (
        spaces.Box(0, 255, (3,), np.uint8),
        [
            ("[0, 256, 0]", "RangeError", "[1]: expected an integer from 0 to 255, received 256"),
            ("[0, -1, 0]", "RangeError", "received -1"),
        ],
    ),
    "wide integers": (
        spaces.Box(-(2**53) + 1, 2**53 - 1, (1,), np.int64),
        [("[2 ** 53]", "RangeError", "from -9007199254740991 to 9007199254740991, received")],
    ),
    "dict": (
        KEYS,
        [
            ("[1]", "TypeError", "observation: expected an object with the keys a, b, received an"),
            ("null", "TypeError", "expected an object with the keys a, b, received null"),
            ("({ a: [1, 2, 3] })", "TypeError", "the keys a, b, received no b"),
            ("({ a: [1, 2, 3], b: 0, c: 1 })", "TypeError", "received the key c"),
            ("({ a: [1, 2], b: 0 })", "RangeError", "observation.a: expected 3 numbers"),
            ("({ a: [1, 2, 3], b: 2 })", "RangeError", "observation.b: expected an integer from 0"),
            ("({ a: [1, 2, 3], __proto__: { b: 0 } })", "TypeError", "received no b"),
        ],
    ),
}


def policy_kind(space: spaces.Space[Any]) -> dict[str, Any]:
    kind = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    return {"observation_space": space, "policy": kind}


def caught(folder: Path, observations: list[str]) -> list[tuple[str, str]]:
    calls = ", ".join(f"() => {each}" for each in observations)
    return [(name, text) for name, text in run_module(folder, CAUGHT % calls)]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_observation_says_what_came_and_what_was_expected(kind: str, tmp_path: Path) -> None:
    space, cases = BAD[kind]
    found = caught(write_folder(tmp_path, **policy_kind(space)), [each for each, *_ in cases])
    for (observation, name, text), (caught_name, message) in zip(cases, found, strict=True):
        assert caught_name == name, (observation, message)
        assert text in message, observation


@pytest.mark.parametrize("bound", [2**53, np.iinfo(np.int64).max])
def test_integers_that_javascript_rounds_are_refused(bound: int, tmp_path: Path) -> None:
    space = spaces.Dict({"a": BOX, "count": spaces.Box(-bound, bound, (2,), np.int64)})
    with pytest.raises(ExportError, match=f"'count' has numbers from -{bound} to {bound}"):
        write_folder(tmp_path, observation_space=space, policy="MultiInputPolicy")
    assert not (tmp_path / "web").exists()


def test_all_forms_of_an_observation_give_the_same_action(tmp_path: Path) -> None:
    forms = [
        *("[[1, 2, 3], [4, 5, 6]]", "[1, 2, 3, 4, 5, 6]", "new Float32Array([1, 2, 3, 4, 5, 6])"),
        *("new Uint8Array([1, 2, 3, 4, 5, 6])", "[new Float64Array([1, 2, 3]), [4, 5, 6]]"),
    ]
    found = caught(write_folder(tmp_path, observation_space=MATRIX), forms)
    assert {name for name, _ in found} == {"returned"}
    assert len(set(found)) == 1
    flags = spaces.MultiBinary((2, 2))
    forms = ["[[1, 0], [0, 1]]", "[[true, false], [0, true]]", "new Int8Array([1, 0, 0, 1])"]
    found = caught(write_folder(tmp_path / "flags", observation_space=flags), forms)
    assert {name for name, _ in found} == {"returned"}
    assert len(set(found)) == 1


@pytest.mark.parametrize(
    ("space", "expected"),
    [
        (spaces.Discrete(2, start=-1), r"-?\d"),
        (spaces.MultiDiscrete([2, 3]), r"\[\d,\d\]"),
        (spaces.MultiBinary((2, 2)), r"\[\[\d,\d\],\[\d,\d\]\]"),
        (spaces.Box(-1, 1, (1, 2), np.float32), r"\[\[[-.\de]+,[-.\de]+\]\]"),
    ],
    ids=str,
)
def test_actions_are_plain_numbers(space: spaces.Space[Any], expected: str, tmp_path: Path) -> None:
    ((name, action),) = caught(write_folder(tmp_path, action_space=space), ["[1, 2, 3]"])
    assert name == "returned"
    assert re.fullmatch(expected, action)


def test_an_overflow_in_the_network_is_an_error(tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path,
        observation_space=spaces.Box(-np.inf, np.inf, (3,)),
        policy_kwargs={"net_arch": []},
        action_space=spaces.Discrete(3, start=5),
    )
    signs = itertools.product((1, -1), repeat=3)  # one of them adds up all weights of a row
    found = caught(folder, [str([sign * 3.4e38 for sign in each]) for each in signs])
    assert ("RangeError", "the network overflows for this observation") in found


def test_the_largest_finite_number_is_finite_except_in_a_guarded_file(tmp_path: Path) -> None:
    for guard in (False, True):
        space = spaces.Box(-np.inf, np.inf, (3,))
        folder = write_folder(
            tmp_path / str(guard),
            observation_space=space,
            statistics={},
            options={"guard": guard},
        )
        found = caught(folder, ["[3.4028234663852886e38, 0, 0]", "[3.4028232635611926e38, 0, 0]"])
        assert [name for name, _ in found] == ["RangeError" if guard else "returned", "returned"]


def test_frames_belong_to_a_policy_and_stay_after_an_error(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, **KINDS["stack of vectors"])
    found = run_module(
        folder,
        """
        const other = new Policy();
        const [first] = Object.values(policy.frames);
        const actions = [[1, 2, 3], [4, 5, 6]].map((each) => policy.act(each));
        const kept = [...first];
        try { policy.act([7, NaN, 9]); } catch {}
        result = { kept, now: [...first], other: [...Object.values(other.frames)[0]] };
        policy.reset();
        result.reset = [...first];
        result.again = [[1, 2, 3], [4, 5, 6]].map((each) => policy.act(each));
        result.actions = actions;
        first[0] = NaN;
        try { policy.act([1, 2, 3]); } catch (error) { result.error = error.message; }
        """,
    )
    assert found["kept"] == [0, 0, 0, 1, 2, 3, 4, 5, 6]
    assert found["now"] == found["kept"]
    assert found["other"] == found["reset"] == [0] * 9
    assert found["again"] == found["actions"]
    assert "call reset()" in found["error"]


@pytest.mark.parametrize(
    "keys", [("left arm", "__proto__"), ('a"b', "it's </script><!--"), ("é", "\\")]
)
def test_any_text_may_be_a_key(keys: tuple[str, str], tmp_path: Path) -> None:
    tool("node")
    space = DictSpace({keys[0]: box(2), keys[1]: DiscreteSpace(3)})
    onnx = write_policy(tmp_path / "policy.onnx", space)
    done = run_cli("export", onnx, "--target", "web", "-o", tmp_path / "web", "--name", NAME)
    assert done.code == 0, done.error
    names = (f"{NAME}.js", f"{NAME}.global.js", f"{NAME}.d.ts")
    texts = [(tmp_path / "web" / name).read_text() for name in names]
    assert not any("</script" in text or "<!--" in text for text in texts[:2])
    golden = json.loads((tmp_path / "web" / "golden.json").read_text())
    rows = json.dumps(json.dumps(golden["observations"]))
    found = run_module(
        tmp_path / "web", f"result = JSON.parse({rows}).map((row) => policy.act(row));"
    )
    np.testing.assert_allclose(found, golden["actions"], atol=5e-6)  # as verify


def test_the_module_needs_nothing_and_the_spec_has_no_provenance(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, **KINDS["stack of a dict"])
    text = (folder / f"{NAME}.js").read_text()
    assert not re.search(r"\b(?:import|require|fetch|eval|Function|WebAssembly|process)\b", text)
    spec = run_module(folder, "result = policy.spec;")
    whole = json.loads((folder / "policy.json").read_text())["spec"]
    assert spec.items() <= whole.items()
    assert {"observation_space", "action_space", "states", "env_id"} <= spec.keys()


def test_a_policy_of_64x64_is_small(tmp_path: Path) -> None:
    folder = write_folder(
        tmp_path,
        observation_space=spaces.Box(-np.inf, np.inf, (17,)),
        action_space=spaces.Box(-1, 1, (6,), np.float32),
        policy_kwargs={"net_arch": [64, 64]},
        statistics={},
    )
    for ending in (".js", ".global.js"):
        assert (folder / f"{NAME}{ending}").stat().st_size <= 40_000


def test_the_selftest_detects_a_wrong_weight(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, action_space=BOX)
    assert run_module(folder, "result = policy.selfTest();") <= 5e-6
    source = folder / f"{NAME}.js"
    text = source.read_text()
    assert text.count("weights.subarray(0, ") == 1
    source.write_text(
        text.replace("weights.subarray(0, ", "weights.map((w) => 1.01 * w).subarray(0, ")
    )
    assert run_module(folder, "result = policy.selfTest();") > 5e-6


def test_verify_runs_the_module_and_compares_the_script(tmp_path: Path) -> None:
    tool("node")
    onnx = write_policy(tmp_path / "policy.onnx", box(2), hidden=4)
    export = ("export", onnx, "--target", "web", "-o", tmp_path / "web", "--name", NAME, "--force")
    assert run_cli(*export).code == 0
    done = run_cli("verify", onnx, tmp_path / "web", "--verbose")
    assert done.code == 0, done.output
    assert "javascript (node " in done.output
    certificate = json.loads((tmp_path / "web" / "certificate.json").read_text())
    assert {f"{NAME}.js", f"{NAME}.global.js", f"{NAME}.d.ts"} <= certificate["sha256"].keys()
    script = tmp_path / "web" / f"{NAME}.global.js"
    script.write_text(
        script.read_text().replace("Math.tanh", "Math.sin").replace("dense(", "dense (")
    )
    run_cli("verify", onnx, tmp_path / "web").assert_one_clear_line("is not the script of pol.js")
    module = tmp_path / "web" / f"{NAME}.js"
    assert run_cli(*export).code == 0
    for path in (module, script):
        path.write_text(
            path.read_text().replace("act(observation) {", "act(observation) { return 1;")
        )
    done = run_cli("verify", onnx, tmp_path / "web")
    assert done.code == 1
    for path in (module, script):
        path.write_text(path.read_text().replace("return 1;", "return nothing;"))
    run_cli("verify", onnx, tmp_path / "web").assert_one_clear_line(
        "node cannot run the module: ReferenceError: nothing is not defined"
    )


@pytest.mark.parametrize(
    ("version", "says"),
    [(None, "no node on this machine"), ("v16.20.0", "is Node.js 16.20.0; install Node.js 18")],
)
def test_without_a_recent_node_verify_is_one_line(
    version: str | None, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = write_policy(tmp_path / "policy.onnx", box(2))
    export = ("export", onnx, "--target", "web", "-o", tmp_path / "web", "--no-verify")
    assert run_cli(*export).code == 0
    (tmp_path / "bin").mkdir()
    if version is not None:
        fake = tmp_path / "bin" / "node"
        fake.write_text(f"#!/bin/sh\necho {version}\n")
        fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    run_cli("verify", onnx, tmp_path / "web").assert_one_clear_line(says)


@pytest.mark.parametrize("name", ["status", "top", "JSON"])
def test_a_name_that_a_page_has_is_refused(name: str, tmp_path: Path) -> None:
    onnx = write_policy(tmp_path / "policy.onnx", box(2))
    done = run_cli("export", onnx, "--target", "web", "-o", tmp_path / "web", "--name", name)
    done.assert_one_clear_line(f"the name {name!r} is a global of each page", "--name")
    assert not (tmp_path / "web").exists()


def test_a_guarded_stack_passes_the_guard_check(tmp_path: Path) -> None:
    tool("node")
    write_folder(tmp_path, **KINDS["guarded stack"])
    reading = ("--frame-stack", 3, "--steps", 50, "--seconds", 0)
    done = run_cli(
        "verify", tmp_path / "model" / "policy.zip", tmp_path / "web", "--verbose", *reading
    )
    assert done.code == 0, done.output
    assert "guard, javascript (node " in done.output


def test_declarations_name_all_keys_and_frames(tmp_path: Path) -> None:
    text = (write_folder(tmp_path, **KINDS["stack of a dict"]) / f"{NAME}.d.ts").read_text()
    assert "readonly 'a': ArrayLike<number>;" in text
    assert "readonly 'b': Numbers<number>;" in text
    assert "readonly 'state_a': Float32Array;" in text
    assert f"export as namespace {NAME};" in text


def test_literals_are_exact() -> None:
    rng = np.random.default_rng(0)
    for value in [*rng.normal(size=50), 1e-45, 3.4e38, -0.0, 16777216.0]:
        assert float(number(value)) == value
    assert [number(each) for each in (np.inf, -np.inf, 3.0, True)] == [
        *("Infinity", "-Infinity", "3", "1")
    ]
    assert string("a'b\"\\<é\n") == r"""'a\'b"\\\u003c\u00e9\n'"""
    assert comment("x */ </script> \n y") == "x * / ?/script> ? y"
