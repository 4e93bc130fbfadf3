"""Proof that an ONNX file is the trained policy, or the reason why it is not.

The file is held against Stable-Baselines3's own policy on the same raw observations, by the
parameters of the action distribution and by the actions, then by the returns of both. What
counts as equal is measured on the way: SB3 does not agree with itself to the last bit, and
that disagreement sets the tolerance. A deliberately wrong copy has to fail the same checks.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from trpo_deploy.environment import Environment, Episodes, play
from trpo_deploy.errors import PolicyFileError
from trpo_deploy.export.actor import ActorNetwork
from trpo_deploy.export.observations import edge_battery
from trpo_deploy.sb3_policy import SB3Policy
from trpo_deploy.spec import ACTION, METADATA_KEY, OBS, Array, DiscreteSpace, PolicySpec

FORMAT_VERSION = 1
EPISODES = 20
# Rounding differs between engines by a few of the steps that separate SB3 from itself: over
# the five agents of 2021 the largest ratio seen was 3.0.
_SAFETY = 8.0
# Draws of one-ulp noise; their maximum measures how a row amplifies rounding.
_ULP_DRAWS = 8
_REFERENCE_ROWS = 256


@dataclass(frozen=True)
class Check:
    """One thing that was held against the trained policy."""

    name: str
    passed: bool
    how: str
    """What was compared and where its tolerance comes from."""
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Certificate:
    """What :func:`certify` found, bound to the files by their SHA-256."""

    sha256: Mapping[str, str]
    checks: tuple[Check, ...]
    environment: Mapping[str, Any]
    returns: Mapping[str, Any]
    versions: Mapping[str, str]

    @property
    def passed(self) -> bool:
        """Whether the file is the trained policy."""
        return all(check.passed for check in self.checks)

    def failures(self) -> str:
        """The checks that failed, in words."""
        return "; ".join(f"{c.name}: {dict(c.measured)}" for c in self.checks if not c.passed)

    def to_json(self) -> str:
        """The certificate as readable JSON."""
        return json.dumps(
            {
                "format_version": FORMAT_VERSION,
                "verdict": "pass" if self.passed else "fail",
                "sha256": dict(self.sha256),
                "environment": dict(self.environment),
                "checks": [
                    {
                        "name": check.name,
                        "passed": check.passed,
                        "how": check.how,
                        "measured": dict(check.measured),
                    }
                    for check in self.checks
                ],
                "returns": dict(self.returns),
                "versions": dict(self.versions),
            },
            indent=2,
            allow_nan=False,
        )


def certify(
    content: bytes,
    actor: ActorNetwork,
    reference: SB3Policy,
    source_sha256: Mapping[str, str],
    environment: Environment | None,
    environment_note: str = "",
    steps: int = 2000,
    seed: int = 0,
) -> Certificate:
    """Hold an ONNX file against the trained policy.

    Args:
        content: the bytes of the ONNX file.
        actor: the policy as the exporter understood it.
        reference: the policy as Stable-Baselines3 runs it.
        source_sha256: hashes of the policy zip and the statistics.
        environment: where to take on-policy observations and returns from; without one, only
            the edge battery is compared.
        environment_note: why there is none, or not the one of the training.
        steps: on-policy observations to compare.
        seed: of the battery, the noise and the episodes.

    Raises:
        PolicyFileError: the file cannot be run, or has no spec.
    """
    model = _load(content)
    rng = np.random.default_rng(seed)
    sets = {"edge battery": edge_battery(actor, rng)}
    returns: dict[str, Any] = {}
    checks = [_spec_check(model, actor)]
    if checks[0].passed:
        run = _engines(model, actor)
        if environment is not None:
            seeds = range(seed, seed + EPISODES)
            played = play(environment, reference.actions, seeds)
            sets = {"on-policy": played.observations[:steps], **sets}
            check, returns = _returns_check(environment, reference, played, run, actor, seeds, rng)
        comparisons = [_Comparison.make(n, o, actor, reference, rng) for n, o in sets.items()]
        checks += [each.check(name, run[name]) for name in run for each in comparisons]
        if environment is not None:
            checks.append(check)
        checks.append(_negative_control(model, actor, comparisons))
    return Certificate(
        sha256={**source_sha256, "policy.onnx": sha256(content).hexdigest()},
        checks=tuple(checks),
        environment=_environment_json(environment, environment_note),
        returns=returns,
        versions={n: version(n) for n in ("onnx", "onnxruntime", "stable-baselines3", "torch")},
    )


def _load(content: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError has no public base
        raise PolicyFileError(f"the file is no ONNX model ({error})") from error
    if METADATA_KEY not in {item.key for item in model.metadata_props}:
        raise PolicyFileError(
            f"the file has no {METADATA_KEY!r} metadata; only files of trpo-deploy export "
            "can be verified"
        )
    return model


def _spec_check(model: onnx.ModelProto, actor: ActorNetwork) -> Check:
    """The file must say of itself what the policy's spaces are."""
    metadata = {item.key: item.value for item in model.metadata_props}
    spec = PolicySpec.from_json(metadata[METADATA_KEY])
    expected = (actor.observation_space.to_json(), actor.action_space.to_json())
    found = (spec.observation_space.to_json(), spec.action_space.to_json())
    tensors = {name for node in model.graph.node for name in node.output}
    return Check(
        "spec",
        expected == found and actor.parameter_name in tensors,
        "the spaces in the metadata are the policy's, and its last layer is in the graph",
        {} if expected == found else {"expected": expected, "found": found},
    )


# --- engines --------------------------------------------------------------------------------

Run = Callable[[Array], tuple[Array, Array]]
"""Raw observations to actions and distribution parameters."""


def _engines(model: onnx.ModelProto, actor: ActorNetwork) -> dict[str, Run]:
    exposed = _expose_parameters(model, actor)
    return {
        "onnxruntime": _onnxruntime(exposed, actor),
        "onnx reference": _onnx_reference(exposed, actor),
    }


def _expose_parameters(model: onnx.ModelProto, actor: ActorNetwork) -> onnx.ModelProto:
    """A copy whose distribution parameters are an output as well."""
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    if actor.parameter_name not in {output.name for output in exposed.graph.output}:
        exposed.graph.output.append(
            helper.make_tensor_value_info(actor.parameter_name, onnx.TensorProto.FLOAT, None)
        )
    return exposed


def _onnxruntime(model: onnx.ModelProto, actor: ActorNetwork) -> Run:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's errors share no public base class
        raise PolicyFileError(f"onnxruntime cannot run the file ({error})") from error

    def run(observations: Array) -> tuple[Array, Array]:
        inputs = {OBS: _as_input(observations, actor)}
        action, parameters = session.run([ACTION, actor.parameter_name], inputs)
        return action, parameters

    return run


def _onnx_reference(model: onnx.ModelProto, actor: ActorNetwork) -> Run:
    evaluator = ReferenceEvaluator(model)

    def run(observations: Array) -> tuple[Array, Array]:
        inputs = {OBS: _as_input(observations, actor)}
        with np.errstate(all="ignore"):
            action, parameters = evaluator.run([ACTION, actor.parameter_name], inputs)
        return np.asarray(action), np.asarray(parameters)

    return run


def _as_input(observations: Array, actor: ActorNetwork) -> Array:
    with np.errstate(over="ignore"):  # a float64 battery reaches beyond float32
        return observations.astype(actor.observation_space.dtype)


# --- teacher-forced parity ------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Comparison:
    """Observations with what SB3 makes of them, and how far SB3 is from itself there."""

    name: str
    observations: Array
    actions: Array
    parameters: Array
    tolerance: Array
    """Of each row, in units of the parameters."""
    batch_noise: float
    undefined_rows: int
    actor: ActorNetwork

    @classmethod
    def make(
        cls,
        name: str,
        observations: Array,
        actor: ActorNetwork,
        reference: SB3Policy,
        rng: np.random.Generator,
    ) -> _Comparison:
        with np.errstate(all="ignore"):
            parameters = reference.parameters(observations)
            defined = np.isfinite(parameters).all(axis=1)
            observations, parameters = observations[defined], parameters[defined]
            batch_noise = _batch_noise(observations, parameters, reference)
            conditioning = _conditioning(observations, actor, reference, rng)
            actions = reference.actions(observations)
        return cls(
            name,
            observations,
            actions,
            parameters,
            _SAFETY * np.maximum(conditioning, batch_noise),
            batch_noise,
            int((~defined).sum()),
            actor,
        )

    def check(self, engine: str, run: Run) -> Check:
        rows = slice(None) if engine == "onnxruntime" else slice(_REFERENCE_ROWS)
        observations, tolerance = self.observations[rows], self.tolerance[rows]
        actions, parameters = _run_in_batches(run, observations)
        error = np.abs(parameters - self.parameters[rows]).max(axis=1)
        close = error <= tolerance  # NaN is never close
        action_passed, action_measured = self._compare_actions(rows, actions)
        return Check(
            f"parity, {engine}, {self.name}",
            bool(close.all()) and action_passed,
            "distribution parameters and actions against SB3 on the same raw observations, in "
            "batches of 1, 7 and 256; each row's tolerance is "
            f"{_SAFETY:g} times the larger of SB3's difference between batch 1 and 256 and its "
            "response to one-ulp noise on the observation",
            {
                "rows": len(observations),
                "rows_undefined_in_sb3": self.undefined_rows,
                f"{self.actor.parameter_name}_error_max": _number(error.max(initial=0)),
                "sb3_batch_noise": self.batch_noise,
                "rows_beyond_tolerance": int((~close).sum()),
                **action_measured,
            },
        )

    def _compare_actions(self, rows: slice, actions: Array) -> tuple[bool, dict[str, Any]]:
        expected, tolerance = self.actions[rows], self.tolerance[rows]
        if isinstance(self.actor.action_space, DiscreteSpace):
            margin = _margin(self.parameters[rows])
            mismatch = actions != expected
            # Where two logits lie closer than rounding, either action is the policy's.
            wrong = mismatch & (margin > 2 * tolerance)
            return not bool(wrong.any()), {
                "action_mismatches": int(mismatch.sum()),
                "mismatches_not_explained_by_a_tie": int(wrong.sum()),
                "smallest_margin": _number(margin.min(initial=np.inf)),
            }
        error = np.abs(actions - expected).reshape(len(actions), -1)
        close = error.max(axis=1) <= tolerance
        return bool(close.all()), {
            "action_error_max": _number(error.max(initial=0)),
            "action_error_p99": _number(np.quantile(error, 0.99)) if error.size else 0.0,
        }


def _run_in_batches(run: Run, observations: Array) -> tuple[Array, Array]:
    """The same rows in batches of 1, 7 and 256, so that all three are exercised."""
    cuts = np.cumsum([1, 7, 256])
    parts = [part for part in np.split(observations, cuts) if len(part)]
    results = [run(part) for part in parts]
    return np.concatenate([a for a, _ in results]), np.concatenate([p for _, p in results])


def _batch_noise(observations: Array, parameters: Array, reference: SB3Policy) -> float:
    """SB3 against itself: the largest difference between a row alone and in a batch."""
    rows = range(min(len(observations), _REFERENCE_ROWS))
    alone = [reference.parameters(observations[i : i + 1])[0] for i in rows]
    noise = np.abs(np.array(alone) - parameters[: len(alone)]).max(initial=0)
    # At least the spacing of floats of that size, for policies on which SB3 agrees by luck.
    return float(max(noise, np.spacing(np.abs(parameters).max(initial=1e-3))))


def _conditioning(
    observations: Array, actor: ActorNetwork, reference: SB3Policy, rng: np.random.Generator
) -> Array:
    """For each row, SB3's largest response to one-ulp noise on the float32 observation."""
    response = np.zeros(len(observations))
    single = _as_input(observations, actor)
    if single.dtype.kind != "f":
        return response
    before = reference.parameters(single)
    for _ in range(_ULP_DRAWS):
        direction = np.where(rng.random(single.shape) < 0.5, -np.inf, np.inf)
        noisy = np.nextafter(single, direction.astype(np.float32))
        change = np.abs(reference.parameters(noisy) - before).max(axis=1)
        # Rounding that makes SB3 itself undefined says nothing of the file.
        response = np.fmax(response, np.nan_to_num(change, nan=np.inf))
    return response


def _margin(logits: Array) -> Array:
    """Distance between the best and the second logit of each row."""
    if logits.shape[1] < 2:
        return np.full(len(logits), np.inf)
    best = np.sort(logits, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0])


def _negative_control(
    model: onnx.ModelProto, actor: ActorNetwork, comparisons: list[_Comparison]
) -> Check:
    """The checks must find a policy whose last layer is one percent off."""
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    head = next(n for n in wrong.graph.node if n.output[0] == actor.parameter_name)
    for tensor in wrong.graph.initializer:
        if tensor.name in head.input:
            scaled = (numpy_helper.to_array(tensor) * np.float32(1.01)).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(scaled, tensor.name))
    run = _onnxruntime(_expose_parameters(wrong, actor), actor)
    found = [c.name for c in comparisons if not c.check("onnxruntime", run).passed]
    return Check(
        "negative control",
        bool(found),
        "a copy whose last layer is scaled by 1.01 must fail the parity check",
        {"detected_on": found},
    )


# --- returns --------------------------------------------------------------------------------


def _returns_check(
    environment: Environment,
    reference: SB3Policy,
    sb3: Episodes,
    run: Mapping[str, Run],
    actor: ActorNetwork,
    seeds: range,
    rng: np.random.Generator,
) -> tuple[Check, dict[str, Any]]:
    """Same seeds, same environment: SB3, the file, and SB3 with one-ulp noise as the null."""

    def noisy(observations: Array) -> Array:
        single = _as_input(observations, actor)
        if single.dtype.kind == "f":
            direction = np.where(rng.random(single.shape) < 0.5, -np.inf, np.inf)
            single = np.nextafter(single, direction.astype(np.float32))
        return reference.actions(single)

    file = play(environment, lambda observations: run["onnxruntime"](observations)[0], seeds)
    null = play(environment, noisy, seeds)
    difference = float((file.returns - sb3.returns).mean())
    null_rms = float(np.sqrt(np.square(null.returns - sb3.returns).mean()))
    # Three standard errors of a difference of two such means, and a thousandth of the return
    # for environments in which a few ulps do not grow into chaos.
    tolerance = 3 * np.sqrt(2 / len(seeds)) * null_rms + 1e-3 * float(np.abs(sb3.returns).mean())
    exact = null_rms == 0 and isinstance(actor.action_space, DiscreteSpace)
    passed = abs(difference) <= (0 if exact else tolerance)
    measured = {
        "sb3": _mean_and_interval(sb3.returns),
        "onnx": _mean_and_interval(file.returns),
        "sb3_with_one_ulp_noise": _mean_and_interval(null.returns),
        "episodes": len(seeds),
    }
    check = Check(
        "returns",
        bool(passed),
        "mean return on the same seeds; equal where one-ulp noise on SB3's observations changes "
        "no episode, else within three standard errors of what that noise changes plus 0.1 %",
        {
            "mean_difference": _number(difference),
            "tolerance": 0.0 if exact else _number(tolerance),
            "equal_episodes": int((file.returns == sb3.returns).sum()),
        },
    )
    return check, measured


def _mean_and_interval(returns: Array) -> dict[str, float]:
    """Mean, standard deviation and the normal 95 % interval of the mean."""
    half = 1.96 * float(returns.std(ddof=1)) / np.sqrt(len(returns))
    mean = float(returns.mean())
    return {
        "mean": _number(mean),
        "std": _number(returns.std()),
        "ci95_low": _number(mean - half),
        "ci95_high": _number(mean + half),
    }


def _environment_json(environment: Environment | None, note: str) -> dict[str, Any]:
    if environment is None:
        return {"env_id": None, "note": note}
    return {"env_id": environment.env_id, "kwargs": environment.kwargs, "note": note}


def _number(value: Any) -> Any:
    """A JSON number; what JSON has no number for becomes text."""
    number = float(value)
    return number if np.isfinite(number) else str(number)
