"""Compare an ONNX file with the trained policy and issue its certificate.

The file and Stable-Baselines3's own policy run on the same raw observations. The comparison covers
the parameters of the action distribution, the actions, all other outputs, and the returns of both.
The returns that the training recorded are a witness of their own. A deliberately wrong copy must
fail the same checks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from trpo_deploy.export.certify.batches import BATCH_SIZES
from trpo_deploy.export.certify.certificate import Certificate
from trpo_deploy.export.certify.check import Check
from trpo_deploy.export.certify.edges import edge_observations
from trpo_deploy.export.certify.engines import Engine, load_engines
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.certify.file_checks import check_guard, check_negative_control, check_spec
from trpo_deploy.export.certify.golden import golden_sample
from trpo_deploy.export.certify.model_environment import check_model_environment
from trpo_deploy.export.certify.observation_witness import check_observations
from trpo_deploy.export.certify.ordinary import ordinary_observations
from trpo_deploy.export.certify.parity import Comparison
from trpo_deploy.export.certify.returns import ReturnComparison, compare_returns
from trpo_deploy.export.certify.rounding import check_rounding
from trpo_deploy.export.certify.statistics_witness import check_statistics
from trpo_deploy.export.certify.trained_policy import TrainedPolicy
from trpo_deploy.export.certify.training_returns import check_training_returns
from trpo_deploy.export.policy.outputs import OBS_OK
from trpo_deploy.spec.codec import plain_to_json
from trpo_deploy.spec.spaces import Json


def certify(
    file: ExportedFile,
    policy: TrainedPolicy,
    *,
    steps: int,
    seconds: float,
    seed: int = 0,
    others: Sequence[Engine] = (),
) -> Certificate:
    """Compare an ONNX file with the trained policy.

    Args:
        file: The ONNX file.
        policy: The trained policy.
        steps: Number of on-policy observations to compare.
        seconds: Time limit for playing the two policies.
        seed: Seed of the observations, the noise and the episodes.
        others: Engines that run other files of the same policy, compared on the same rows.

    Raises:
        PolicyFileError: An engine cannot run the file.
    """
    checks = [check_spec(file, policy.actor)]
    returns: Mapping[str, Any] = {}
    engines: Mapping[str, Engine] = {}
    golden = None
    if checks[0].passed:
        engines = load_engines(file.model, file.spec.inputs)
        engines = {**engines, **{engine.name: engine for engine in others}}
        played = None
        if policy.environment is not None:
            played = compare_returns(
                policy.environment,
                policy.reference,
                engines["onnxruntime"],
                file.spec,
                seed=seed,
                steps=steps,
                seconds=seconds,
            )
            returns = played.measured
        found, golden = _compare(file, policy, engines, played, np.random.default_rng(seed))
        counted = check_statistics(policy)
        checks += [*check_observations(policy), *([] if counted is None else [counted]), *found]
        returned = None if played is None else played.file_returns
        checks.append(check_training_returns(policy, returned, file.spec.action_space, seed=seed))
        if policy.model is not None:
            checks.append(
                check_model_environment(policy.model, file, engines["onnxruntime"], policy, seed)
            )
    return Certificate(
        sha256={**policy.sha256, "policy.onnx": file.sha256},
        checks=tuple(checks),
        environment=_environment_json(policy),
        returns=returns,
        versions={n: version(n) for n in ("onnx", "stable-baselines3", "torch")}
        | {each.name: version(each.package) for each in engines.values() if each.package},
        golden=golden,
    )


def _compare(
    file: ExportedFile,
    policy: TrainedPolicy,
    engines: Mapping[str, Engine],
    played: ReturnComparison | None,
    rng: np.random.Generator,
) -> tuple[list[Check], Json | None]:
    """All checks that run the file, and a golden sample."""
    spec = file.spec
    ordinary = ordinary_observations(policy.actor, rng, sum(BATCH_SIZES))
    sets = {"ordinary observations": ordinary, "edges": edge_observations(policy.actor, rng)}
    if played is not None:
        sets = {"on-policy": played.observations, **sets}
    comparisons = [Comparison.make(name, batch, file, policy, rng) for name, batch in sets.items()]
    checks = [each.check(engine) for engine in engines.values() for each in comparisons]
    name, typical = next(iter(sets.items()))
    rounding = check_rounding(name, typical, spec, policy)
    checks += [] if rounding is None else [rounding]
    if spec.guard is not None:
        flagging = [engine for engine in engines.values() if engine.computes(OBS_OK)]
        checks += [check_guard(engine, spec, ordinary) for engine in flagging]
    if played is not None:
        checks.append(played.check)
    checks.append(check_negative_control(file, comparisons))
    return checks, golden_sample(spec, engines["onnxruntime"], ordinary)


def _environment_json(policy: TrainedPolicy) -> dict[str, Any]:
    environment, note = policy.environment, policy.environment_note
    if environment is None:
        return {"env_id": None, "note": note}
    return {"env_id": environment.env_id, "kwargs": plain_to_json(environment.kwargs), "note": note}
