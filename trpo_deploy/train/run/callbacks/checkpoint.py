"""Callback that writes checkpoints and resumes from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from trpo_deploy.errors import ConfigError
from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.checkpoint.checkpoint import Checkpoint, load_checkpoint
from trpo_deploy.train.checkpoint.learner_state import learner_state, restore_learner
from trpo_deploy.train.checkpoint.rank_state import restore, restore_noise, rollout_of_all_ranks
from trpo_deploy.train.checkpoint.resume import space_texts
from trpo_deploy.train.config.train_config import TrainConfig
from trpo_deploy.train.run.callbacks.evaluation import EvaluationCallback
from trpo_deploy.train.run.csv_log import CsvLog


class CheckpointCallback(BaseCallback):
    """Takes a checkpoint before each rollout, and writes it every ``checkpoint_every`` steps.

    Args:
        config: Configuration of the run.
        folder: Model folder to write to.
        evaluation: Callback whose evaluations belong to the checkpoint.
        log: Log whose number of rows belongs to it.
        resumed: Checkpoint to resume from, or None to start from the beginning.
        note: Called if the environments start new episodes instead of resuming theirs.
    """

    model: TRPO

    def __init__(
        self,
        config: TrainConfig,
        folder: ModelDir,
        evaluation: EvaluationCallback,
        log: CsvLog,
        resumed: Checkpoint | None,
        note: Callable[[str], None],
    ) -> None:
        super().__init__()
        self._config = config
        self._folder = folder
        self._evaluation = evaluation
        self._log = log
        self._resumed = resumed
        self._note = note
        self._taken: bytes | None = None
        self._written_at = 0 if resumed is None else resumed.timesteps

    def _on_training_start(self) -> None:
        if self._resumed is None:
            return
        try:
            exact = restore(self.model, self._resumed)
        except (RuntimeError, ValueError, LookupError, EOFError, ConnectionError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"the checkpoint in {self._folder.root} does not fit the policy or the "
                f"environment, which have changed since ({reason}); undo the change, or train into "
                "another folder with -o"
            ) from error
        self._taken = self._resumed.dump()
        if not exact:
            self._note(
                f"the state of {self._config.env_id} cannot be saved: new episodes start, and the "
                "run differs from one without the interruption"
            )
        _restore_pending(self.logger, self._resumed.log)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self._resumed is not None:
            restore_noise(self.model, self._resumed)
            self._resumed = None
        self._take(finished=False)
        if self.num_timesteps - self._written_at >= self._config.checkpoint_every:
            self.write()

    def _on_training_end(self) -> None:
        # A run that stops in the middle of a rollout returns to the start of that rollout.
        if self.model.rollout_buffer.full:
            self._take(finished=True)
        else:
            self.rewind(self.model)

    def _take(self, *, finished: bool) -> None:
        self._taken = Checkpoint(
            config=self._config.to_dict(),
            spaces=space_texts(self.model),
            learner=learner_state(self.model),
            rollout=rollout_of_all_ranks(self.model),
            log=_pending(self.logger) | {"rows": self._log.n_rows},
            evaluation=self._evaluation.state(),
            finished=finished,
        ).dump()

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a checkpoint: a rollout has begun, or the run was resumed."""
        return self._taken is not None

    def write(self) -> None:
        """Write the last checkpoint taken."""
        assert self._taken is not None
        atomic_write(self._folder.checkpoint, self._taken)
        self._written_at = self.num_timesteps

    def rewind(self, model: TRPO) -> None:
        """Return the learner to the last checkpoint: an update may have been interrupted."""
        assert self._taken is not None
        restore_learner(model, load_checkpoint(self._taken).learner)


class RewindCallback(BaseCallback):
    """Returns the learner to the last checkpoint if a callback stopped the last rollout.

    The first callback of a run: the others then evaluate and save the policy of that checkpoint.
    """

    model: TRPO

    def __init__(self, checkpoints: CheckpointCallback) -> None:
        super().__init__()
        self._checkpoints = checkpoints

    def _on_step(self) -> bool:
        return True

    def _on_training_end(self) -> None:
        if not self.model.rollout_buffer.full:
            self._checkpoints.rewind(self.model)


_PENDING = ("name_to_value", "name_to_count", "name_to_excluded")


def _pending(logger: Logger) -> dict[str, Any]:
    """Values that an update has logged for the next row."""
    return {name: dict(getattr(logger, name)) for name in _PENDING}


def _restore_pending(logger: Logger, state: dict[str, Any]) -> None:
    for name in _PENDING:
        getattr(logger, name).update(state[name])
