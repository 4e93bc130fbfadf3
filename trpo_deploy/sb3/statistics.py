"""Read the running statistics of ``VecNormalize`` without running code from the file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from zipfile import is_zipfile

import numpy as np
from stable_baselines3.common.vec_env import VecNormalize

from trpo_deploy.errors import (
    PolicyZipError,
    UnsafePickleError,
)
from trpo_deploy.sb3.archive import MAX_DATA_BYTES
from trpo_deploy.sb3.imported_classes import imported_classes
from trpo_deploy.sb3.pickles import VECNORMALIZE, decode_state


def read_vecnormalize(path: Path, allow_import: Iterable[str] = ()) -> VecNormalize:
    """Read a file that ``VecNormalize.save`` wrote.

    The layout is that of ``VecNormalize.__getstate__`` in ``stable_baselines3.common.vec_env``.

    Args:
        path: The file.
        allow_import: See :func:`~trpo_deploy.sb3.policy_zip.read_policy_zip`.

    Returns:
        The object in the state after ``VecNormalize.load`` and before ``set_venv``.

    Raises:
        PolicyZipError: The file is missing or cannot be decoded.
        UnsafePickleError: The file refers to a name outside the allow-list.
        ConfigError: A class of ``allow_import`` cannot be imported.
    """
    allowed = imported_classes(allow_import)
    if is_zipfile(path):
        raise PolicyZipError(
            f"{path} is a zip, as of a policy; expected the statistics that VecNormalize.save() "
            "wrote, such as vecnormalize.pkl"
        )
    try:
        if path.stat().st_size > MAX_DATA_BYTES:
            raise PolicyZipError(
                f"{path} is larger than {MAX_DATA_BYTES} bytes, so not a statistics file"
            )
        content = path.read_bytes()
    except OSError as error:
        raise PolicyZipError(f"cannot read {path}: {error.strerror}") from error
    try:
        state = decode_state(content, VECNORMALIZE, _STATISTICS, allowed)
        if state is None:
            raise PolicyZipError("this is not a VecNormalize; expected the run's vecnormalize.pkl")
        state.setdefault("norm_obs_keys", None)
        statistics = VecNormalize.__new__(VecNormalize)
        statistics.__setstate__({"old_reward": np.array([]), **state})
        _check_statistics(statistics)
    except UnsafePickleError as error:
        raise UnsafePickleError(
            f"{path}: {error}; allow a space of your own with --allow-import module:Class"
        ) from error
    except PolicyZipError as error:
        raise PolicyZipError(f"{path}: {error}") from error
    except Exception as error:  # damaged pickles raise nearly every built-in exception
        raise PolicyZipError(
            f"{path} is damaged, or not a file of VecNormalize.save() ({error}); give the run's "
            "vecnormalize.pkl"
        ) from error
    return statistics


# What VecNormalize needs to continue; its last batch of observations and rewards is left out.
_STATISTICS = (
    "observation_space",
    "action_space",
    "obs_rms",
    "ret_rms",
    "clip_obs",
    "clip_reward",
    "gamma",
    "epsilon",
    "training",
    "norm_obs",
    "norm_reward",
    "norm_obs_keys",
    "num_envs",
    "render_mode",
)


def _check_statistics(statistics: VecNormalize) -> None:
    rms = statistics.obs_rms if statistics.norm_obs else {}
    for each in rms.values() if isinstance(rms, dict) else [rms]:
        if not (np.isfinite(each.mean).all() and np.isfinite(each.var).all()):
            raise ValueError("mean or variance is not finite")
        if (each.var < 0).any():
            raise ValueError("a variance is negative")
    if not (statistics.clip_obs > 0 and statistics.epsilon > 0):
        raise ValueError("clip_obs and epsilon must be above zero")
