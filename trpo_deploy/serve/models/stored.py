"""Load a model from the store."""

from __future__ import annotations

from pathlib import Path

from trpo_deploy.errors import ServeError, TrpoDeployError
from trpo_deploy.files.certificate import certificate_path, read_certificate
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.serve.models.served_model import ServedModel
from trpo_deploy.serve.models.served_policy import ServedPolicy


def load_stored(folder: Path, name: str, version: str, path: str) -> ServedModel:
    """Load a model without checks.

    Args:
        folder: The model's folder in the store.
        name: Name of the model.
        version: Version of the model.
        path: Where the user has it, for messages.

    Raises:
        ServeError: The file is not a policy, or the certificate is not JSON.
    """
    onnx, source = ModelDir(folder).onnx, Path(path)
    try:
        policy, certificate = ServedPolicy(onnx, name), read_certificate(onnx)
    except TrpoDeployError as error:
        shown = str(error).replace(str(onnx), path)
        shown = shown.replace(str(certificate_path(onnx)), str(certificate_path(source)))
        raise ServeError(shown) from error
    except Exception as error:
        raise ServeError(f"{path} cannot be opened ({error!r})") from error
    policy.path = source
    return ServedModel(name, version, policy, certificate)
