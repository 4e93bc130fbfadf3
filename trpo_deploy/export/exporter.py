"""From a policy zip to a certified ``policy.onnx``: what ``export`` and ``verify`` do."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

import trpo_deploy
from trpo_deploy.environment import Environment, find_environment
from trpo_deploy.errors import CertificateError, EnvError, ExportError
from trpo_deploy.export.actor import ActorNetwork, Normalizer, actor_network
from trpo_deploy.export.certificate import Certificate, certify
from trpo_deploy.export.graph import build_model, preprocessing_in_words
from trpo_deploy.export.profiles import ONNX
from trpo_deploy.model_dir import PolicySource, atomic_write, file_sha256
from trpo_deploy.sb3_policy import SB3Policy
from trpo_deploy.sb3_zip import PolicyZip, read_policy_zip, read_vecnormalize
from trpo_deploy.spec import ACTION, OBS, NormalizerInfo, PolicySpec, TensorSpec
from trpo_deploy.yaml_file import read_yaml


@dataclass(frozen=True)
class LoadedSource:
    """A source's files, read."""

    policy_zip: PolicyZip
    actor: ActorNetwork
    reference: SB3Policy
    env_id: str | None
    env_kwargs: dict[str, Any]
    sha256: dict[str, str]


@dataclass(frozen=True)
class Export:
    """What an export wrote."""

    path: Path
    size: int
    """Bytes of the ONNX file."""
    spec: PolicySpec
    certificate: Certificate | None
    skipped: tuple[str, ...]
    """Entries of the zip that were not decoded, since nothing needs them."""


def load_source(source: PolicySource) -> LoadedSource:
    """Read a policy, its statistics and what is known of its environment.

    Raises:
        PolicyZipError: a file cannot be read.
        ExportError: the policy cannot be exported, or its statistics are missing.
    """
    config = read_yaml(source.config) if source.config is not None else {}
    if source.vecnormalize is None and _normalizes(config):
        raise ExportError(
            f"{source.config} says that the run normalised, but there are no statistics; "
            "give them with --vecnormalize FILE"
        )
    policy_zip = read_policy_zip(source.policy_zip)
    hashes = {source.policy_zip.name: policy_zip.sha256}
    statistics = None
    if source.vecnormalize is not None:
        statistics = read_vecnormalize(source.vecnormalize)
        hashes[source.vecnormalize.name] = file_sha256(source.vecnormalize)
    policy = policy_zip.build_policy()
    return LoadedSource(
        policy_zip=policy_zip,
        actor=actor_network(policy, statistics),
        reference=SB3Policy(policy, statistics),
        env_id=source.env_id or config.get("env_id"),
        env_kwargs=dict(config.get("env_kwargs") or {}),
        sha256=hashes,
    )


def _normalizes(config: dict[str, Any]) -> bool:
    """Whether a configuration, ours or RL Zoo's, says that observations are normalised."""
    normalize = config.get("normalize", False)
    if isinstance(normalize, str):  # RL Zoo: "{'norm_obs': False, 'norm_reward': True}"
        return "'norm_obs': False" not in normalize
    if isinstance(normalize, dict):
        return bool(normalize.get("norm_obs", True))
    return bool(normalize)


def export_policy(
    source: PolicySource,
    output: Path,
    *,
    verify: bool = True,
    env_id: str | None = None,
    steps: int = 2000,
) -> Export:
    """Write a source's policy as one ONNX file, with a certificate beside it.

    Args:
        source: the files to export.
        output: where the ONNX file goes; an older one is replaced.
        verify: hold the file against the policy first, and write nothing if they differ.
        env_id: the environment for on-policy observations and returns, if the source does not
            tell it.
        steps: on-policy observations to compare.

    Raises:
        ExportError: the policy cannot be exported.
        CertificateError: the file is not the policy; nothing was written.
    """
    loaded = load_source(source)
    spec = _spec(loaded, env_id or loaded.env_id, source)
    content = build_model(loaded.actor, spec, ONNX).SerializeToString()
    certificate = None
    if verify:
        certificate = _certify(loaded, content, env_id, steps)
        if not certificate.passed:
            raise CertificateError(
                f"the exported file is not the policy, so it was not written; "
                f"{certificate.failures()}"
            )
    atomic_write(output, content)
    if certificate is not None:
        atomic_write(certificate_path(output), certificate.to_json())
    else:
        certificate_path(output).unlink(missing_ok=True)  # it was an older file's
    return Export(output, len(content), spec, certificate, loaded.policy_zip.skipped)


def verify_policy(
    source: PolicySource, onnx_path: Path, *, env_id: str | None = None, steps: int = 2000
) -> Certificate:
    """Hold an ONNX file that exists against the policy it should be.

    Raises:
        PolicyFileError: the file cannot be run, or has no spec.
        ExportError: the source cannot be read.
    """
    return _certify(load_source(source), onnx_path.read_bytes(), env_id, steps)


def certificate_path(onnx_path: Path) -> Path:
    """Where the certificate of an ONNX file lies."""
    stem = onnx_path.stem
    name = "certificate.json" if stem == "policy" else f"{stem}.certificate.json"
    return onnx_path.with_name(name)


def _certify(loaded: LoadedSource, content: bytes, env_id: str | None, steps: int) -> Certificate:
    environment, note = _environment(loaded, env_id)
    return certify(
        content, loaded.actor, loaded.reference, loaded.sha256, environment, note, steps=steps
    )


def _environment(loaded: LoadedSource, env_id: str | None) -> tuple[Environment | None, str]:
    """The environment asked for, or the source's own if it can be made here; and why not."""
    name = env_id or loaded.env_id
    if name is None:
        return None, "the source does not tell its environment; name it with --env"
    try:
        environment = find_environment(
            name,
            loaded.env_kwargs,
            loaded.actor.observation_space,
            loaded.actor.action_space,
        )
    except EnvError as error:
        if env_id is not None:
            raise
        # The policy can be exported all the same; the certificate says what was not compared.
        return None, str(error)
    return environment, environment.note


def _spec(loaded: LoadedSource, env_id: str | None, source: PolicySource) -> PolicySpec:
    actor = loaded.actor
    normalizer = actor.normalizer
    return PolicySpec(
        observation_space=actor.observation_space,
        action_space=actor.action_space,
        outputs=(TensorSpec(ACTION, str(actor.action_space.dtype), actor.action_space.shape),),
        algorithm=loaded.policy_zip.algorithm,
        env_id=env_id,
        normalizer=None if normalizer is None else _normalizer_info(normalizer),
        preprocessing=preprocessing_in_words(actor),
        training=_training(loaded, source),
        versions={
            "trpo-deploy": trpo_deploy.__version__,
            "stable-baselines3": loaded.policy_zip.sb3_version,
            "onnx": version("onnx"),
        },
        source_sha256=loaded.sha256,
    )


def _normalizer_info(normalizer: Normalizer) -> NormalizerInfo:
    smallest = float(normalizer.std.min())
    return NormalizerInfo(normalizer.clip, normalizer.epsilon, (OBS,), smallest)


def _training(loaded: LoadedSource, source: PolicySource) -> dict[str, float]:
    """What the run's own evaluation said of the policy, where the layout has it."""
    training: dict[str, float] = {"timesteps": loaded.policy_zip.num_timesteps}
    path = source.evaluations
    if path is None:
        return training
    with np.load(path) as evaluations:
        timesteps, results = evaluations["timesteps"], evaluations["results"]
    # The evaluation nearest to the end of what this policy was trained for.
    row = results[int(np.abs(timesteps - loaded.policy_zip.num_timesteps).argmin())]
    training["return_mean"] = float(row.mean())
    training["return_std"] = float(row.std())
    training["episodes"] = len(row)
    return training
