"""Why an environment cannot be made, in one sentence that says what to do."""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import gymnasium

from trpo_deploy.envs.rendering import render_problem
from trpo_deploy.extras import DISTRIBUTION, find_extra

_MISSING = re.compile(r"(\S+) is not installed.*gymnasium\[([\w-]+)\]")
"""How Gymnasium names a missing package, and its own extra that installs it."""
_MOVED = "moved to the gymnasium-robotics project"
"""What Gymnasium says of MuJoCo's -v2 and -v3, which it registers and cannot make."""


def failure_message(env_id: str, error: BaseException) -> str:
    """The message for an environment that cannot be made.

    Args:
        env_id: The environment.
        error: What ``gymnasium.make`` raised.
    """
    reason = " ".join(str(error).split())
    missing = missing_package(error)
    if missing:
        return f"{missing[0]} is not installed, so {env_id} cannot be made; {missing[1]}"
    newest = newest_version(env_id)
    if newest and (isinstance(error, gymnasium.error.DeprecatedEnv) or _MOVED in reason):
        return f"Gymnasium no longer has {env_id}; its newest version is {newest}"
    if isinstance(error, gymnasium.error.UnregisteredEnv) or reason.startswith("Malformed"):
        return f"no environment is registered as {env_id}; {_advice(env_id)}"
    return f"the environment {env_id} cannot be made ({render_problem(error)})"


def missing_package(error: BaseException) -> tuple[str, str] | None:
    """The package that Gymnasium misses, and the command that installs it.

    Gymnasium names its own extra. The command names the extra of trpo-deploy that requires it, so
    that the package comes in a supported version.

    Returns:
        ``None`` for an error of another kind.
    """
    found = _MISSING.search(" ".join(str(error).split()))
    if found is None:
        return None
    package, extra = found[1], found[2].replace("_", "-")
    ours = find_extra("gymnasium", extra)
    target = f"gymnasium[{extra}]" if ours is None else f"{DISTRIBUTION}[{ours}]"
    return package, f'run: pip install "{target}"'


def newest_version(env_id: str) -> str | None:
    """The newest registered version of an id; ``None`` if there is none."""
    match = re.fullmatch(r"(.+)-v\d+", env_id)
    if match is None:
        return None
    versions = [
        spec.version
        for spec in gymnasium.registry.values()
        if spec.id == f"{match[1]}-v{spec.version}" and spec.version is not None
    ]
    return f"{match[1]}-v{max(versions)}" if versions else None


def _advice(env_id: str) -> str:
    if Path(env_id).exists():
        return "give an environment id such as CartPole-v1, not a file or folder"
    known = {each.lower(): each for each in gymnasium.registry}
    own = "name the module that registers it, as in module:Id"
    near = difflib.get_close_matches(env_id.lower(), known, n=1)
    if near:
        close = known[near[0]]
        return f"did you mean {newest_version(close) or close}? Otherwise {own}"
    return own
