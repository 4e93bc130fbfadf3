"""Which extras, packages and programs are on this machine. Imports none of them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata

from trpo_deploy.extras import DISTRIBUTION, find_problems

_SECONDS = 20  # for a program to tell its version on a busy machine


@dataclass(frozen=True)
class Item:
    """Something that trpo-deploy can use."""

    name: str
    use: str
    """What trpo-deploy or its tests use it for."""
    install: str
    """How to install it."""
    found: bool
    version: str = ""
    problem: str = ""
    """What an extra lacks."""


@dataclass(frozen=True)
class Wanted:
    """An item to look for, under any of some names."""

    names: tuple[str, ...]
    use: str
    install: str

    def item(self, version: str | None) -> Item:
        """The item, found if it has a version."""
        found = version is not None
        return Item(self.names[0], self.use, self.install, found, version or "")


def _package(use: str, *names: str) -> Wanted:
    return Wanted(names, use, f"pip install {names[0]}")


def _debian(package: str, use: str, *names: str) -> Wanted:
    return Wanted(names, use, f"apt-get install {package}")


PACKAGES = (
    _package("runs exported files", "onnxruntime", "onnxruntime-gpu"),
    _package("builds exported files, and a second engine of the certificate", "onnx"),
    _package("training, and the export of a trained policy", "torch"),
    _package("training, and the export of a trained policy", "stable-baselines3"),
    _package("environments", "gymnasium"),
    _package("MuJoCo environments", "mujoco"),
    _package("the service", "bentoml"),
    _package("verify --engine openvino", "openvino"),
    _package("verify --engine tract", "tract"),
    _package(
        "verify --engine opencv",
        "opencv-python-headless",
        "opencv-python",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
    _package("another engine for exported files", "MNN"),
    _package("tests: a second opinion about exported C", "emx-onnx-cgen"),
)
"""Distribution packages; each may come under several names."""

PROGRAMS = (
    _debian("gcc", "checks exported C", "gcc"),
    _debian("clang", "checks exported C", "clang"),
    _debian("gcc-arm-none-eabi", "flash and stack of exported C", "arm-none-eabi-gcc"),
    _debian("qemu-system-arm", "tests: exported C on emulated controllers", "qemu-system-arm"),
    _debian("nodejs", "runs JavaScript", "node"),
    _debian("chromium", "tests: web pages", *("chromium", "chromium-browser", "google-chrome")),
    _debian("wrk", "benchmarks of the service", "wrk"),
)
"""Commands; each may come under several names."""


_EXTRAS = {
    "train": "train",
    "tune": "search for the settings of a training",
    "export": "export",
    "serve": "serve",
    "sign": "sign models",
    "mujoco": "train and evaluate in MuJoCo environments",
    "box2d": "train and evaluate in Box2D environments",
    "envpool": "--vec-env envpool",
    "video": "evaluate --video",
}


def find_extras() -> list[Item]:
    """The extras of the installed distribution, with what each lacks; empty if it has none."""
    try:
        names = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:  # a source tree that was not installed
        names = []
    return [_extra(name) for name in names if name != "all"]


def _extra(name: str) -> Item:
    missing, unsupported = find_problems(DISTRIBUTION, [name])
    problems = [*(f"{each} is missing" for each in missing), *unsupported]
    install = f'pip install "{DISTRIBUTION}[{name}]"'
    return Item(name, _EXTRAS.get(name, ""), install, not problems, problem=", ".join(problems))


def find_packages() -> list[Item]:
    """The packages of :data:`PACKAGES`, with their versions."""
    return [wanted.item(_installed(wanted.names)) for wanted in PACKAGES]


def _installed(names: Iterable[str]) -> str | None:
    found = next((each for name in names for each in metadata.distributions(name=name)), None)
    return None if found is None else found.version


def find_programs() -> list[Item]:
    """The programs of :data:`PROGRAMS`, with the versions that they tell."""
    with ThreadPoolExecutor() as pool:
        versions = pool.map(_told, (wanted.names for wanted in PROGRAMS))
        return [wanted.item(version) for wanted, version in zip(PROGRAMS, versions, strict=True)]


def _told(names: Iterable[str]) -> str | None:
    """The version in the answer to ``--version``; ``None`` if there is no such program."""
    command = next(filter(None, map(shutil.which, names)), None)
    if command is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - a program on the user's PATH
            [command, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown version"
    version = re.search(r"\d+(\.\d+)+", done.stdout + done.stderr)
    return version[0] if version else "unknown version"
