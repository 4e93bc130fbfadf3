"""The functions of the target ``leapp``."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

from trpo_deploy.errors import ExportError
from trpo_deploy.export.certify.engines import Engine
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.targets.leapp.consumer import LeappGraph
from trpo_deploy.export.targets.leapp.description import MODEL, description, differences
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

    It must say all that the policy tells, such as the joints' order, and may say more.

    Args:
        folder: Folder with the files.
        name: Name of the description.
        spec: The policy's spec.

    Raises:
        ExportError: LEAPP would refuse the description, or it is of another policy.
        PolicyFileError: The model is not a file of ours.
    """
    path = folder / f"{name}.yaml"
    graph = LeappGraph(path)
    file = ExportedFile.parse(graph.content)
    if json.loads(file.spec.to_json()) != json.loads(spec.to_json()):
        raise ExportError(f"{folder} has the ONNX file of another policy; export it again")
    wrong = [*islice(differences(description(file), graph.value, path.name), 3)]
    if wrong:
        raise ExportError(f"the description is not of its ONNX file: {'; '.join(wrong)}")

    def run(batch: Inputs) -> dict[str, Array]:
        return graph.run({each.name: batch[each.key] for each in spec.inputs})

    return Engine("leapp description", None, run, is_slow=False, outputs=graph.outputs)
