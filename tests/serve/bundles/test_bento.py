"""A bundle is a complete Bento: it runs elsewhere, with the versions of here, without torch."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.command import run_cli
from tests.files.signed import write_certified, write_keys
from tests.runtime.policy_files import OBSERVATION_SPACES, write_policy
from tests.serve.process.bentoml_server import bentoml_serve
from trpo_deploy.errors import ServeError
from trpo_deploy.files.signature import check_signature, sign
from trpo_deploy.serve import bundle
from trpo_deploy.serve.bundles.requirements import pin_requirements

BLOCKED = "torch stable_baselines3 sb3_contrib gymnasium tensorboard"


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that was moved after it was built, with a signed model and another."""
    folder = tmp_path_factory.mktemp("bundle")
    signed = write_certified(folder / "models" / "box" / "policy.onnx")
    sign(signed, write_keys(folder / "keys")[0])
    write_policy(folder / "models" / "dict" / "policy.onnx", OBSERVATION_SPACES["dict"])
    bundle([folder / "models"], folder / "bento")
    shutil.copytree(folder / "bento", folder / "elsewhere" / "moved")
    shutil.rmtree(folder / "bento")
    shutil.rmtree(folder / "models")
    return folder / "elsewhere" / "moved"


@pytest.fixture
def without_torch(tmp_path: Path) -> str:
    """A folder for PYTHONPATH with which nothing for training can be imported."""
    (tmp_path / "blocker").mkdir()
    (tmp_path / "blocker" / "sitecustomize.py").write_text(
        f"import sys\nfor name in {BLOCKED!r}.split():\n    sys.modules[name] = None\n"
    )
    return str(tmp_path / "blocker")


@contextmanager
def started(command: Sequence[str], cwd: Path, **environment: str) -> Iterator[str]:
    """Run a command that ends in ``trpo-deploy serve``; yields its address."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    try:
        log: list[str] = []
        while not (line := process.stdout.readline()).startswith("serving"):
            log.append(line)
            assert line, "".join(log)
        yield line.split(" at ")[1].split()[0].replace("0.0.0.0", "127.0.0.1")
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def assert_serves_both(url: str) -> None:
    answer = httpx.post(f"{url}/models/box/predict", json={"observation": [1, 2, 3, 4]})
    assert answer.status_code == 200
    assert sorted(httpx.get(f"{url}/models").json()["models"]) == ["box", "dict"]


def test_the_image_runs_trpo_deploy_serve_without_torch(moved: Path, without_torch: str) -> None:
    entrypoint = moved / "env" / "docker" / "entrypoint.sh"
    dockerfile = (moved / "env" / "docker" / "Dockerfile").read_text()
    last = dockerfile.rstrip().splitlines()[-1]
    assert last.startswith("ENTRYPOINT")
    assert "bento/env/docker/entrypoint.sh" in last
    # The Python that runs the tests, with the blocker, in place of the image's.
    bin_folder = Path(without_torch, "bin")
    bin_folder.mkdir()
    python = bin_folder / "python"
    python.write_text(
        f'#!/bin/sh\nexport PYTHONPATH="$PYTHONPATH:{without_torch}"\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    image = {"PATH": f"{bin_folder}:{os.environ['PATH']}", "BENTO_PATH": str(moved)}
    image["PYTHONPATH"] = ""
    options = ["--port", "0", "--workers", "2"]
    with started(["sh", str(entrypoint), *options], moved.parent, **image) as url:
        assert_serves_both(url)
    code = "import trpo_deploy; print(trpo_deploy.__file__)"
    output = subprocess.run(
        ["sh", str(entrypoint), "python", "-c", code],
        env={**os.environ, **image},
        cwd=moved.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert output.stdout.strip() == str(moved / "src" / "trpo_deploy" / "__init__.py")


def test_bentoml_serves_a_bundle_without_torch(
    moved: Path, tmp_path: Path, without_torch: str
) -> None:
    with bentoml_serve(str(moved), tmp_path / "home", PYTHONPATH=without_torch) as url:
        assert_serves_both(url)


def test_a_bundle_pins_what_it_needs_and_keeps_signatures(moved: Path) -> None:
    requirements = (moved / "env" / "python" / "requirements.txt").read_text().splitlines()
    assert all("==" in line for line in requirements if line)
    assert not [line for line in requirements if line.split("==")[0] in BLOCKED.split()]
    public = moved.parents[1] / "keys" / "public.pem"
    check_signature(moved / "src" / "models" / "box" / "policy.onnx", [public])


def test_the_printed_lines_work_as_printed(tmp_path: Path) -> None:
    write_policy(tmp_path / "box" / "policy.onnx")
    run = run_cli("bundle", "box", "-o", "My Bento", cwd=tmp_path)
    assert run.code == 0, run.error
    _, *lines = run.output.splitlines()
    here, build, container = (shlex.split(line.partition(":")[2]) for line in lines)
    assert here[:2] == ["trpo-deploy", "serve"]
    command = [sys.executable, "-m", "trpo_deploy", *here[1:], "--port", "0"]
    with started(command, tmp_path) as url:
        assert httpx.get(f"{url}/readyz").status_code == 200
    image = "my-bento"
    assert build[:5] == ["docker", "build", "-t", image, "-f"]
    assert (tmp_path / build[5]).is_file()
    assert (tmp_path / build[6] / "bento.yaml").is_file()
    assert container == ["docker", "run", "-p", "3000:3000", image]


def test_bundle_refuses_a_model_that_cannot_be_served(tmp_path: Path) -> None:
    write_policy(tmp_path / "good" / "policy.onnx")
    write_policy(tmp_path / "bad" / "policy.onnx").write_bytes(b"nothing")
    with pytest.raises(ServeError, match="ONNX file"):
        bundle([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_pins_are_the_installed_versions_of_direct_and_indirect_requirements() -> None:
    import numpy as np

    pins = dict(line.split("==") for line in pin_requirements("trpo-deploy", "serve"))
    assert pins["numpy"] == np.__version__
    assert "starlette" in pins  # required by BentoML
    assert "torch" not in pins
    assert "trpo-deploy" not in pins
    with pytest.raises(ServeError, match="not installed"):
        pin_requirements("no-such-distribution")
