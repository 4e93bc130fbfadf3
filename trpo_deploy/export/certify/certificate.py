"""Proof that an ONNX file is the trained policy, or the reason why it is not.

The file is held against Stable-Baselines3's own policy on the same raw observations, by the
parameters of the action distribution, by the actions and by all other outputs, then by the
returns of both. A deliberately wrong copy has to fail the same checks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from trpo_deploy.envs.environment import Environment
from trpo_deploy.errors import PolicyFileError
from trpo_deploy.export.certify.engines import (
    Engine,
    engine_versions,
    expose_parameters,
    load_engines,
    load_onnxruntime,
)
from trpo_deploy.export.certify.golden import golden_sample
from trpo_deploy.export.certify.observations import (
    ROWS,
    edge_observations,
    ordinary_observations,
    take,
)
from trpo_deploy.export.certify.parity import Check, Comparison
from trpo_deploy.export.certify.returns import compare_returns
from trpo_deploy.export.graph.heads import PARAMETERS
from trpo_deploy.export.policy.network import ActorNetwork
from trpo_deploy.export.profiles import OBS_OK
from trpo_deploy.sb3.reference import SB3Policy
from trpo_deploy.spec.codec import plain_to_json
from trpo_deploy.spec.policy_spec import ACTION, METADATA_KEY, Inputs, PolicySpec
from trpo_deploy.spec.spaces import Array, Json

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Certificate:
    """What :func:`certify` found, bound to the files by their SHA-256."""

    sha256: Mapping[str, str]
    checks: tuple[Check, ...]
    environment: Mapping[str, Any]
    returns: Mapping[str, Any]
    versions: Mapping[str, str]
    golden: Json | None
    """An observation and the file's action for it; ``None`` where they are too large."""

    @property
    def passed(self) -> bool:
        """Whether the file is the trained policy."""
        return all(check.passed for check in self.checks)

    def failures(self) -> str:
        """The checks that failed, in words."""
        return "; ".join(f"{c.name}: {dict(c.measured)}" for c in self.checks if not c.passed)

    def to_json(self) -> str:
        """The certificate as readable JSON."""
        value = {
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
        }
        if self.golden is not None:
            value["golden"] = self.golden
        return json.dumps(value, indent=2, allow_nan=False)


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
        environment: where to take on-policy observations and returns from; without one, made-up
            observations alone are compared.
        environment_note: why there is none, or not the one of the training.
        steps: on-policy observations to compare.
        seed: of the observations, the noise and the episodes.

    Raises:
        PolicyFileError: the file cannot be run, or has no spec.
    """
    model, spec = load_file(content)
    checks = [_spec_check(model, spec, actor)]
    returns: Mapping[str, Any] = {}
    engines: Mapping[str, Engine] = {}
    golden = None
    if checks[0].passed:
        rng = np.random.default_rng(seed)
        engines = load_engines(model, spec.inputs)
        runtime = engines["onnxruntime"]
        sets = {
            "ordinary observations": ordinary_observations(actor, rng, ROWS),
            "edges": edge_observations(actor, rng),
        }
        golden = golden_sample(spec, runtime, sets["ordinary observations"])
        played = None
        if environment is not None:
            played = compare_returns(environment, reference, runtime, spec, seed=seed, steps=steps)
            returns = played.measured
            sets = {"on-policy": played.observations, **sets}
        comparisons = [
            Comparison.make(name, batch, spec.outputs, actor, reference, rng)
            for name, batch in sets.items()
        ]
        checks += [each.check(engine) for engine in engines.values() for each in comparisons]
        if spec.guard is not None:
            ordinary = sets["ordinary observations"]
            checks += [_guard_check(engine, spec, ordinary) for engine in engines.values()]
        if played is not None:
            checks.append(played.check)
        checks.append(_negative_control(model, spec, comparisons))
    return Certificate(
        sha256={**source_sha256, "policy.onnx": sha256(content).hexdigest()},
        checks=tuple(checks),
        environment=_environment_json(environment, environment_note),
        returns=returns,
        versions={n: version(n) for n in ("onnx", "stable-baselines3", "torch")}
        | engine_versions(engines),
        golden=golden,
    )


def load_file(content: bytes) -> tuple[onnx.ModelProto, PolicySpec]:
    """An ONNX file and its spec.

    Raises:
        PolicyFileError: it is no ONNX file, or has no spec.
    """
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError has no public base
        raise PolicyFileError(f"the file is no ONNX model ({error})") from error
    metadata = {item.key: item.value for item in model.metadata_props}
    if METADATA_KEY not in metadata:
        raise PolicyFileError(
            f"the file has no {METADATA_KEY!r} metadata; only files of trpo-deploy export "
            "can be verified"
        )
    return model, PolicySpec.from_json(metadata[METADATA_KEY])


def _spec_check(model: onnx.ModelProto, spec: PolicySpec, actor: ActorNetwork) -> Check:
    """The file must say of itself what the policy's spaces are."""
    expected = {
        "observation_space": actor.observation_space.to_json(),
        "action_space": actor.action_space.to_json(),
        "states": [state.to_json() for state in actor.states],
        "inputs": sorted(tensor.name for tensor in spec.inputs),
        "outputs": sorted(tensor.name for tensor in spec.outputs),
    }
    found = {
        "observation_space": spec.observation_space.to_json(),
        "action_space": spec.action_space.to_json(),
        "states": [state.to_json() for state in spec.states],
        "inputs": sorted(tensor.name for tensor in model.graph.input),
        "outputs": sorted(tensor.name for tensor in model.graph.output),
    }
    tensors = {name for node in model.graph.node for name in node.output}
    differing = {
        what: {"expected": expected[what], "found": found[what]}
        for what in expected
        if expected[what] != found[what]
    }
    return Check(
        "spec",
        not differing and PARAMETERS in tensors,
        "the spaces in the metadata are the policy's, the graph has the inputs and outputs that "
        "the metadata name, and the last layer is in it",
        differing,
    )


def _guard_check(engine: Engine, spec: PolicySpec, ordinary: Inputs) -> Check:
    """Each input in turn is given what no engine agrees on."""
    assert spec.guard is not None
    wrong = []
    rows = take(ordinary, slice(4))
    if not engine.run(rows)[OBS_OK].all():
        wrong.append("an ordinary observation is refused")
    for tensor in spec.inputs:
        if not tensor.dtype.startswith("float"):
            continue
        bad = {name: array.copy() for name, array in rows.items()}
        for row, value in enumerate((np.nan, np.inf, -np.inf)):
            bad[tensor.name] = bad[tensor.name].astype(tensor.dtype)
            bad[tensor.name].reshape(4, -1)[row, -1] = value
        found = engine.run(bad)
        if found[OBS_OK].tolist() != [False, False, False, True]:
            wrong.append(f"{tensor.name}: {OBS_OK} is {found[OBS_OK].tolist()}")
        if not np.array_equal(found[ACTION][:3], np.stack([spec.guard.action] * 3)):
            wrong.append(f"{tensor.name}: the action is not the stated one")
    return Check(
        f"guard, {engine.name}",
        not wrong,
        "NaN and both infinities in each input give the stated action and obs_ok = false",
        {"wrong": wrong},
    )


def _negative_control(
    model: onnx.ModelProto, spec: PolicySpec, comparisons: Sequence[Comparison]
) -> Check:
    """The checks must find a policy whose last layer is one percent off."""
    wrong = onnx.ModelProto()
    wrong.CopyFrom(model)
    head = next(n for n in wrong.graph.node if n.output[0] == PARAMETERS)
    for tensor in wrong.graph.initializer:
        if tensor.name in head.input:
            scaled: Array = numpy_helper.to_array(tensor) * np.float32(1.01)
            tensor.CopyFrom(numpy_helper.from_array(scaled.astype(np.float32), tensor.name))
    engine = load_onnxruntime(expose_parameters(wrong).SerializeToString(), spec.inputs)
    found = [each.name for each in comparisons if not each.check(engine).passed]
    return Check(
        "negative control",
        bool(found),
        "a copy whose last layer is scaled by 1.01 must fail the parity check",
        {"detected_on": found},
    )


def _environment_json(environment: Environment | None, note: str) -> dict[str, Any]:
    if environment is None:
        return {"env_id": None, "note": note}
    return {"env_id": environment.env_id, "kwargs": plain_to_json(environment.kwargs), "note": note}
