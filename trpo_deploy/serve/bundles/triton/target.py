"""The target ``triton``: for each model a configuration, and its ONNX file as version 1.

::

    NAME/config.pbtxt
    NAME/1/model.onnx
    NAME/1/model.certificate.json, NAME/1/model.sig     if the model has them
"""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from trpo_deploy.files.certificate import certificate_path
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.signature import signature_path
from trpo_deploy.runtime import OnnxPolicy
from trpo_deploy.serve.bundles.target import Contents
from trpo_deploy.serve.bundles.triton.config import model_config
from trpo_deploy.serve.bundles.triton.text_format import to_text

_HEADER = """\
# Written by trpo-deploy from the spec of the ONNX file. Inputs are checked by shape and type only:
# Triton knows neither the ranges of the observation space nor NaN.
"""


def write(contents: Contents, folder: Path) -> None:
    """Write the repository."""
    write_repository(contents.models, folder)


def next_steps(contents: Contents, folder: Path) -> Sequence[tuple[str, str]]:  # noqa: ARG001
    """Start Triton."""
    return [("serve", f"tritonserver --model-repository={shlex.quote(str(folder.absolute()))}")]


def write_repository(models: Mapping[str, Path], folder: Path) -> None:
    """Write a model repository to an existing folder.

    Raises:
        ServeError: Triton cannot hold a model.
    """
    for name, model in models.items():
        source, target = ModelDir(model).onnx, folder / name / "1" / "model.onnx"
        spec = OnnxPolicy(source).spec
        target.parent.mkdir(parents=True)
        config = _HEADER + to_text(model_config(name, spec))
        (folder / name / "config.pbtxt").write_text(config, encoding="utf-8")
        shutil.copyfile(source, target)
        for path_of in (certificate_path, signature_path):
            if path_of(source).exists():
                shutil.copyfile(path_of(source), path_of(target))
