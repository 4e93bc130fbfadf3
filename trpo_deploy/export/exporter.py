"""From a trained policy to a certified ``policy.onnx``: the commands ``export`` and ``verify``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize

import trpo_deploy
from trpo_deploy.envs.known_wrappers import class_name
from trpo_deploy.errors import CertificateError, ExportError
from trpo_deploy.export.certify.certificate import Certificate
from trpo_deploy.export.certify.certify import certify
from trpo_deploy.export.certify.engines import Engine
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.certify.golden import backend_test
from trpo_deploy.export.certify.other_engines import load_other_engines
from trpo_deploy.export.certify.trained_policy import TrainedPolicy
from trpo_deploy.export.control import control_of
from trpo_deploy.export.graph.guard import guard_info
from trpo_deploy.export.graph.model import OPSET, build_model
from trpo_deploy.export.policy.description import describe_preprocessing
from trpo_deploy.export.policy.network import ActorNetwork
from trpo_deploy.export.policy.normalizer_info import normalizer_info
from trpo_deploy.export.policy.outputs import output_tensors
from trpo_deploy.export.policy_card import card_path, card_text
from trpo_deploy.export.reader.policy import read_policy
from trpo_deploy.files.atomic import atomic_write_all
from trpo_deploy.files.certificate import certificate_path, policy_json_path
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.names import ONNX, check_names, stem
from trpo_deploy.files.runs import Run
from trpo_deploy.sb3.from_files import load_source
from trpo_deploy.sb3.from_memory import WEIGHTS, load_model, weights_sha256
from trpo_deploy.sb3.source import LoadedSource, SourceOptions
from trpo_deploy.spec.components import ControlSpec
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import BoxSpace

STEPS = 2000
"""Default number of on-policy observations that are compared."""
SECONDS = 120.0
"""Default time limit for playing the policy and the file, so that their returns can be compared."""


INSIDE = "inside of the file: "
"""Prefix of a line of ``PolicySpec.preprocessing`` that names a wrapper."""


@dataclass(frozen=True)
class ExportOptions:
    """Properties of the ONNX file."""

    outputs: tuple[str, ...] = ()
    """Outputs added to the action: ``value``, ``log_prob``, ``logits``, ``mean``, ``std``,
    ``margin``."""
    opset: int = OPSET
    """Version of ONNX's operators."""
    guard: bool = False
    """Return a safe action and a flag for observations that are not finite."""
    float64_input: bool = False
    """Take floating-point observations as float64 and normalise in float64."""
    names: Path | None = None
    """File with names, units, control period and safe action, as
    :mod:`~trpo_deploy.files.names_file` describes it; it wins over what the environment tells."""


@dataclass(frozen=True)
class Export:
    """The result of an export."""

    path: Path
    size: int
    """Size of the ONNX file in bytes."""
    spec: PolicySpec
    certificate: Certificate | None
    card: Path
    skipped: tuple[str, ...]
    """Entries of the zip that were not decoded, since nothing needs them."""
    warnings: tuple[str, ...]
    """Numerical problems, renamed inputs and unused names that the user should know about."""


def export_policy(
    source: Run,
    output: Path,
    *,
    verify: bool = True,
    steps: int = STEPS,
    seconds: float = SECONDS,
    golden: Path | None = None,
    options: ExportOptions | None = None,
    reading: SourceOptions | None = None,
) -> Export:
    """Write a source's policy as one ONNX file, with a certificate, its spec and a card next to it.

    Args:
        source: Files to export.
        output: Path of the ONNX file; an existing file is replaced.
        verify: Compare the file with the policy first, and write nothing if they differ.
        steps: Number of on-policy observations to compare.
        seconds: Time limit for playing the policy and the file.
        golden: Folder for golden vectors in the layout of ONNX's backend tests.
        options: Properties of the ONNX file.
        reading: Facts that the source does not contain.

    Raises:
        ExportError: The policy cannot be exported.
        CertificateError: A check failed; nothing was written.
    """
    _check_output(output, source.model_dir, [source.policy_zip, source.vecnormalize])
    loaded = load_source(source, reading or SourceOptions())
    build = _build(loaded, options or ExportOptions())
    certificate = build.certify(steps, seconds) if verify else None
    return build.write(output, certificate, golden, source.model_dir)


def export_model(
    model: BaseAlgorithm | ActorCriticPolicy,
    output: Path,
    *,
    vecnormalize: VecNormalize | None = None,
    verify: bool = True,
    steps: int = STEPS,
    seconds: float = SECONDS,
    golden: Path | None = None,
    options: ExportOptions | None = None,
    reading: SourceOptions | None = None,
) -> Export:
    """Write a model or policy that is in memory as one ONNX file.

    ``model`` is this project's ``TRPO``, SB3's ``PPO`` or ``A2C``, or the policy of one of them.
    The wrappers of its environment give the frame stack, the image layout and the normaliser. A
    wrapper of observations or actions that the file cannot contain is refused by its name.
    ``vecnormalize`` is the normaliser if the model's environment has none. Custom features
    extractors need no permission, since their code is already loaded. All other arguments and
    the errors are those of :func:`export_policy`.
    """
    _check_output(output, None, [])
    loaded = load_model(model, vecnormalize, reading or SourceOptions())
    build = _build(loaded, options or ExportOptions())
    certificate = build.certify(steps, seconds) if verify else None
    return build.write(output, certificate, golden, None)


def build_policy(source: Run, options: ExportOptions, reading: SourceOptions) -> Build:
    """Build a policy's ONNX file in memory.

    Raises:
        ExportError: The policy cannot be exported.
    """
    return _build(load_source(source, reading), options)


def verify_policy(
    source: Run,
    onnx_path: Path,
    *,
    steps: int = STEPS,
    seconds: float = SECONDS,
    reading: SourceOptions | None = None,
    engines: Sequence[str] = (),
) -> Certificate:
    """Compare an existing ONNX file with the policy that it should be.

    Args:
        source: Files of the policy.
        onnx_path: The ONNX file.
        steps: Number of on-policy observations to compare.
        seconds: Time limit for playing the policy and the file.
        reading: Facts that the source does not contain.
        engines: Names of further engines that the file must be right in, such as ``openvino``.

    Raises:
        PolicyFileError: The file cannot be run, or has no spec.
        ExportError: The source cannot be read, or an engine is unknown or not installed.
    """
    file = ExportedFile.read(onnx_path)
    others = load_other_engines(file, engines)
    spaces = file.spec.observation_spaces.values()
    float64 = any(isinstance(each, BoxSpace) and each.dtype == np.float64 for each in spaces)
    loaded = load_source(source, reading or SourceOptions())
    actor = _read_actor(loaded, float64_input=float64)
    policy = _trained_policy(loaded, actor)
    certificate = certify(file, policy, steps=steps, seconds=seconds, others=others)
    if not certificate.passed:
        _check_wrappers(onnx_path, file.spec, loaded)
    return certificate


def _check_wrappers(path: Path, spec: PolicySpec, loaded: LoadedSource) -> None:
    """Raise if a file differs from a zip of the same weights by the wrappers of a model in memory.

    Raises:
        ExportError: The file contains wrappers, which a zip does not tell.
    """
    inside = [each.removeprefix(INSIDE) for each in spec.preprocessing if each.startswith(INSIDE)]
    own = weights_sha256(loaded.reference.policy)
    if inside and spec.source_sha256.get(WEIGHTS) == own:
        raise ExportError(
            f"{path} has the weights of this policy, and was exported from a model in memory, with "
            f"the wrappers {', '.join(inside)} of its environment inside of the file; a zip does "
            "not tell them, so it cannot verify the file: export the model with its environment "
            "again with export_model, which compares the two"
        )


@dataclass(frozen=True, eq=False)
class Build:
    """A policy and the ONNX file that was built from it, not yet written."""

    loaded: LoadedSource
    actor: ActorNetwork
    file: ExportedFile
    notes: tuple[str, ...]
    """What is not used of the names that the environment tells."""

    def _warnings(self, certificate: Certificate | None) -> tuple[str, ...]:
        renamed = (
            f"the observation key {key!r} is the input {name!r} of the file, since its graph has "
            f"another tensor {key!r}; OnnxPolicy and the service take the key"
            for key, name in self.file.spec.renamed_inputs.items()
        )
        return (*renamed, *self.notes, *(certificate.warnings if certificate is not None else ()))

    def compare(self, steps: int, seconds: float, others: Sequence[Engine] = ()) -> Certificate:
        """The certificate of the file, and of other files of the policy that engines run."""
        policy = _trained_policy(self.loaded, self.actor)
        return certify(self.file, policy, steps=steps, seconds=seconds, others=others)

    def certify(self, steps: int, seconds: float, others: Sequence[Engine] = ()) -> Certificate:
        """Like :meth:`compare`, for files that are about to be written.

        Raises:
            CertificateError: They differ.
        """
        certificate = self.compare(steps, seconds, others)
        if not certificate.passed:
            raise CertificateError(
                "the exported file is not the trained policy, so it was not written; "
                f"{certificate.failures()}"
            )
        return certificate

    def write(
        self,
        output: Path,
        certificate: Certificate | None,
        golden: Path | None,
        model_dir: ModelDir | None,
    ) -> Export:
        """Write the file with its spec, certificate, card and golden vectors: all or none."""
        content, spec = self.file.content, self.file.spec
        warnings = self._warnings(certificate)
        card = card_path(output, model_dir)
        about = spec.policy_json(stem(output, ONNX), {output.name: self.file.sha256})
        files: dict[Path, bytes | str] = {output: content, policy_json_path(output): about}
        if certificate is not None:
            files[certificate_path(output)] = certificate.to_json()
        files[card] = card_text(output, model_dir, spec, certificate, warnings)
        if golden is not None:
            files |= backend_test(golden, self.file, self.actor)
        atomic_write_all(files)
        if certificate is None:
            certificate_path(output).unlink(missing_ok=True)  # belongs to the replaced file
        accepted = self.loaded.accepted_problem
        if accepted:
            warnings = (f"accepted with --no-normalize-check: {accepted}", *warnings)
        skipped = self.loaded.skipped
        return Export(output, len(content), spec, certificate, card, skipped, warnings)


def _check_output(output: Path, model_dir: ModelDir | None, sources: Sequence[Path | None]) -> None:
    """Raise if the files of an export cannot have their names, or would replace the source."""
    files = [
        output,
        certificate_path(output),
        policy_json_path(output),
        card_path(output, model_dir),
    ]
    check_names(files)
    existing = {path.resolve() for path in sources if path is not None}
    for path in files:
        if path.resolve() in existing:
            raise ExportError(
                f"the export would replace its source {path}; give another name with -o"
            )


def _build(loaded: LoadedSource, options: ExportOptions) -> Build:
    actor = _read_actor(loaded, float64_input=options.float64_input)
    control, notes = control_of(loaded, actor.observation_space, actor.action_space, options.names)
    spec = _spec(loaded, actor, options, control)
    model = build_model(actor, spec, options.opset)
    return Build(loaded, actor, ExportedFile(model.SerializeToString(), model, spec), notes)


def _read_actor(loaded: LoadedSource, *, float64_input: bool) -> ActorNetwork:
    return read_policy(loaded.reference, has_std=loaded.has_std, float64_input=float64_input)


def _trained_policy(loaded: LoadedSource, actor: ActorNetwork) -> TrainedPolicy:
    environment, note = loaded.environment_if_any()
    return TrainedPolicy(
        loaded.reference,
        actor,
        loaded.sha256,
        environment,
        environment_note=note,
        model=loaded.model,
        training_returns=loaded.recorded_returns(),
        training_record=loaded.training_record,
        normalize_check=loaded.normalize_check,
    )


def _spec(
    loaded: LoadedSource, actor: ActorNetwork, options: ExportOptions, control: ControlSpec
) -> PolicySpec:
    wrappers = () if loaded.recorded is None else loaded.recorded.wrappers
    guard = guard_info(actor, control.safe_action) if options.guard else None
    accepted = loaded.accepted_problem and f"accepted: {loaded.accepted_problem}"
    inside = (*loaded.reference.inside.observation, *reversed(loaded.reference.inside.action))
    return PolicySpec(
        observation_space=actor.observation_space,
        action_space=actor.action_space,
        outputs=output_tensors(actor, options.outputs, guard=options.guard),
        algorithm=loaded.algorithm,
        environment=loaded.recorded,
        normalizer=normalizer_info(actor),
        preprocessing=(
            *(
                f"outside of the file: the environment is wrapped in {each.name}"
                for each in wrappers
            ),
            *(f"{INSIDE}{class_name(each)}" for each in inside),
            *((accepted,) if accepted else ()),
            *describe_preprocessing(actor),
        ),
        training=loaded.training,
        versions={
            "trpo-deploy": trpo_deploy.__version__,
            "stable-baselines3": loaded.sb3_version,
            "onnx": version("onnx"),
        },
        source_sha256=loaded.sha256,
        states=actor.states,
        guard=guard,
        squashed=actor.squash,
        observation_components=control.observation_components,
        action_components=control.action_components,
        period=control.period,
        safe_action=control.safe_action if guard is None else guard.action,
    )
