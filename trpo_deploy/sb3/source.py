"""A trained policy and what is known about its training, read and ready for the export."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

from trpo_deploy.envs.components import find_control
from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.recorded import environment_of, remake_environment
from trpo_deploy.envs.spaces import space_from_gymnasium
from trpo_deploy.errors import EnvError, SpaceError, TrpoDeployError
from trpo_deploy.sb3.environment_in_memory import recorded_part
from trpo_deploy.sb3.model_in_memory import ModelInMemory
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.sb3.training_record import TrainingRecord
from trpo_deploy.sb3.wrapper_search import ImageLayout
from trpo_deploy.spec.components import ControlSpec
from trpo_deploy.spec.environment import EnvironmentSpec
from trpo_deploy.spec.spaces import Array, DictSpace

_LAST = 10
"""Episodes at the end of a training, whose policy is nearly the saved one."""


@dataclass(frozen=True)
class SourceOptions:
    """What the user says about a source beyond what its files tell."""

    env_id: str | None = None
    """The environment, for real observations, returns and the layout of images."""
    image_layout: ImageLayout | None = None
    """The axis order of the environment's images."""
    frame_stack: int | None = None
    """Number of frames that ``VecFrameStack`` stacked."""
    allow_import: tuple[str, ...] = ()
    """Classes that the source's files may import, as ``package.module:Class``."""
    allow_wrappers: tuple[str, ...] = ()
    """Wrappers of a model in memory that ``export_model`` would refuse, as
    ``package.module:Class``. A Gymnasium wrapper stays outside of the file, as a part of the
    environment. A vec-env wrapper must change neither observations nor actions, which the
    certificate checks."""
    normalize_check: bool = True
    """Whether to refuse statistics that contradict what is known about the training."""


@dataclass(frozen=True, eq=False)
class RecordedReturns:
    """Returns that a training recorded."""

    source: str
    """What they are of, in words."""
    returns: Array
    """``(episodes,)``, at least two."""
    same_policy: bool = False
    """Whether they are of the policy itself or of the one before its last update."""


@dataclass(frozen=True, eq=False)
class LoadedSource:
    """A policy as SB3 runs it, and what is known about its training."""

    reference: SB3Policy
    algorithm: str
    has_std: bool
    """False if the zip lacks the noise of gSDE; see :class:`~trpo_deploy.sb3.policy_zip.PolicyZip`.
    """
    recorded: EnvironmentSpec | None
    """The environment of the training; its id is the user's if the user named one."""
    sha256: Mapping[str, str]
    """Hex SHA-256 of the source's files, by file name."""
    sb3_version: str
    training: Mapping[str, float] = field(default_factory=dict)
    """``timesteps`` and the evaluation's ``return_mean``, ``return_std`` and ``episodes``."""
    training_record: TrainingRecord = field(default_factory=TrainingRecord)
    """What the model itself kept of its training."""
    normalize_check: bool = True
    """See :class:`SourceOptions`."""
    accepted_problem: str = ""
    """What contradicts the statistics, if the user accepted it; empty if nothing does."""
    evaluations: Mapping[int, Array] = field(default_factory=dict)
    """Returns of the run's evaluations nearest to the policy's timesteps, by timesteps."""
    model: ModelInMemory | None = None
    """The model with its environment, if it was in memory."""
    skipped: tuple[str, ...] = ()
    """Entries of the zip that were not decoded, since the policy does not need them."""
    asked: bool = False
    """Whether the user named the environment's id."""
    trusted: tuple[str, ...] = ()
    """Names that may be imported to make the environment."""

    def recorded_returns(self) -> tuple[RecordedReturns, ...]:
        """Returns that the training recorded.

        Samples of fewer than two episodes have no spread and are left out.
        """
        found = [
            RecordedReturns(f"evaluation at {at} steps", each, at == self.training.get("timesteps"))
            for at, each in self.evaluations.items()
        ]
        last = self.training_record.episode_returns
        if last is not None:
            found.append(RecordedReturns("last training episodes", last))
            found.append(RecordedReturns(f"last {_LAST} training episodes", last[-_LAST:]))
        return tuple(each for each in found if len(each.returns) > 1)

    def environment(self) -> Environment:
        """The environment to play the policy in.

        Raises:
            EnvError: No environment is known, or it cannot be made or does not fit.
        """
        if self.recorded is None:
            raise EnvError("the policy's environment is unknown; name it with --env ID")
        action_space = space_from_gymnasium(self.reference.action_space)
        if isinstance(action_space, DictSpace):
            raise SpaceError("an action space cannot be a Dict")
        return remake_environment(
            self.recorded,
            self.reference.frame_space,
            action_space,
            asked=self.asked,
            trusted=self.trusted,
        )

    def environment_if_any(self) -> tuple[Environment | None, str]:
        """The environment, and a note on how it differs from the training's.

        Without an environment, the note says why. A policy can be exported without one.

        Raises:
            EnvError: The environment that the user asked for cannot be made or does not fit.
        """
        try:
            found = self.environment()
        except TrpoDeployError as error:
            if self.asked:
                raise
            return None, str(error)
        return found, found.note

    def control(self) -> tuple[ControlSpec, tuple[str, ...]]:
        """What the environment tells about its observations and actions, and notes for the user.

        Nothing is known if it cannot be made as the training had it. A newer version of an
        environment of Gymnasium counts as the same: if it has the same spaces, it has the same
        numbers in them.
        """
        env = None if self.model is None else recorded_part(self.model.environment)
        if env is not None:
            return find_control(env)
        with suppress(TrpoDeployError):
            environment = self.environment()
            with environment.opened() as made:
                is_gymnasiums = type(made.unwrapped).__module__.startswith("gymnasium.envs.")
                if self._is_as_recorded(environment, newer=is_gymnasiums):
                    return find_control(made)
        return ControlSpec(), ()

    def _is_as_recorded(self, environment: Environment, *, newer: bool) -> bool:
        """Whether an environment has the record's arguments and wrappers, and its id.

        Args:
            environment: The environment.
            newer: Whether another id, of a newer version, is the same.
        """
        assert self.recorded is not None
        if self.recorded.unrecorded:
            return False
        env_id = self.recorded.id if newer else environment.env_id
        return replace(environment, env_id=env_id, note="") == environment_of(self.recorded)
