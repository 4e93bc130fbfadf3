"""From a trained policy to a certified ``policy.onnx``: what ``export`` and ``verify`` do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize

import trpo_deploy
from trpo_deploy.errors import CertificateError, ExportError, PolicyFileError
from trpo_deploy.export.certify.certificate import Certificate, certify, load_file
from trpo_deploy.export.certify.engines import load_onnxruntime
from trpo_deploy.export.certify.golden import write_backend_test
from trpo_deploy.export.certify.observations import ROWS, ordinary_observations
from trpo_deploy.export.graph.guard import guard_info
from trpo_deploy.export.graph.model import build_model, output_tensors
from trpo_deploy.export.policy.network import ActorNetwork, preprocessing_in_words
from trpo_deploy.export.policy.read import read_policy
from trpo_deploy.export.policy_card import write_card
from trpo_deploy.export.profiles import ON_REQUEST, ONNX, Profile
from trpo_deploy.files.atomic import atomic_write
from trpo_deploy.files.certificate import certificate_path
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.runs import Run
from trpo_deploy.sb3.from_files import load_source
from trpo_deploy.sb3.from_memory import load_model
from trpo_deploy.sb3.source import LoadedSource, SourceOptions
from trpo_deploy.spec.policy_spec import NormalizerInfo, PolicySpec
from trpo_deploy.spec.spaces import BoxSpace


@dataclass(frozen=True)
class ExportOptions:
    """What a file is to be."""

    outputs: tuple[str, ...] = ()
    """Beside the action: ``value``, ``log_prob``, ``logits``, ``mean``, ``std``, ``margin``."""
    opset: int | None = None
    """Version of ONNX's operators; the profile's own if not given."""
    guard: bool = False
    """Give a stated action, and a flag, for observations that are not finite."""
    float64_input: bool = False
    """Take floating-point observations as float64, and normalise in it."""
    profile: Profile = ONNX


@dataclass(frozen=True)
class Export:
    """What an export wrote."""

    path: Path
    size: int
    """Bytes of the ONNX file."""
    spec: PolicySpec
    certificate: Certificate | None
    card: Path
    skipped: tuple[str, ...]
    """Entries of the zip that were not decoded, since nothing needs them."""
    warnings: tuple[str, ...]
    """What the user should know of the file's numbers."""


def export_policy(
    source: Run,
    output: Path,
    *,
    verify: bool = True,
    steps: int = 2000,
    golden: Path | None = None,
    options: ExportOptions | None = None,
    reading: SourceOptions | None = None,
) -> Export:
    """Write a source's policy as one ONNX file, with a certificate and a card beside it.

    Args:
        source: the files to export.
        output: where the ONNX file goes; an older one is replaced.
        verify: hold the file against the policy first, and write nothing if they differ.
        steps: on-policy observations to compare.
        golden: a folder for golden vectors in the layout of ONNX's backend tests.
        options: what the file is to be.
        reading: what the source does not tell itself.

    Raises:
        ExportError: the policy cannot be exported.
        CertificateError: the file is not the policy; nothing was written.
    """
    reading = reading or SourceOptions()
    job = _Job(load_source(source, reading), reading, options or ExportOptions())
    return job.export(output, source.model_dir, verify=verify, steps=steps, golden=golden)


def export_model(
    model: BaseAlgorithm | ActorCriticPolicy,
    output: Path,
    *,
    vecnormalize: VecNormalize | None = None,
    verify: bool = True,
    steps: int = 2000,
    golden: Path | None = None,
    options: ExportOptions | None = None,
    reading: SourceOptions | None = None,
) -> Export:
    """Write a model that is in memory, or a bare policy, as :func:`export_policy` does.

    A features extractor of the user's own is exported as well: its code is here already.

    Args:
        model: of this project's ``TRPO``, or SB3's ``PPO`` or ``A2C``, or the policy of one. A
            model's vec-env wrappers tell of frame stacks, images and the normaliser.
        output: where the ONNX file goes; an older one is replaced.
        vecnormalize: the normaliser, where the model's environment has none.
        verify: hold the file against the policy first, and write nothing if they differ.
        steps: on-policy observations to compare.
        golden: a folder for golden vectors in the layout of ONNX's backend tests.
        options: what the file is to be.
        reading: what the model does not tell itself.

    Raises:
        ExportError: the policy cannot be exported.
        CertificateError: the file is not the policy; nothing was written.
    """
    reading = reading or SourceOptions()
    loaded = load_model(model, vecnormalize, reading)
    job = _Job(loaded, reading, options or ExportOptions())
    return job.export(output, None, verify=verify, steps=steps, golden=golden)


def verify_policy(
    source: Run,
    onnx_path: Path,
    *,
    steps: int = 2000,
    reading: SourceOptions | None = None,
) -> Certificate:
    """Hold an ONNX file that exists against the policy it should be.

    Raises:
        PolicyFileError: the file cannot be run, or has no spec.
        ExportError: the source cannot be read.
    """
    try:
        content = onnx_path.read_bytes()
    except OSError as error:
        raise PolicyFileError(f"cannot read {onnx_path}: {error.strerror}") from error
    reading = reading or SourceOptions()
    _, spec = load_file(content)
    spaces = spec.observation_spaces.values()
    float64 = any(isinstance(each, BoxSpace) and each.dtype == np.float64 for each in spaces)
    job = _Job(load_source(source, reading), reading, ExportOptions(float64_input=float64))
    return job.certify(content, job.read_actor(), steps)


@dataclass(frozen=True)
class _Job:
    """One policy, and what to make of it."""

    loaded: LoadedSource
    reading: SourceOptions
    options: ExportOptions

    def read_actor(self) -> ActorNetwork:
        return read_policy(
            self.loaded.reference,
            has_std=self.loaded.has_std,
            float64_input=self.options.float64_input,
        )

    def export(
        self,
        output: Path,
        model_dir: ModelDir | None,
        *,
        verify: bool,
        steps: int,
        golden: Path | None,
    ) -> Export:
        """See :func:`export_policy`."""
        actor = self.read_actor()
        spec = self._spec(actor)
        profile = self.options.profile
        profile = replace(profile, opset=self.options.opset or profile.opset)
        content = build_model(actor, spec, profile).SerializeToString()
        certificate = self.certify(content, actor, steps) if verify else None
        if certificate is not None and not certificate.passed:
            raise CertificateError(
                f"the exported file is not the policy, so it was not written; "
                f"{certificate.failures()}"
            )
        if golden is not None:
            observations = ordinary_observations(actor, np.random.default_rng(0), ROWS)
            engine = load_onnxruntime(content, spec.inputs)
            write_backend_test(golden, content, spec, engine, observations)
        atomic_write(output, content)
        if certificate is not None:
            atomic_write(certificate_path(output), certificate.to_json())
        else:
            certificate_path(output).unlink(missing_ok=True)  # it was an older file's
        card = write_card(output, model_dir, spec, certificate, actor.warnings)
        return Export(
            output, len(content), spec, certificate, card, self.loaded.skipped, actor.warnings
        )

    def certify(self, content: bytes, actor: ActorNetwork, steps: int) -> Certificate:
        loaded = self.loaded
        environment, note = loaded.environment_if_any()
        return certify(
            content, actor, loaded.reference, loaded.sha256, environment, note, steps=steps
        )

    def _spec(self, actor: ActorNetwork) -> PolicySpec:
        loaded, options = self.loaded, self.options
        unknown = sorted(set(options.outputs) - set(ON_REQUEST))
        if unknown:
            raise ExportError(f"there is no output {unknown[0]!r}; there are {list(ON_REQUEST)}")
        outputs = (*options.profile.outputs, *options.outputs)
        wrappers = () if loaded.recorded is None else loaded.recorded.wrappers
        return PolicySpec(
            observation_space=actor.observation_space,
            action_space=actor.action_space,
            outputs=output_tensors(actor, outputs, guard=options.guard),
            algorithm=loaded.algorithm,
            environment=loaded.recorded,
            normalizer=_normalizer_info(actor),
            preprocessing=(
                *(
                    f"outside of the file: the environment is wrapped in {each.name}"
                    for each in wrappers
                ),
                *preprocessing_in_words(actor),
            ),
            training=loaded.training,
            versions={
                "trpo-deploy": trpo_deploy.__version__,
                "stable-baselines3": loaded.sb3_version,
                "onnx": version("onnx"),
            },
            source_sha256=loaded.sha256,
            states=actor.states,
            guard=guard_info(actor) if options.guard else None,
        )


def _normalizer_info(actor: ActorNetwork) -> NormalizerInfo | None:
    found = {each.name: each.normalizer for each in actor.inputs if each.normalizer is not None}
    if not found:
        return None
    first = next(iter(found.values()))
    smallest = min(float(each.std.min()) for each in found.values())
    return NormalizerInfo(first.clip, first.epsilon, tuple(found), smallest)
