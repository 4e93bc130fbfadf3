"""Every error that a user can cause, as one tree.

::

    TrpoDeployError
    ├── ConfigError            a preset, flag or config value that cannot be used
    ├── EnvError               an environment that cannot be made or does not behave
    ├── SpaceError             an observation or action space that is not supported
    ├── TrainingError          a run that cannot go on
    ├── ModelDirError          a model folder or file that is missing or in the way
    ├── PolicyZipError         a file that is no readable policy zip or statistics file
    │   └── UnsafePickleError  ... because reading it would mean running code from it
    ├── ExportError            a policy that cannot be written as ONNX
    │   └── CertificateError   the ONNX file is not the trained policy
    ├── PolicyFileError        an ONNX file that cannot be run as a policy
    ├── ObservationError       an observation that the policy does not take
    ├── ServeError             a service that cannot start
    └── MissingExtraError      a part of trpo-deploy that is not installed

Messages say what came, what was expected and what to do. The command line prints them
on one line and exits with 1; the HTTP service answers with a 4xx.
"""

from __future__ import annotations


class TrpoDeployError(Exception):
    """Base of all errors that trpo-deploy raises on purpose."""


class ConfigError(TrpoDeployError):
    """A preset, flag or config value cannot be used."""


class EnvError(TrpoDeployError):
    """An environment cannot be made or does not behave."""


class SpaceError(TrpoDeployError):
    """An observation or action space is not supported."""


class TrainingError(TrpoDeployError):
    """A training run cannot go on."""


class ModelDirError(TrpoDeployError):
    """A model folder or file is missing or in the way."""


class PolicyZipError(TrpoDeployError):
    """A file is no readable policy zip or statistics file."""


class UnsafePickleError(PolicyZipError):
    """A file holds a pickle that refers to something outside the allow-list."""


class ExportError(TrpoDeployError):
    """A policy cannot be written as ONNX."""


class CertificateError(ExportError):
    """The ONNX file is not the trained policy."""


class PolicyFileError(TrpoDeployError):
    """An ONNX file cannot be run as a policy."""


class ObservationError(TrpoDeployError, ValueError):
    """An observation is not one that the policy takes.

    Attributes:
        field: the observation's key, ``"obs"`` for a space without keys.
        expected: what the policy takes, in words.
        received: what came, in words.
        kind: of mistake, in one word, for counting: ``shape``, ``ragged``, ``dtype``,
            ``not_finite``, ``out_of_range``, ``missing_key``, ``extra_key`` or ``batch_size``.
    """

    def __init__(self, field: str, expected: str, received: str, *, kind: str) -> None:
        super().__init__(f"observation {field!r}: expected {expected}, received {received}")
        self.kind = kind
        self.field = field
        self.expected = expected
        self.received = received


class ServeError(TrpoDeployError):
    """The service cannot start."""


class MissingExtraError(TrpoDeployError, ImportError):
    """An optional part of trpo-deploy is not installed."""
