"""The functions of the target ``leapp``."""

from __future__ import annotations

from pathlib import Path

from trpo_deploy.errors import ExportError
from trpo_deploy.export.certify.engines import Engine
from trpo_deploy.export.targets.leapp.consumer import LeappGraph
from trpo_deploy.export.targets.leapp.description import MODEL, description
from trpo_deploy.export.targets.leapp.readme import readme_text
from trpo_deploy.export.targets.target import FinishedPolicy
from trpo_deploy.files.yaml import to_yaml
from trpo_deploy.spec.policy_spec import Inputs, PolicySpec
from trpo_deploy.spec.spaces import Array


def write(policy: FinishedPolicy, name: str) -> dict[str, bytes | str]:
    """The files ``policy.onnx``, ``NAME.yaml`` and ``README.md``.

    Args:
        policy: The policy.
        name: Name of the description.

    Raises:
        ExportError: LEAPP has no name or dtype for an input or output of the policy.
    """
    value = description(policy.file)
    return {
        MODEL: policy.file.content,
        f"{name}.yaml": to_yaml(value),
        "README.md": readme_text(policy.file.spec, value, name),
    }


def load(folder: Path, name: str, spec: PolicySpec) -> Engine:
    """The description as LEAPP would check, feed and read it.

    Args:
        folder: Folder with the files.
        name: Name of the description.
        spec: The policy's spec.

    Raises:
        ExportError: LEAPP would refuse the description, or it describes another policy.
    """
    path = folder / f"{name}.yaml"
    graph = LeappGraph(path)
    fed = {state.input.name: state.output for state in spec.states}
    for tensor in spec.inputs:
        came, expected = graph.source_of(tensor.name), fed.get(tensor.name)
        if came != expected:
            raise ExportError(f"{path} feeds {tensor.name} from {came}, expected {expected}")

    def run(batch: Inputs) -> dict[str, Array]:
        return graph.run({each.name: batch[each.key] for each in spec.inputs})

    return Engine("leapp description", None, run, is_slow=False, outputs=graph.outputs)
