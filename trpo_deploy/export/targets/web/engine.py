"""Run a module on this machine with Node."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from trpo_deploy.errors import ExportError, ToolMissingError
from trpo_deploy.export.certify.batches import size_of
from trpo_deploy.export.certify.engines import Engine
from trpo_deploy.export.policy.outputs import OBS_OK
from trpo_deploy.export.targets.process import run
from trpo_deploy.export.targets.robot import robot_facts
from trpo_deploy.export.targets.web.interface import has_keys
from trpo_deploy.export.targets.web.literals import ARRAYS
from trpo_deploy.spec.policy_spec import ACTION, Inputs, PolicySpec, TensorSpec
from trpo_deploy.spec.spaces import Array

OLDEST_NODE = 18


@dataclass(frozen=True)
class Node:
    """The Node.js of this machine."""

    command: str
    version: int
    """Such as 20."""

    @classmethod
    def find(cls) -> Node:
        """The ``node`` on the path.

        Raises:
            ToolMissingError: There is none, or it is too old.
        """
        command = shutil.which("node")
        if command is None:
            raise ToolMissingError(
                f"no node on this machine; install Node.js {OLDEST_NODE} or newer"
            )
        version = run([command, "--version"], Path.cwd()).stdout.strip().removeprefix("v")
        major = version.partition(".")[0]
        if not major.isdecimal() or int(major) < OLDEST_NODE:
            raise ToolMissingError(
                f"{command} is Node.js {version}; install Node.js {OLDEST_NODE} or newer"
            )
        return cls(command, int(major))

    def run(self, script: str, folder: Path) -> None:
        """Run a script of a folder, in that folder.

        Raises:
            ExportError: It fails.
        """
        done = run([self.command, script], folder)
        if done.returncode != 0:
            lines = done.stderr.splitlines()
            reason = next((line for line in lines if "Error" in line), done.stderr.strip())
            raise ExportError(f"node cannot run the module: {reason}")


def load_engine(module: str, spec: PolicySpec) -> Engine:
    """The policy in Node.

    Args:
        module: The text of ``NAME.js``.
        spec: The policy's spec.

    Raises:
        ToolMissingError: This machine has no Node.js, or an old one.
    """
    node = Node.find()
    states = (state.output for state in spec.states)
    return Engine(
        f"javascript (node {node.version})",
        None,
        lambda batch: _run_rows(node, module, spec, batch),
        is_slow=False,
        outputs=frozenset({ACTION, OBS_OK, *states}),
        refuses_infinity=True,
    )


def _run_rows(node: Node, module: str, spec: PolicySpec, batch: Inputs) -> dict[str, Array]:
    """Call ``act`` for each row; a row that it refuses gets the safe action."""
    rows, space = size_of(batch), spec.action_space
    with TemporaryDirectory(prefix="trpo-deploy-") as temporary:
        folder = Path(temporary)
        script = files(__package__) / "run_rows.mjs"
        (folder / "run_rows.mjs").write_bytes(script.read_bytes())
        (folder / "policy.mjs").write_text(module, encoding="utf-8")
        inputs = {tensor.key: f"input{n}.bin" for n, tensor in enumerate(spec.inputs)}
        described = {
            tensor.key: _write(folder / inputs[tensor.key], batch[tensor.key], tensor)
            for tensor in spec.inputs
        }
        job = {
            "rows": rows,
            "hasKeys": has_keys(spec),
            "inputs": [described[key] for key in spec.observation_spaces],
            "states": [described[state.input.key] for state in spec.states],
            "action": {"size": _size(space.shape)},
        }
        (folder / "rows.json").write_text(json.dumps(job), encoding="utf-8")
        node.run("run_rows.mjs", folder)
        usable = np.fromfile(folder / "usable.bin", np.uint8).astype(np.bool_)
        actions = np.fromfile(folder / "action.bin", "<f8").reshape(rows, *space.shape)
        following = {
            state.output: _read(folder / inputs[state.input.key], rows, state.input)
            for state in spec.states
        }
    actions = actions.astype(space.dtype)
    actions[~usable] = robot_facts(spec).safe_action
    return {ACTION: actions, OBS_OK: usable, **following}


def _write(path: Path, values: Array, tensor: TensorSpec) -> Mapping[str, Any]:
    """Write an input of all rows; return how ``run_rows.mjs`` reads it."""
    with np.errstate(over="ignore"):
        values.astype(tensor.dtype).astype(_file_dtype(tensor)).tofile(path)
    return {
        "key": tensor.key,
        "file": path.name,
        "type": ARRAYS[tensor.dtype],
        "shape": tensor.shape,
        "size": _size(tensor.shape),
    }


def _read(path: Path, rows: int, tensor: TensorSpec) -> Array:
    values = np.fromfile(path, _file_dtype(tensor)).astype(tensor.dtype)
    return values.reshape(rows, *tensor.shape)


def _file_dtype(tensor: TensorSpec) -> np.dtype[Any]:
    """The dtype of the typed array, in little-endian order."""
    dtype = {"int64": "float64", "bool": "uint8"}.get(tensor.dtype, tensor.dtype)
    return np.dtype(dtype).newbyteorder("<")


def _size(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))
