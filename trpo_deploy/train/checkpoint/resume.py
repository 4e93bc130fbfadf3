"""What a run resumes with, and the checks that its settings and spaces are still the same."""

from __future__ import annotations

from trpo_deploy.errors import ConfigError
from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.yaml import read_yaml, to_yaml
from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.checkpoint.checkpoint import Checkpoint, read_checkpoint
from trpo_deploy.train.config.differences import different_settings
from trpo_deploy.train.config.preset_files import RUN_ID
from trpo_deploy.train.config.train_config import TrainConfig

_MAY_CHANGE = ("n_timesteps", "stop_return", "checkpoint_every", "device", "logger")
"""Settings that a resumed run may change: its length, its device, what it writes."""


def is_of_run(folder: ModelDir, run_id: str | None) -> bool:
    """Whether a folder has the run of a start of ``torchrun``, at whatever point it was killed.

    Args:
        folder: Model folder.
        run_id: See :func:`~trpo_deploy.train.distributed.launch.run_id`.
    """
    try:
        return run_id is not None and read_yaml(folder.config).get(RUN_ID) == run_id
    except ConfigError:  # there is no readable file
        return False


def settings_to_resume(folder: ModelDir) -> str | None:
    """The run's ``config.yaml``, restored from the checkpoint if it is damaged or missing.

    Returns:
        Its path, to use as a preset; None if neither file exists.

    Raises:
        ModelDirError: The checkpoint is needed and not readable.
    """
    try:
        complete = {"hyperparameters", "versions"} <= read_yaml(folder.config).keys()
    except ConfigError:
        complete = False
    checkpoint = None if complete else read_checkpoint(folder)
    if checkpoint is not None:
        atomic_write(folder.config, to_yaml(checkpoint.config))
    return str(folder.config) if folder.config.is_file() else None


def check_same_settings(checkpoint: Checkpoint, config: TrainConfig) -> None:
    """Check that a run resumes with the settings of its checkpoint.

    Raises:
        ConfigError: A setting differs, or fewer steps are asked for than were made.
    """
    for name, ours, theirs in different_settings(checkpoint.config, config):
        if name not in _MAY_CHANGE:
            raise ConfigError(
                f"the run to resume has {name}={ours!r}, not {theirs!r}; omit that setting, or "
                "train into another folder with -o"
            )
    asked, planned = config.n_timesteps, checkpoint.config["n_timesteps"]
    if asked < min(planned, checkpoint.timesteps):
        raise ConfigError(
            f"the run to resume has made {checkpoint.timesteps} of {planned} steps, more than "
            f"{asked}; ask for more with -n, or omit -n"
        )


def check_same_spaces(checkpoint: Checkpoint, model: TRPO) -> None:
    """Check that the environment's spaces have not changed since the checkpoint.

    Raises:
        ConfigError: A space differs.
    """
    roles = ("observation", "action")
    for role, before, now in zip(roles, checkpoint.spaces, space_texts(model), strict=True):
        if before != now:
            raise ConfigError(
                f"the {role} space is {now}, but the run to resume has {before}; train into "
                "another folder with -o"
            )


def space_texts(model: TRPO) -> list[str]:
    """Observation space and action space of the environment, as text for comparison."""
    env = model.get_env()
    assert env is not None
    return [str(env.observation_space), str(env.action_space)]
