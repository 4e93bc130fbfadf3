"""When a checkpoint is taken, written and gone on from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Logger

from trpo_deploy.errors import ConfigError
from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.train.algorithm.trpo import TRPO
from trpo_deploy.train.checkpoint.state import (
    Checkpoint,
    course_state,
    learner_state,
    load_checkpoint,
    restore_course,
    restore_learner,
    restore_randomness,
    space_texts,
)
from trpo_deploy.train.config.train_config import TrainConfig
from trpo_deploy.train.run.callbacks import EvaluationCallback
from trpo_deploy.train.run.csv_log import CsvLog


class CheckpointCallback(BaseCallback):
    """Keeps the run as it was before the last rollout, and writes it out now and then.

    Args:
        config: of the run.
        folder: where the checkpoint goes.
        evaluation: whose evaluations belong to it.
        log: whose rows do.
        resumed: what to go on from, or None for a run from the beginning.
        note: is told if the environments cannot be put where they stood.
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
        self._kept: bytes | None = None
        self._written_at = 0 if resumed is None else resumed.timesteps

    def _on_training_start(self) -> None:
        if self._resumed is None:
            return
        try:
            restore_learner(self.model, self._resumed.learner)
            exact = restore_course(self.model, self._resumed.course)
        except (RuntimeError, ValueError, LookupError, EOFError, ConnectionError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"the checkpoint in {self._folder.root} does not fit the policy or the "
                f"environment as they are now ({reason}); undo what changed since, or train into "
                "another folder with -o"
            ) from error
        self._kept = self._resumed.dump()
        if not exact:
            self._note(
                f"{self._config.env_id} does not tell where it stands: new episodes start, and "
                "the run goes on otherwise than it would have without the interruption"
            )
        _restore_pending(self.logger, self._resumed.log)

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        if self._resumed is not None:
            # SB3 has drawn gSDE's noise for this rollout by now, and so had the run before.
            restore_randomness(self.model, self._resumed.course)
            if self._resumed.finished and self.model.use_sde:
                self.model.policy.reset_noise(self._config.n_envs)
            self._resumed = None
        self._keep(finished=False)
        if self.num_timesteps - self._written_at >= self._config.checkpoint_every:
            self.write()

    def _on_training_end(self) -> None:
        # A run that was ended in the middle of a rollout is as it was at the rollout's start.
        if self.model.rollout_buffer.full:
            self._keep(finished=True)
        else:
            self.rewind(self.model)

    def _keep(self, *, finished: bool) -> None:
        self._kept = Checkpoint(
            config=self._config.to_dict(),
            spaces=space_texts(self.model),
            learner=learner_state(self.model),
            course=course_state(self.model),
            log=_pending(self.logger) | {"rows": self._log.n_rows},
            evaluation=self._evaluation.state(),
            finished=finished,
        ).dump()

    @property
    def any(self) -> bool:
        """Whether there is anything to go on from: a rollout began, or the run was resumed."""
        return self._kept is not None

    def write(self) -> None:
        """Write what was kept last."""
        assert self._kept is not None
        atomic_write(self._folder.checkpoint, self._kept)
        self._written_at = self.num_timesteps

    def rewind(self, model: TRPO) -> None:
        """Put the learner where it was kept last: an update may have been half done."""
        assert self._kept is not None
        restore_learner(model, load_checkpoint(self._kept).learner)


_PENDING = ("name_to_value", "name_to_count", "name_to_excluded")


def _pending(logger: Logger) -> dict[str, Any]:
    """Values that an update has logged for the next row."""
    return {name: dict(getattr(logger, name)) for name in _PENDING}


def _restore_pending(logger: Logger, state: dict[str, Any]) -> None:
    for name in _PENDING:
        getattr(logger, name).update(state[name])
