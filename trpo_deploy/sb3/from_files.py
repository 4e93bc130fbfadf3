"""Load a trained policy from the files of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from gymnasium import spaces

from trpo_deploy.envs.recorded import recorded_by_run, recorded_space
from trpo_deploy.envs.trust import imported_names
from trpo_deploy.errors import TrpoDeployError
from trpo_deploy.files.atomic import file_sha256
from trpo_deploy.files.runs import Run
from trpo_deploy.sb3.evaluations import read_evaluations
from trpo_deploy.sb3.normalizer_check import check_normalizer
from trpo_deploy.sb3.observation_chain import Wrapping
from trpo_deploy.sb3.policy_zip import read_policy_zip
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.sb3.source import LoadedSource, SourceOptions
from trpo_deploy.sb3.statistics import read_vecnormalize
from trpo_deploy.sb3.wrapper_search import ImageLayout
from trpo_deploy.spec.environment import EnvironmentSpec
from trpo_deploy.spec.spaces import Array

_ATARI_WRAPPER = "stable_baselines3.common.atari_wrappers:AtariWrapper"


def load_source(run: Run, options: SourceOptions) -> LoadedSource:
    """Read a policy, its statistics and what is known about its environment.

    Raises:
        PolicyZipError: A file cannot be read.
        ConfigError: The configuration cannot be read.
        ExportError: The statistics are missing.
        EnvError: The environment that the user named cannot be made.
        SpaceError: The statistics or the frame stack do not fit, or the image layout is unknown.
    """
    described = recorded_by_run(run.settings)
    recorded = replace(
        described,
        id=options.env_id or described.id,
        frame_stack=options.frame_stack or described.frame_stack,
    )
    trusted = _trusted(run, options)
    wrapping = Wrapping(
        options.image_layout or _recorded_layout(recorded),
        recorded.frame_stack,
        _environment_space(recorded, trusted, asked=options.env_id is not None),
        # RL Zoo and this project leave the axis to VecFrameStack.
        stacks_by_default=recorded.frame_stack == described.frame_stack,
    )
    # The classes of the policy's network and spaces; the others are of the environment.
    named = sorted(set(options.allow_import) - set(imported_names(described)))
    policy_zip = read_policy_zip(run.policy_zip, named)
    hashes = {run.policy_zip.name: policy_zip.sha256}
    statistics = None
    if run.vecnormalize is not None:
        statistics = read_vecnormalize(run.vecnormalize, named)
        hashes[run.vecnormalize.name] = file_sha256(run.vecnormalize)
    accepted = check_normalizer(
        policy_zip.training_record,
        statistics,
        accept=not options.normalize_check,
        configured=run.settings.normalizes,
    )
    evaluations: dict[int, Array] = {}
    if run.evaluations is not None:
        evaluations = read_evaluations(run.evaluations, policy_zip.num_timesteps)
    return LoadedSource(
        reference=SB3Policy(
            policy_zip.build_policy(),
            statistics,
            policy_zip.observation_space,
            policy_zip.action_space,
            wrapping,
        ),
        algorithm=policy_zip.algorithm,
        has_std=policy_zip.has_std,
        recorded=recorded if recorded.id else None,
        sha256=hashes,
        sb3_version=policy_zip.sb3_version,
        training=_training(policy_zip.num_timesteps, evaluations),
        training_record=policy_zip.training_record,
        normalize_check=options.normalize_check,
        accepted_problem=accepted,
        evaluations=evaluations,
        skipped=policy_zip.skipped,
        asked=options.env_id is not None,
        trusted=trusted,
    )


def _trusted(run: Run, options: SourceOptions) -> tuple[str, ...]:
    """Names that may be imported: the user's, and the environment's id of a model folder.

    RL Zoo's layout takes the id from a folder's name, which is not trusted.
    """
    own = run.settings.env_id if run.model_dir is not None else None
    ids = (each for each in (options.env_id, own) if each is not None)
    return (*options.allow_import, *ids)


def _recorded_layout(recorded: EnvironmentSpec) -> ImageLayout | None:
    """The axis order of images behind a known wrapper, for which no game need be installed."""
    is_atari = bool(recorded.wrappers) and recorded.wrappers[-1].name == _ATARI_WRAPPER
    return "hwc" if is_atari else None


def _environment_space(
    recorded: EnvironmentSpec, trusted: tuple[str, ...], *, asked: bool
) -> spaces.Space[Any] | None:
    """The environment's observation space; ``None`` if it is unknown or cannot be made.

    Raises:
        EnvError: The user named the environment, and it cannot be made.
    """
    if not recorded.id:
        return None
    try:
        return recorded_space(recorded, trusted)
    except TrpoDeployError:
        if asked:
            raise
        return None


def _training(timesteps: int, evaluations: Mapping[int, Array]) -> dict[str, float]:
    """Timesteps, and the returns of the evaluation that is nearest to them."""
    if not evaluations:
        return {"timesteps": timesteps}
    returns = evaluations[min(evaluations, key=lambda at: abs(at - timesteps))]
    return {
        "timesteps": timesteps,
        "return_mean": float(returns.mean()),
        "return_std": float(returns.std()),
        "episodes": len(returns),
    }
