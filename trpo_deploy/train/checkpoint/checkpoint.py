"""A checkpoint: the complete state of a run between two updates, in one file.

Reading one runs no code: its structure is JSON and its numbers are arrays (see
:mod:`trpo_deploy.train.codec`).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from trpo_deploy.errors import ModelDirError
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train.codec import decode, encode

_FORMAT = 3
_KEYS = {"rollout": "course"}
"""Fields whose key in the file is not their name; the format keeps the first name."""


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run; all values are ones that the codec supports."""

    config: dict[str, Any]
    """The run's :class:`TrainConfig`, as a mapping."""
    spaces: list[str]
    """Observation space and action space, as text."""
    learner: dict[str, Any]
    """State that an update changes; see :func:`~.learner_state.learner_state`."""
    rollout: dict[str, Any]
    """State that a rollout changes; see :func:`~.rollout_state.rollout_state`."""
    log: dict[str, Any]
    """Values logged for the next row, and the number of rows so far."""
    evaluation: dict[str, Any]
    """The evaluations, and the files of the best policy."""
    finished: bool
    """Whether the run had made all its steps."""

    def dump(self) -> bytes:
        """The content of the checkpoint file."""
        content = {_KEYS.get(name, name): value for name, value in vars(self).items()}
        return encode({"format": _FORMAT, **content})

    @property
    def timesteps(self) -> int:
        """Environment steps made so far."""
        return int(self.learner["counters"]["num_timesteps"])


def load_checkpoint(data: bytes) -> Checkpoint:
    """Parse the content of a checkpoint file.

    Raises:
        ValueError: The content is not a checkpoint, or has another format version.
    """
    content = decode(data)
    if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
        raise ValueError(f"expected format {_FORMAT}; another version of trpo-deploy wrote it")
    names = [each.name for each in fields(Checkpoint)]
    if set(content) != {_KEYS.get(name, name) for name in names}:
        raise ValueError("parts are missing")
    return Checkpoint(**{name: content[_KEYS.get(name, name)] for name in names})


def read_checkpoint(folder: ModelDir) -> Checkpoint | None:
    """The checkpoint of a model folder; None if its run stopped before the first one.

    Raises:
        ModelDirError: The file is not a checkpoint, or the folder has a policy but no checkpoint.
    """
    path = folder.checkpoint
    if not path.is_file():
        if folder.policy_zip.is_file():
            raise ModelDirError(
                f"{folder.root} contains a policy but no checkpoint to resume from; train into "
                "another folder with -o"
            )
        return None
    try:
        return load_checkpoint(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ModelDirError(
            f"{path} is not a readable checkpoint ({error}); start again with --force"
        ) from error
