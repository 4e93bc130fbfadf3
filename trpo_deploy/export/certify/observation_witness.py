"""Witness: the observations that the model kept of its training.

The reference of all other checks is this project's own reading of the zip, the statistics and the
wrappers. If that is wrong, file and reference are wrong together. The training's own observations,
one at each end of the chain of wrappers, show it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from trpo_deploy.envs.space_translation import sb3_observation_space
from trpo_deploy.export.certify.check import Check
from trpo_deploy.export.certify.trained_policy import TrainedPolicy
from trpo_deploy.sb3.observation_chain import ObservationChain
from trpo_deploy.spec.policy_spec import OBS, Inputs
from trpo_deploy.spec.spaces import Array

_FAR = 0.5
"""Part of the width of its bounds by which an observation must leave them to be refused. Many
environments declare bounds that are a little too narrow."""
_ROUNDING = 1e-6
"""Relative; SB3 rounds the normalised observation, after its clip, to float32 (6e-8)."""


_RAW, _POLICYS = "witness: raw observations", "witness: observations of the policy"


def check_observations(policy: TrainedPolicy) -> list[Check]:
    """Compare the training's observations with what the file assumes of them."""
    record = policy.training_record
    checks = []
    if record.last_original_observation is not None:
        checks.append(_check_raw(policy, record.last_original_observation))
    elif "_last_original_obs" in record.unreadable:
        checks.append(_no_witness(_RAW, record.unreadable["_last_original_obs"]))
    elif record.was_trained and any(each.statistics for each in policy.reference.chains.values()):
        reason = "the file normalises, but the model kept no raw observation"
        checks.append(_no_witness(_RAW, reason))
    if record.last_observation is not None:
        checks.append(_check_policys(policy, record.last_observation))
    else:
        reason = record.unreadable.get("_last_obs", "the model kept no observation")
        checks.append(_no_witness(_POLICYS, reason))
    return checks


def _no_witness(name: str, reason: str) -> Check:
    return Check(name, None, "nothing to compare", note=f"no witness: {reason}")


def _check_raw(policy: TrainedPolicy, raw: Inputs) -> Check:
    reference = policy.reference
    problems = list(_key_problems(raw, reference.chains))
    for name, chain in reference.chains.items():
        if name in raw:
            part = _parts(reference.observation_space)[name]
            problems += _raw_problems(name, raw[name], chain, part)
    measured: dict[str, Any] = {"observations": _described(raw), "problems": problems}
    if reference.statistics is None:
        measured["not normalised"] = "insisted on with --no-normalize-check"
    return Check(
        _RAW,
        not problems,
        "the last observations that the training gave to VecNormalize, which the model kept: their "
        "keys, shapes and kind of numbers are those that the file takes at that place",
        measured,
        note="; ".join(problems),
    )


def _check_policys(policy: TrainedPolicy, seen: Inputs) -> Check:
    reference = policy.reference
    parts = _parts(sb3_observation_space(reference.observation_space))
    problems = list(_key_problems(seen, parts))
    far: list[str] = []
    for name, part in parts.items():
        if name not in seen:
            continue
        chain, array = reference.chains[name], seen[name]
        wrong = list(_form_problems(name, array, [part.shape or ()], _kind(chain, part)))
        problems += wrong
        if not wrong:
            far += _range_problems(name, array, chain, part)
    measured: dict[str, Any] = {"observations": _described(seen), "problems": [*problems, *far]}
    accepted = far and not policy.normalize_check
    if accepted:
        measured["accepted"] = "insisted on with --no-normalize-check"
    elif far:
        problems += [*far, "--no-normalize-check accepts it"]
    return Check(
        _POLICYS,
        not problems,
        "the last observations that the training gave to the policy, which the model kept: their "
        "keys, shapes, kind of numbers and range are those that the file's preprocessing gives",
        measured,
        warning=f"accepted with --no-normalize-check: {'; '.join(far)}" if accepted else "",
        note="; ".join(problems),
    )


def _parts(space: spaces.Space[Any]) -> dict[str, spaces.Space[Any]]:
    return dict(space.spaces) if isinstance(space, spaces.Dict) else {OBS: space}


def _described(observations: Inputs) -> dict[str, str]:
    return {name: f"{array.dtype} {array.shape}" for name, array in observations.items()}


def _key_problems(found: Inputs, expected: Mapping[str, object]) -> Iterator[str]:
    if set(found) != set(expected):
        yield f"the keys were {sorted(found)} in training, the file assumes {sorted(expected)}"


def _raw_problems(
    name: str, array: Array, chain: ObservationChain, part: spaces.Space[Any]
) -> Iterator[str]:
    network = part.shape or ()
    stack = (*network[1:], network[0]) if chain.transposed else network
    places = {"frame": chain.frame.shape or (), "stack": stack, "network": network}
    known = chain.statistics is not None
    shapes = [places[chain.place]] if known else list(dict.fromkeys(places.values()))
    if known and chain.transposed:  # the normaliser may lie behind the transposition
        shapes.append((shapes[0][-1], *shapes[0][:-1]))
    assert chain.frame.dtype is not None
    yield from _form_problems(name, array, shapes, chain.frame.dtype.kind)


def _kind(chain: ObservationChain, part: spaces.Space[Any]) -> str:
    assert part.dtype is not None
    return "f" if chain.statistics is not None else part.dtype.kind


def _form_problems(
    name: str, array: Array, shapes: list[tuple[int, ...]], kind: str
) -> Iterator[str]:
    """A wrong shape, or floating-point numbers for whole ones.

    Precision may differ: environments often return another than their space declares.
    """
    if array.shape[1:] not in shapes:
        expected = " or ".join(map(str, shapes))
        yield f"{name!r} had the shape {array.shape[1:]} in training, the file assumes {expected}"
        yield from _likely_missing(array.shape[1:], shapes[0])
    if (array.dtype.kind == "f") != (kind == "f"):
        assumed = "floating-point" if kind == "f" else "whole"
        yield f"{name!r} was {array.dtype} in training, the file assumes {assumed} numbers"


def _likely_missing(found: tuple[int, ...], assumed: tuple[int, ...]) -> Iterator[str]:
    frames, rest = divmod(math.prod(assumed), math.prod(found) or 1)
    if sorted(found) == sorted(assumed):
        yield "likely the wrong --image-layout"
    elif len(found) == len(assumed) and not rest and frames > 1:
        yield f"likely missing: --frame-stack {frames}"
    else:
        yield "likely missing: a wrapper of the environments"


def _range_problems(
    name: str, array: Array, chain: ObservationChain, part: spaces.Space[Any]
) -> Iterator[str]:
    values = array.astype(np.float64)
    if chain.statistics is not None:
        largest = np.nanmax(np.abs(values), initial=0.0)
        if largest > chain.clip * (1 + _ROUNDING):
            yield (
                f"{name!r} reached {largest:.4g} in training, but the normaliser clips at "
                f"{chain.clip:g}: the statistics are likely of another run"
            )
        return
    low, high, slack = _bounds(part)
    beyond = (values < low - slack) | (values > high + slack)
    if beyond.any():
        row = tuple(np.argwhere(beyond)[0])
        yield (
            f"{name!r} was {values[row]:.4g} in training, far outside of [{low[row[1:]]:.4g}, "
            f"{high[row[1:]]:.4g}]: a normaliser or another wrapper is likely missing"
        )


def _bounds(part: spaces.Space[Any]) -> tuple[Array, Array, Array]:
    """Lowest and highest numbers of a space, and how far beyond is far."""
    if not isinstance(part, spaces.Box):
        most: Any = 1
        if isinstance(part, spaces.Discrete):
            most = part.n - 1
        elif isinstance(part, spaces.MultiDiscrete):
            most = part.nvec - 1
        highest = np.broadcast_to(np.asarray(most, np.float64), part.shape or ())
        return np.zeros_like(highest), highest, np.zeros_like(highest)
    low, high = part.low.astype(np.float64), part.high.astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        width = high - low
    bound = np.where(np.isfinite(low), np.abs(low), np.abs(high))
    slack = _FAR * np.where(np.isfinite(width), width, np.maximum(1.0, bound))
    return low, high, slack
