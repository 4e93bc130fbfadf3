"""All errors that a user can cause.

::

    TrpoDeployError
    ├── ConfigError            a preset, flag or config value is invalid
    ├── EnvError               an environment cannot be made or misbehaves
    ├── SpaceError             an observation or action space is not supported
    ├── TrainingError          a training run cannot continue
    │   └── RankFailedError    another process of the run failed, and reports it
    ├── ModelDirError          a model folder or file is missing or in the way
    ├── PolicyZipError         a file is not a readable policy zip or statistics file
    │   └── UnsafePickleError  reading the file would run code from it
    ├── ExportError            a policy cannot be written as ONNX
    │   ├── CertificateError   the exported files do not behave like the trained policy
    │   └── ToolMissingError   a compiler, interpreter or engine is not here
    ├── PolicyFileError        an ONNX file cannot be run as a policy
    │   └── PolicyStoppedError a run was stopped before it ended
    ├── ObservationError       an observation does not fit the policy
    ├── ControlError           a control loop does not fit its policy, or a fault in it
    ├── ServeError             the service cannot start
    │   └── SignatureError     a model is not signed with a trusted key, or a key is invalid
    └── MissingExtraError      an optional part of trpo-deploy is not installed

A message says what was received, what was expected and what to do. The command line prints it
as one line and exits with 1. The HTTP service answers with a 4xx status.
"""

from __future__ import annotations


class TrpoDeployError(Exception):
    """Base class of all errors of trpo-deploy."""


class ConfigError(TrpoDeployError):
    """A preset, flag or config value is invalid."""


class EnvError(TrpoDeployError):
    """An environment cannot be made or misbehaves."""


class SpaceError(TrpoDeployError):
    """An observation or action space is not supported."""


class TrainingError(TrpoDeployError):
    """A training run cannot continue."""


class RankFailedError(TrainingError):
    """Another process of the run failed, and reports it."""


class ModelDirError(TrpoDeployError):
    """A model folder or file is missing or in the way."""


class PolicyZipError(TrpoDeployError):
    """The file is not a readable policy zip or statistics file."""


class UnsafePickleError(PolicyZipError):
    """The file contains a pickle that refers to a name outside the allow-list."""


class ExportError(TrpoDeployError):
    """A policy cannot be written as ONNX."""


class CertificateError(ExportError):
    """The exported files do not behave like the trained policy."""


class ToolMissingError(ExportError):
    """A compiler, interpreter or engine is not on this machine."""


class PolicyFileError(TrpoDeployError):
    """An ONNX file cannot be run as a policy."""


class PolicyStoppedError(PolicyFileError):
    """A run of a policy was stopped before it ended."""


class ObservationError(TrpoDeployError, ValueError):
    """An observation does not fit the policy.

    Attributes:
        field: Key of the observation; ``"obs"`` for a space without keys.
        expected: What the policy takes, as text.
        received: What was received, as text.
        kind: Category of the error, for counting: ``shape``, ``ragged``, ``dtype``,
            ``not_finite``, ``out_of_range``, ``missing_key``, ``extra_key`` or ``batch_size``.
    """

    def __init__(self, field: str, expected: str, received: str, *, kind: str) -> None:
        super().__init__(f"observation {field!r}: expected {expected}, received {received}")
        self.kind = kind
        self.field = field
        self.expected = expected
        self.received = received


class ControlError(TrpoDeployError):
    """A control loop does not fit its policy, or, where asked for, a fault in the loop.

    Attributes:
        cause: The fault's cause, such as ``stale``; ``None`` if the loop does not fit.
    """

    def __init__(self, message: str, cause: str | None = None) -> None:
        super().__init__(message)
        self.cause = cause


class ServeError(TrpoDeployError):
    """The service cannot start."""


class SignatureError(ServeError):
    """A model is not signed with a trusted key, or a key is invalid."""


class MissingExtraError(TrpoDeployError, ImportError):
    """An optional part of trpo-deploy is not installed."""
