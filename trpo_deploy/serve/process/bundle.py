"""``bundle``: a Bento, which is a folder with the models, the service and its environment.

It is complete in itself: ``bentoml serve FOLDER`` runs it from wherever it is moved to, and
``FOLDER/env/docker/Dockerfile`` makes an image of it. The code of the service goes in as files,
so that the image needs nothing of trpo-deploy from a package index, and no torch.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from importlib import metadata
from pathlib import Path

from trpo_deploy.errors import ServeError
from trpo_deploy.extras import require
from trpo_deploy.files.certificate import certificate_path
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.serve.models.registry import Registry
from trpo_deploy.serve.settings import Settings

_PACKAGE = Path(__file__).parents[2]
_PARTS = ("__init__.py", "errors.py", "extras.py", "files", "spec", "runtime", "serve")
"""What the service imports of trpo-deploy."""
_REQUIREMENTS = (
    *("bentoml", "httptools", "numpy", "onnxruntime", "orjson"),
    *("prometheus-client", "uvicorn", "uvloop", "websockets"),
)


def bundle(models: Sequence[Path], output: Path) -> Path:
    """Build a Bento of the latest versions of models.

    Args:
        models: model folders, ONNX files, or folders of model folders.
        output: folder to make; it must not exist.

    Returns:
        ``output``.

    Raises:
        ServeError: a model cannot be served, the folder exists, or BentoML cannot build.
        ModelDirError: a path has no ``policy.onnx``.
        MissingExtraError: the extra ``serve`` is not installed.
    """
    require("serve")
    if output.exists():
        raise ServeError(f"{output} exists; give another folder with -o")
    registry = Registry(models)
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-bundle-") as folder:
        context, home = Path(folder, "context"), Path(folder, "home")
        for name, slot in registry.slots.items():
            if slot.latest is None or slot.error is not None:
                raise ServeError(slot.error or f"{slot.path} has no policy")
            _copy_model(slot.latest.policy.path, context / "models" / name)
        _copy_service(context / _PACKAGE.name)
        _write_build_file(context)
        built = _build(context, home)
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(built, output)
    return output


def _copy_model(onnx: Path, folder: Path) -> None:
    folder.mkdir(parents=True)
    shutil.copyfile(onnx, ModelDir(folder).onnx)
    if certificate_path(onnx).is_file():
        shutil.copyfile(certificate_path(onnx), ModelDir(folder).certificate)


def _copy_service(folder: Path) -> None:
    folder.mkdir(parents=True)
    for part in _PARTS:
        source = _PACKAGE / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, folder / part)


def _write_build_file(context: Path) -> None:
    """BentoML's build options; JSON is YAML."""
    requirements = "\n".join(pinned(_REQUIREMENTS))
    (context / "requirements.txt").write_text(requirements + "\n")
    options = {
        "service": "trpo_deploy.serve.process.service:PolicyService",
        "include": ["trpo_deploy/", "models/"],
        "python": {"requirements_txt": "requirements.txt", "lock_packages": False},
        "docker": {"python_version": f"{sys.version_info.major}.{sys.version_info.minor}"},
    }
    (context / "bentofile.yaml").write_text(json.dumps(options))


def _build(context: Path, home: Path) -> Path:
    """Let BentoML build in a store of its own, and give the Bento's folder there."""
    home.mkdir()
    environment = {**os.environ, "BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
    # The service must not look at the models of whoever builds it.
    for variable in Settings().to_environment():
        environment.pop(variable, None)
    result = subprocess.run(  # noqa: S603 - our own interpreter and BentoML
        [sys.executable, "-m", "bentoml", "build", "--output", "tag", str(context)],
        env=environment,
        cwd=context,
        capture_output=True,
        text=True,
        check=False,
    )
    built = [path.parent for path in home.glob("bentos/*/*/bento.yaml")]
    if result.returncode != 0 or len(built) != 1:
        lines = (result.stderr or result.stdout).strip().splitlines() or ["no message"]
        raise ServeError(f"BentoML cannot build the bundle: {lines[-1]}")
    return built[0]


def pinned(names: Iterable[str]) -> list[str]:
    """Distributions and all that they need, at the versions that are installed here.

    Raises:
        ServeError: one of them is not installed.
    """
    from packaging.requirements import Requirement

    versions: dict[str, str] = {}
    wanted = [Requirement(name) for name in names]
    while wanted:
        requirement = wanted.pop()
        name = re.sub("[-_.]+", "-", requirement.name).lower()
        if name in versions and not requirement.extras:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError as error:
            raise ServeError(f"{name} is not installed, so it cannot be pinned") from error
        versions[name] = distribution.version
        extras = requirement.extras or {""}
        for text in distribution.requires or []:
            needed = Requirement(text)
            if needed.marker is None or any(needed.marker.evaluate({"extra": e}) for e in extras):
                wanted.append(needed)
    return [f"{name}=={version}" for name, version in sorted(versions.items())]
