"""The functions of the target ``c``."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from trpo_deploy.export.certify.engines import Engine
from trpo_deploy.export.targets.c.compiler import measured_cost
from trpo_deploy.export.targets.c.controller import controller_files
from trpo_deploy.export.targets.c.header import header_text
from trpo_deploy.export.targets.c.interface import Interface
from trpo_deploy.export.targets.c.library import load_engine
from trpo_deploy.export.targets.c.readme import readme_text
from trpo_deploy.export.targets.c.selftest import selftest_text
from trpo_deploy.export.targets.c.source import source_text
from trpo_deploy.export.targets.read_graph import read_program
from trpo_deploy.export.targets.robot import robot_facts
from trpo_deploy.export.targets.target import FinishedPolicy
from trpo_deploy.spec.policy_spec import PolicySpec


def write(policy: FinishedPolicy, name: str) -> dict[str, bytes | str]:
    """The files ``NAME.h``, ``NAME.c``, ``NAME_test.c``, ``README.md``, and a controller.

    Args:
        policy: The policy.
        name: Prefix of all names.

    Raises:
        ExportError: C cannot hold the policy.
    """
    spec = policy.file.spec
    facts = robot_facts(spec)
    interface = Interface.of(spec, name)
    source = source_text(read_program(policy.file), interface, facts)
    controller = controller_files(spec, interface)
    cost = _cost(source, header_text(spec, interface, facts, ""), name)
    return {
        f"{name}.h": header_text(spec, interface, facts, cost),
        f"{name}.c": source,
        f"{name}_test.c": selftest_text(interface, policy.golden),
        **controller,
        "README.md": readme_text(spec, interface, cost, has_controller=bool(controller)),
    }


def load(folder: Path, name: str, spec: PolicySpec) -> Engine:
    """The files, compiled for this machine.

    Args:
        folder: Folder with the files.
        name: Name of the policy in the files.
        spec: The policy's spec.

    Raises:
        ToolMissingError: This machine has no C compiler.
        ExportError: The files cannot be compiled.
    """
    return load_engine(folder, name, spec)


def _cost(source: str, header: str, name: str) -> str:
    with TemporaryDirectory(prefix="trpo-deploy-") as folder:
        for ending, text in ((".h", header), (".c", source)):
            Path(folder, name + ending).write_text(text, encoding="utf-8")
        return measured_cost(Path(folder), name)
