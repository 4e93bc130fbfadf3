"""A runtime's side of the contract: how a LEAPP description is checked, fed and read.

It follows ``InferenceManager`` of ``leapp`` 0.7.2, which needs torch, for a description of one
ONNX model: it knows nothing of the policy but the description. As there, each row is a call of its
own.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from trpo_deploy.errors import ConfigError, ExportError, PolicyFileError
from trpo_deploy.export.certify.engines import load_onnxruntime
from trpo_deploy.export.targets.games.folder import read_model
from trpo_deploy.files.yaml import read_yaml
from trpo_deploy.spec.policy_spec import Inputs, TensorSpec
from trpo_deploy.spec.spaces import Array

_MAX_BYTES = 16 * 2**20


class LeappGraph:
    """A description and its model, ready to run.

    Attributes:
        value: The description as plain values.
        content: The ONNX file.
        outputs: Names of all outputs.
    """

    def __init__(self, path: Path) -> None:
        """Load and check a description.

        Args:
            path: The YAML file; its model lies beside it.

        Raises:
            ExportError: LEAPP would refuse the description, or its model cannot be run.
        """
        value = _read(path)
        try:
            (node,) = value["models"]
            model, pipeline = value["models"][node], value["pipeline"]
            content = _read_model(path.parent, model["parameters"])
            self._engine = load_onnxruntime(content, _inputs(model))
            self.outputs = frozenset(str(each["name"]) for each in model["outputs"])
            problems = [*_flow_problems(node, model, pipeline)]
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise ExportError(
                f"{path} is not a LEAPP description of one model ({reprlib.repr(error)}); export "
                "it again"
            ) from error
        except PolicyFileError as error:
            raise ExportError(f"the model of {path} cannot be run: {error}") from error
        if problems:
            raise ExportError(f"LEAPP would not take {path}: {'; '.join(problems)}")
        self.value, self.content = value, content

    def run(self, batch: Inputs) -> dict[str, Array]:
        """All outputs by name.

        Args:
            batch: Rows by input name, fed back ones too.
        """
        rows = len(next(iter(batch.values())))
        found = [
            self._engine.run({name: each[row : row + 1] for name, each in batch.items()})
            for row in range(rows)
        ]
        return {name: np.concatenate([each[name] for each in found]) for name in self.outputs}


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ExportError(f"{path} is larger than 16 MiB, which no description is")
        return read_yaml(path)
    except OSError as error:
        raise ExportError(f"cannot read {path}: {error.strerror}") from error
    except ConfigError as error:
        raise ExportError(str(error)) from error
    except RecursionError as error:
        raise ExportError(f"{path} is nested too deeply") from error


def _read_model(folder: Path, parameters: Any) -> bytes:
    name, backend = Path(parameters["model_path"]), parameters["backend"]
    if backend != "onnx" or name.suffix != ".onnx" or name.name != str(name):
        raise ExportError(
            f"the description names the model {str(name)!r} of the backend {backend!r}; expected "
            "an ONNX file beside it"
        )
    content = read_model(folder, name.stem)
    if sha256(content).hexdigest() != parameters["sha256sum"]:
        raise ExportError(
            f"{folder / name} is not the file of the description: its SHA-256 is another; export "
            "the folder again"
        )
    return content


def _inputs(model: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(each["name"], each["dtype"], tuple(each["shape"][1:]))
        for each in model["inputs"]
    )


def _flow_problems(node: str, model: Any, pipeline: Any) -> Iterator[str]:
    """Each tensor is either fed back, or comes from or goes to the outside."""
    feedback = _feedback(node, pipeline)
    ends = {"outputs": [source for source, _ in feedback], "inputs": [to for _, to in feedback]}
    for what, fed in ends.items():
        names = sorted(each["name"] for each in model[what])
        routed = sorted([*pipeline[what][node], *fed])
        if routed != names:
            yield (
                f"its pipeline has the {what} {reprlib.repr(routed)}, and its model "
                f"{reprlib.repr(names)}"
            )


def _feedback(node: str, pipeline: Any) -> list[tuple[str, str]]:
    """Pairs of an output and the input that it is fed back to."""
    prefix = f"{node}/"
    return [
        (source.removeprefix(prefix), target.removeprefix(prefix))
        for source, targets in pipeline["feedback_flow"].items()
        for target in targets
    ]
