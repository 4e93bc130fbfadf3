"""Our C computes what the C of another generator computes, ``emx-onnx-cgen``."""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.export.targets.c.folders import NAME, compiler, run
from tests.export.targets.programs import KINDS, make
from trpo_deploy.export import TargetOptions, export_file
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.targets.agreement import TOLERANCE
from trpo_deploy.export.targets.c.library import load_engine
from trpo_deploy.spec.policy_spec import ACTION, PolicySpec

ROWS = 32
CHECKED = (
    *("action box", "action discrete", "action multi discrete", "action multi binary"),
    *("observation discrete from 2", "observation multi binary", "observation dict"),
    *("normalised", "squashed", "float64", "normalised stack", "stack of images"),
    *("extractor with pooling", "layer norms"),
)
# One process for all files, since the generator takes seconds to import; and one compilation of its
# templates, which takes a second.
GENERATE = """
import json, sys
from functools import partial
from jinja2 import FileSystemBytecodeCache
from emx_onnx_cgen.cli import main
from emx_onnx_cgen.codegen import c_emitter

cache = FileSystemBytecodeCache(sys.argv[1])
c_emitter.Environment = partial(c_emitter.Environment, bytecode_cache=cache)
sys.exit(any([main(arguments) for arguments in json.load(sys.stdin)]))
"""


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each kind with its policy and the other generator's C."""
    root = tmp_path_factory.mktemp("generated")
    files = [make(root / kind, **KINDS[kind]) for kind in CHECKED]
    options = ["--input-dim", "batch=1", "--large-temp-threshold", "0"]
    options += ["--large-weight-threshold", "0", "--model-name", NAME]
    commands = [["compile", *options, str(onnx), str(onnx.with_name("emx.c"))] for onnx in files]
    cache = tmp_path_factory.mktemp("templates")
    run([sys.executable, "-c", GENERATE, cache], input=json.dumps(commands))
    return root


@pytest.mark.slow
@pytest.mark.parametrize("kind", CHECKED)
def test_another_generator_gives_the_same_actions(
    generated: Path, kind: str, tmp_path: Path
) -> None:
    onnx = generated / kind / "policy.onnx"
    export_file(onnx, TargetOptions("c", tmp_path / "c", NAME), verify=False)
    spec = ExportedFile.parse(onnx.read_bytes()).spec
    rows = observations(spec)
    found = load_engine(tmp_path / "c", NAME, spec).run(rows)[ACTION]
    expected = second_opinion(onnx.with_name("emx.c"), spec, rows)
    if spec.action_space.dtype.kind == "f":
        np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)
    else:
        np.testing.assert_array_equal(found, expected)


def observations(spec: PolicySpec) -> dict[str, Any]:
    """Legal observations, and earlier frames of other steps."""
    rng = np.random.default_rng(0)
    rows = [spec.validate(spec.sample_observation(rng))[0] for _ in range(ROWS)]
    found = {key: np.concatenate([row[key] for row in rows]) for key in spec.observation_spaces}
    for state in spec.states:
        found[state.input.name] = rng.integers(0, 2, state.zeros(ROWS).shape).astype(
            state.input.dtype
        )
    return found


def second_opinion(source: Path, spec: PolicySpec, rows: dict[str, Any]) -> Any:
    """The actions of the other generator's C, row by row."""
    library = source.with_suffix(".so")
    run([compiler("gcc"), "-std=c99", "-O1", "-shared", "-fPIC", source, "-o", library, "-lm"])
    function = getattr(ctypes.CDLL(str(library)), NAME)
    function.restype = None
    actions = []
    for row in range(ROWS):
        inputs = [
            np.ascontiguousarray(rows[each.key][row], dtype=each.dtype) for each in spec.inputs
        ]
        outputs = {each.name: np.zeros(each.shape, each.dtype) for each in spec.outputs}
        function(*(ctypes.c_void_p(each.ctypes.data) for each in (*inputs, *outputs.values())))
        actions.append(outputs[ACTION])
    return np.stack(actions)
