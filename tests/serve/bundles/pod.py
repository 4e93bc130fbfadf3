"""The container of a Deployment without a cluster: its arguments, variables, and read-only root."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.serve.bundles.conftest import manifests
from tests.serve.server import Server, serving
from trpo_deploy.serve.bundles.bento import ENTRYPOINT

_HIDDEN = "/tmp"
_BENTO, _MODELS = "/mnt", "/srv"
"""Where folders are mounted that the new temporary folder would hide."""
_ISOLATE = """\
set -eu
mount --bind "$BENTO" "$BENTO_PATH"
[ -z "$VOLUME" ] || { mount --bind "$VOLUME" "$MODELS"; mount -o remount,bind,ro "$MODELS"; }
mount -t tmpfs tmpfs "$TEMPORARY"
mount -o remount,bind,ro /
mount -o remount,bind,ro "$BENTO_PATH"
if touch "$BENTO_PATH/x" /x 2>/dev/null; then echo "the root can be written to"; exit 1; fi
exec setpriv --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""
"""Commands in a mount namespace of its own."""


@contextmanager
def started_pod(base: Path, volume: Path | None = None) -> Iterator[Server]:
    """Run the container of a base; skips where a process may not mount anything.

    Args:
        base: The folder of a Kustomize base.
        volume: The content of the volume with the models, if it has one.
    """
    unshare = ["unshare", "--mount", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"]).returncode:
        pytest.skip("needs the right to make mount namespaces")
    if Path(sys.prefix).is_relative_to(_HIDDEN):
        pytest.skip(f"needs a checkout outside of {_HIDDEN}, which the pod's volume hides")
    (container,) = manifests(base)["Deployment"]["spec"]["template"]["spec"]["containers"]
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    arguments = [{mounts.get("models"): _MODELS}.get(each, each) for each in container["args"]]
    for option in ("--port", "--grpc-port"):
        arguments[arguments.index(option) + 1] = "0"
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BENTO": str(base / "image"),
        "VOLUME": "" if volume is None else str(volume),
        "TEMPORARY": mounts["temporary"],
        "MODELS": _MODELS,
        "BENTO_PATH": _BENTO,
        "BENTOML_HOME": "/nobody",  # as in the image, a folder that cannot be written to
        "HOME": "/nobody",
        **{each["name"]: each["value"] for each in container["env"]},
    }
    entrypoint = ["sh", f"{_BENTO}/{ENTRYPOINT}", *arguments]
    process = subprocess.Popen(
        [*unshare, "sh", "-c", _ISOLATE, "sh", *entrypoint],
        env=environment,
        cwd="/",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with serving(process) as server:
        yield server
