"""``bundle``: build a Bento, a folder with models, the service's code and pinned requirements.

The folder is self-contained: it runs from any location, and ``FOLDER/env/docker/Dockerfile`` builds
an image, which runs ``trpo-deploy serve``. The code of the service is copied, so the image needs
neither trpo-deploy from a package index nor torch.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from trpo_deploy.errors import ServeError
from trpo_deploy.extras import DISTRIBUTION, require
from trpo_deploy.serve.models.publisher import Publisher
from trpo_deploy.serve.process.requirements import pin_requirements
from trpo_deploy.serve.settings import ENV_PREFIX, Settings

_PACKAGE = Path(__file__).parents[2]
_PARTS = (
    *("__init__.py", "__main__.py", "class_path.py", "errors.py", "extras.py"),
    *("cli", "export", "files", "runtime", "serve", "spec"),
)
"""Parts of trpo-deploy that ``trpo-deploy serve`` and BentoML import; of ``export``, the table of
targets, which is in the help."""
_ENTRYPOINT = """\
#!/bin/sh
# Serve the models of this bundle. Arguments are options of `trpo-deploy serve`, or a command.
set -eu
export PYTHONPATH="$BENTO_PATH/src"
case "${1--}" in
-*) set -- python -m trpo_deploy serve "$BENTO_PATH/src/models" --host 0.0.0.0 "$@" ;;
esac
exec "$@"
"""
"""BentoML's own runs ``bentoml serve``, under which not all limits hold."""


def bundle(models: Sequence[Path], output: Path) -> Path:
    """Build a Bento of the latest versions of models.

    Args:
        models: Model folders, ONNX files, or folders of model folders.
        output: The folder to create; it must not exist.

    Returns:
        ``output``.

    Raises:
        ServeError: A model cannot be served, the folder exists, or BentoML fails to build.
        MissingExtraError: The extra ``serve`` is not installed.
    """
    require("serve")
    if output.exists():
        raise ServeError(f"{output} exists; choose another folder with -o")
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-bundle-") as folder:
        context, home, store = (Path(folder, name) for name in ("context", "home", "store"))
        store.mkdir()
        for name, key in _try(models, store).items():
            shutil.copytree(store / key, context / "models" / name)
        _copy_service(context)
        _write_build_file(context)
        built = _build(context, home)
        (built / "env" / "docker" / "entrypoint.sh").write_text(_ENTRYPOINT)
        output.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(built, output)
    return output


def _try(models: Sequence[Path], store: Path) -> dict[str, str]:
    """Check models as the service does.

    Returns:
        The folder in the store of each model's latest version.

    Raises:
        ServeError: A model cannot be served.
    """
    publisher = Publisher(Settings(models=tuple(models)), store)
    try:
        publisher.open()
    finally:
        publisher.stop()
    for view in publisher.view.models.values():
        if view.error is not None:
            raise ServeError(view.error)
    return {name: [*view.versions.values()][-1] for name, view in publisher.view.models.items()}


def _copy_service(context: Path) -> None:
    folder = context / _PACKAGE.name
    folder.mkdir()
    for part in _PARTS:
        source = _PACKAGE / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, folder / part)
    # The command line reads from here which packages it needs.
    distribution = metadata.distribution(DISTRIBUTION)
    text = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    info = context / f"{_PACKAGE.name}-{distribution.version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(text, encoding="utf-8")


def _write_build_file(context: Path) -> None:
    """Write BentoML's build options, as JSON, which is valid YAML."""
    requirements = "\n".join(pin_requirements(DISTRIBUTION, "serve"))
    (context / "requirements.txt").write_text(requirements + "\n")
    options = {
        "service": "trpo_deploy.serve.process.service:PolicyService",
        "include": ["trpo_deploy/", "*.dist-info/", "models/"],
        "python": {"requirements_txt": "requirements.txt", "lock_packages": False},
        "docker": {"python_version": f"{sys.version_info.major}.{sys.version_info.minor}"},
    }
    (context / "bentofile.yaml").write_text(json.dumps(options))


def _build(context: Path, home: Path) -> Path:
    """Run BentoML's build with a separate store, and return the Bento's folder in it."""
    home.mkdir()
    # The user's settings must not reach the service, which BentoML imports.
    environment = {key: v for key, v in os.environ.items() if not key.startswith(ENV_PREFIX)}
    environment |= {"BENTOML_HOME": str(home), "BENTOML_DO_NOT_TRACK": "True"}
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
        raise ServeError(f"BentoML failed to build the bundle: {lines[-1]}")
    return built[0]
