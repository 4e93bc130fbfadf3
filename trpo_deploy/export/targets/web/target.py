"""The functions of the target ``web``."""

from __future__ import annotations

import json
from pathlib import Path

from trpo_deploy.errors import ExportError
from trpo_deploy.export.certify.engines import Engine
from trpo_deploy.export.targets.read_graph import read_program
from trpo_deploy.export.targets.target import FinishedPolicy
from trpo_deploy.export.targets.web.declarations import declarations_text
from trpo_deploy.export.targets.web.engine import load_engine
from trpo_deploy.export.targets.web.page_globals import check_global
from trpo_deploy.export.targets.web.readme import readme_text
from trpo_deploy.export.targets.web.source import module_text, script_text
from trpo_deploy.spec.policy_spec import PolicySpec


def write(policy: FinishedPolicy, name: str) -> dict[str, bytes | str]:
    """The files ``NAME.js``, ``NAME.global.js``, ``NAME.d.ts``, ``package.json``, ``README.md``.

    Args:
        policy: The policy.
        name: Name of the files and of the global.

    Raises:
        ExportError: JavaScript cannot hold the policy, or a page has a global of that name.
    """
    check_global(name)
    spec = policy.file.spec
    module = module_text(read_program(policy.file), name, policy.golden)
    return {
        f"{name}.js": module,
        f"{name}.global.js": script_text(module, name),
        f"{name}.d.ts": declarations_text(spec, name),
        "package.json": _package(name),
        "README.md": readme_text(spec, name, policy.golden),
    }


def load(folder: Path, name: str, spec: PolicySpec) -> Engine:
    """The module, ready to run in Node. The script has to be the same code.

    Args:
        folder: Folder with the files.
        name: Name of the policy in the files.
        spec: The policy's spec.

    Raises:
        ToolMissingError: This machine has no Node.js 18 or newer.
        ExportError: The files cannot be read, or the script is not the module's.
    """
    module, script = (_read(folder / f"{name}{ending}") for ending in (".js", ".global.js"))
    if script != script_text(module, name):
        raise ExportError(
            f"{folder / f'{name}.global.js'} is not the script of {name}.js; export again"
        )
    return load_engine(module, spec)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"cannot read {path} ({error}); export again") from error


def _package(name: str) -> str:
    """The text of ``package.json``, by which Node and bundlers take ``NAME.js`` for a module."""
    value = {
        "name": name.lower(),
        "version": "0.0.0",
        "private": True,
        "type": "module",
        "exports": {
            ".": {"types": f"./{name}.d.ts", "default": f"./{name}.js"},
            "./*": "./*",
        },
        "sideEffects": False,
    }
    return json.dumps(value, indent=2) + "\n"
