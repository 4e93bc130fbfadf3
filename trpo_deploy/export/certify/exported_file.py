"""An ONNX file that this project exported."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import onnx
from onnx import TensorProto

from trpo_deploy.errors import PolicyFileError
from trpo_deploy.spec.policy_spec import METADATA_KEY, PolicySpec


@dataclass(frozen=True, eq=False)
class ExportedFile:
    """The content of a ``policy.onnx``, parsed."""

    content: bytes
    model: onnx.ModelProto
    spec: PolicySpec

    @classmethod
    def read(cls, path: Path) -> ExportedFile:
        """Read an ONNX file.

        Raises:
            PolicyFileError: The file cannot be read, is not an ONNX model, or has no spec.
        """
        try:
            return cls.parse(path.read_bytes())
        except OSError as error:
            raise PolicyFileError(f"cannot read {path}: {error.strerror}") from error
        except PolicyFileError as error:
            raise PolicyFileError(f"{path}: {error}") from error

    @classmethod
    def parse(cls, content: bytes) -> ExportedFile:
        """Parse the bytes of an ONNX file.

        Raises:
            PolicyFileError: The content is not an ONNX model, or has no spec.
        """
        try:
            model = onnx.load_model_from_string(content)
        except Exception as error:  # protobuf's DecodeError has no public base
            raise PolicyFileError(f"the file is not an ONNX model ({error})") from error
        metadata = {item.key: item.value for item in model.metadata_props}
        if METADATA_KEY not in metadata:
            raise PolicyFileError(
                f"the file has no {METADATA_KEY!r} metadata; only files written by "
                "trpo-deploy export can be verified"
            )
        return cls(content, model, PolicySpec.from_json(metadata[METADATA_KEY]))

    @property
    def rounds_mean(self) -> bool:
        """Whether the normaliser subtracts one float32 mean, as in files of earlier versions."""
        constants = {each.name: each.data_type for each in self.model.graph.initializer}
        return any(
            name.endswith("/mean") and dtype == TensorProto.FLOAT and f"{name}_low" not in constants
            for name, dtype in constants.items()
        )

    @property
    def sha256(self) -> str:
        """SHA-256 of the content, in hexadecimal."""
        return sha256(self.content).hexdigest()
