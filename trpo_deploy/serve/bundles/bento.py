"""The target ``bento``: a folder with models, the service's code and pinned requirements.

The folder is self-contained: it runs from any location, and ``FOLDER/env/docker/Dockerfile`` builds
an image, which runs ``trpo-deploy serve``. The code of the service is copied, so the image needs
neither trpo-deploy from a package index nor torch.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

from trpo_deploy.errors import ServeError
from trpo_deploy.extras import DISTRIBUTION
from trpo_deploy.serve.bundles.requirements import pin_requirements
from trpo_deploy.serve.bundles.target import Contents
from trpo_deploy.serve.settings import ENV_PREFIX

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
DOCKERFILE = "env/docker/Dockerfile"
"""In the Bento."""
ENTRYPOINT = "env/docker/entrypoint.sh"
"""In the Bento."""


def write(contents: Contents, folder: Path) -> None:
    """Write the Bento."""
    build_bento(contents.models, folder)


def next_steps(contents: Contents, folder: Path) -> Sequence[tuple[str, str]]:
    """Serve the models here, or build an image and run it."""
    models = shlex.quote(str(folder / "src" / "models"))
    return [
        ("here", f"trpo-deploy serve {models}"),
        ("image", docker_build(folder, contents.name)),
        ("run", f"docker run -p 3000:3000 {contents.name}"),
    ]


def docker_build(bento: Path, image: str) -> str:
    """The command that builds the image of a Bento."""
    dockerfile = shlex.quote(str(bento / DOCKERFILE))
    return f"docker build -t {image} -f {dockerfile} {shlex.quote(str(bento))}"


def build_bento(models: Mapping[str, Path], folder: Path) -> None:
    """Build a Bento in an empty folder.

    Args:
        models: The folder of each model, by name; they are copied.
        folder: The folder.

    Raises:
        ServeError: BentoML fails.
    """
    with tempfile.TemporaryDirectory(prefix="trpo-deploy-bundle-") as temporary:
        context, home = Path(temporary, "context"), Path(temporary, "home")
        context.mkdir()
        for name, model in models.items():
            shutil.copytree(model, context / "models" / name)
        _copy_service(context)
        _write_build_file(context)
        built = _build(context, home)
        (built / ENTRYPOINT).write_text(_ENTRYPOINT)
        mode = folder.stat().st_mode
        shutil.copytree(built, folder, dirs_exist_ok=True)
        folder.chmod(mode)  # BentoML's own folder is closed to other users


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
