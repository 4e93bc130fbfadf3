"""From a policy to the folder of a target: ``export --target`` and ``verify`` of a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from trpo_deploy.errors import CertificateError, ExportError, ToolMissingError
from trpo_deploy.export.certify.certificate import Certificate
from trpo_deploy.export.certify.check import Check
from trpo_deploy.export.certify.engines import Engine
from trpo_deploy.export.certify.exported_file import ExportedFile
from trpo_deploy.export.certify.ordinary import ordinary_observations
from trpo_deploy.export.targets.agreement import compare_with_file
from trpo_deploy.export.targets.folder import (
    CERTIFICATE,
    GOLDEN,
    POLICY,
    TargetFolder,
    check_output,
    check_replaced,
    hashes,
    write_folder,
)
from trpo_deploy.export.targets.golden import ROWS, golden_rows, rows_of_certificate
from trpo_deploy.export.targets.names import check_identifier
from trpo_deploy.export.targets.target import FinishedPolicy, target_module
from trpo_deploy.files.certificate import read_certificate
from trpo_deploy.spec.policy_spec import PolicySpec
from trpo_deploy.spec.spaces import BoxSpace

if TYPE_CHECKING:
    from trpo_deploy.export.exporter import ExportOptions
    from trpo_deploy.files.runs import Run
    from trpo_deploy.sb3.source import SourceOptions

Files = Mapping[str, bytes | str]


@dataclass(frozen=True)
class TargetExport:
    """The result of an export to a target."""

    folder: Path
    files: tuple[str, ...]
    """Names of the files in the folder."""
    certificate: Certificate | None
    warnings: tuple[str, ...] = ()
    """What the user should know, such as that this machine cannot run the files."""


@dataclass(frozen=True)
class TargetOptions:
    """Where the files of a target go, and how they name the policy."""

    target: str
    """A name of :data:`~trpo_deploy.export.targets.table.TARGETS`."""
    folder: Path
    name: str
    force: bool = False
    """Whether to write into a folder that is not empty."""

    def check(self) -> None:
        """Check all that can be checked before the policy is read.

        Raises:
            ExportError: The name is not an identifier.
            ModelDirError: The folder is a file, or not empty.
        """
        check_identifier(self.name)
        check_output(self.folder, force=self.force)


def export_target(
    source: Run,
    to: TargetOptions,
    *,
    verify: bool,
    steps: int,
    seconds: float,
    options: ExportOptions,
    reading: SourceOptions,
) -> TargetExport:
    """Write a trained policy as the folder of a target. Needs torch.

    The certificate is that of the ONNX file that the target's files are made from. The target's
    files are one more engine in it if this machine can run them.

    Args:
        source: Files of the policy.
        to: The target.
        verify: Compare the files with the policy first, and write nothing if they differ.
        steps: Number of on-policy observations to compare.
        seconds: Time limit for playing the policy and the file.
        options: Properties of the ONNX file.
        reading: Facts that the source does not contain.

    Raises:
        ExportError: The policy cannot be exported, or the target cannot hold it.
        CertificateError: A check failed; nothing was written.
        ModelDirError: The folder cannot be written.
    """
    from trpo_deploy.export.exporter import build_policy

    to.check()
    build = build_policy(source, options, reading)
    rows = ordinary_observations(build.actor, np.random.default_rng(0), ROWS)
    files = _files(FinishedPolicy(build.file, golden_rows(build.file, rows)), to)
    if not verify:
        return _write(files, to, None)
    with _engine(files, to, build.file) as (engine, problem):
        certificate = build.certify(steps, seconds, [engine] if engine else [])
    if engine is None:
        how = f"the files of the target {to.target} against the trained policy"
        check = Check(f"target {to.target}", None, how, note=problem, warning=problem)
        certificate = replace(certificate, checks=(*certificate.checks, check))
    return _write(files, to, certificate, certificate.warnings)


def export_file(onnx: Path, to: TargetOptions, *, verify: bool) -> TargetExport:
    """Write a finished ``policy.onnx`` as the folder of a target, without torch.

    Args:
        onnx: The file.
        to: The target.
        verify: Compare the target's files with it first, and write nothing if they differ.

    Raises:
        PolicyFileError: The file cannot be read, or is not one of ours.
        ExportError: The target cannot hold the policy.
        CertificateError: The target's files give other actions; nothing was written.
        ModelDirError: The folder cannot be written.
    """
    to.check()
    file = ExportedFile.read(onnx)
    certificate = read_certificate(onnx)
    if certificate is not None and certificate.get("sha256", {}).get("policy.onnx") != file.sha256:
        certificate = None  # it belongs to another file
    rows = rows_of_certificate(file.spec, certificate)
    files = _files(FinishedPolicy(file, golden_rows(file, rows)), to)
    if not verify:
        return _write(files, to, None)
    with _engine(files, to, file) as (engine, problem):
        if engine is None:
            return _write(files, to, None, (problem,))
        issued = _certificate_of(file, compare_with_file(engine, file, rows))
    if not issued.passed:
        raise CertificateError(
            f"the target's files are not the policy, so they were not written; {issued.failures()}"
        )
    return _write(files, to, issued, issued.warnings)


def verify_target(
    source: Run, folder: Path, *, steps: int, seconds: float, reading: SourceOptions
) -> Certificate:
    """Compare the folder of a target with the trained policy. Compiles and runs its code.

    Args:
        source: Files of the policy.
        folder: The folder.
        steps: Number of on-policy observations to compare.
        seconds: Time limit for playing the policy and the file.
        reading: Facts that the source does not contain.

    Raises:
        ModelDirError: The folder was not written by an export.
        ToolMissingError: This machine cannot run the target's files.
        ExportError: The source cannot be read, or the folder's policy has other spaces.
    """
    from trpo_deploy.export.exporter import ExportOptions, build_policy

    found = TargetFolder.read(folder)
    options = ExportOptions(guard=found.spec.guard is not None, float64_input=_is_float64(found))
    build = build_policy(source, options, reading)
    engine = _load(found, build.file)
    return _with_files(build.compare(steps, seconds, [engine]), found, build.file.spec)


def verify_target_file(onnx: Path, folder: Path) -> Certificate:
    """Compare the folder of a target with a finished ``policy.onnx``. Runs the folder's code.

    Raises:
        ModelDirError: The folder was not written by an export.
        PolicyFileError: The file cannot be read, or is not one of ours.
        ToolMissingError: This machine cannot run the target's files.
        ExportError: The folder's policy has other spaces.
    """
    found, file = TargetFolder.read(folder), ExportedFile.read(onnx)
    engine = _load(found, file)
    rows = rows_of_certificate(file.spec, read_certificate(onnx))
    issued = _certificate_of(file, compare_with_file(engine, file, rows))
    return _with_files(issued, found, file.spec)


def _is_float64(found: TargetFolder) -> bool:
    spaces = found.spec.observation_spaces.values()
    return any(isinstance(each, BoxSpace) and each.dtype == np.float64 for each in spaces)


def _load(found: TargetFolder, file: ExportedFile) -> Engine:
    """The engine of a folder, whose code is called with the inputs of another file."""
    for what in ("observation_space", "action_space"):
        expected, came = getattr(file.spec, what), getattr(found.spec, what)
        if expected.to_json() != came.to_json():
            raise ExportError(
                f"{found.root} is of another policy: its {what.replace('_', ' ')} is "
                f"{came.describe()}, expected {expected.describe()}"
            )
    if found.spec.states != file.spec.states:
        raise ExportError(f"{found.root} is of another policy: it stacks other frames")
    return target_module(found.target).load(found.root, found.name, found.spec)


def _with_files(certificate: Certificate, found: TargetFolder, policy: PolicySpec) -> Certificate:
    """The certificate with the hashes of a folder's files, and what actions do not tell.

    That is files that have changed since the export, and facts for a robot (names, units, period,
    safe action) that are not the policy's. A header has those of ``policy.json``.
    """
    now, checks = found.sha256(), certificate.checks
    changed = [name for name, sha256 in found.hashes.items() if now[name] != sha256]
    if changed:
        note = f"{', '.join(changed)} has changed since the export; export again with --force"
        checks = (*checks, Check("files", None, f"SHA-256 as in {POLICY}", note=note))
    stated, expected = found.spec.control.to_json(), policy.control.to_json()
    other = [key for key, value in expected.items() if stated.get(key) != value]
    if other:
        facts = ", ".join(other).replace("_", " ")
        note = (
            f"{POLICY} has another {facts} than the policy; unless --names stated it, export again "
            "with --force"
        )
        how = "names, units, period and safe action, where the policy has them"
        checks = (*checks, Check("facts for a robot", None, how, note=note))
    return replace(certificate, checks=checks, sha256={**certificate.sha256, **now})


def _files(policy: FinishedPolicy, to: TargetOptions) -> Files:
    """All files of the folder but the certificate."""
    spec = policy.file.spec
    files = dict(target_module(to.target).write(policy, to.name))
    files[GOLDEN] = policy.golden.to_json(spec)
    files[POLICY] = spec.policy_json(to.name, hashes(files), to.target)
    check_replaced(to.folder, [*files, CERTIFICATE])
    return files


@contextmanager
def _engine(
    files: Files, to: TargetOptions, file: ExportedFile
) -> Iterator[tuple[Engine | None, str]]:
    """The engine of files that are not yet written, or why this machine has none."""
    with TemporaryDirectory(prefix="trpo-deploy-") as folder:
        write_folder(Path(folder), files)
        try:
            engine = target_module(to.target).load(Path(folder), to.name, file.spec)
        except ToolMissingError as error:
            yield None, f"the files of the target {to.target} were not run: {error}"
            return
        yield engine, ""


def _certificate_of(file: ExportedFile, check: Check) -> Certificate:
    """The certificate of a target that was compared with the ONNX file alone."""
    note = "only policy.onnx was at hand; its own certificate compares it with the trained policy"
    return Certificate(
        sha256={"policy.onnx": file.sha256},
        checks=(check,),
        environment={"env_id": None, "note": note},
        returns={},
        versions={},
        golden=None,
    )


def _write(
    files: Files,
    to: TargetOptions,
    certificate: Certificate | None,
    warnings: tuple[str, ...] = (),
) -> TargetExport:
    if certificate is not None:
        certificate = replace(certificate, sha256={**certificate.sha256, **hashes(files)})
        files = {**files, CERTIFICATE: certificate.to_json()}
    write_folder(to.folder, files)
    return TargetExport(to.folder, tuple(files), certificate, warnings)
