from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import yaml

from tests.command import run_cli
from tests.shared import shared_folder
from trpo_deploy.serve.bundles import bento

MODELS = Path(__file__).parents[3] / "models"
SHIPPED = ("HalfCheetah-v5", "Hopper-v5")
Bundled: TypeAlias = Callable[..., Path]


@pytest.fixture(scope="session")
def bundled(tmp_path_factory: pytest.TempPathFactory) -> Bundled:
    """Bundles of two shipped models, written by the command: a folder for each target and place.

    BentoML takes seconds, so it builds each Bento once: with the models, and without.
    """
    build = bento._build

    def build_once(context: Path, home: Path) -> Path:
        name = "bento-with-models" if (context / "models").exists() else "bento"
        return shared_folder(
            tmp_path_factory, name, lambda folder: shutil.copytree(build(context, home), folder)
        )

    @cache
    def make(target: str, models_from: str | None = None) -> Path:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(bento, "_build", build_once)
            return write(target, models_from)

    def write(target: str, models_from: str | None) -> Path:
        folder = tmp_path_factory.mktemp("bundles") / "walkers"
        place = [] if models_from is None else ["--models-from", models_from]
        models = [MODELS / name for name in SHIPPED]
        run = run_cli("bundle", *models, "--target", target, *place, "-o", folder)
        assert run.code == 0, run.error
        return folder

    return make


def manifests(folder: Path) -> Mapping[str, dict[str, Any]]:
    """The manifests of a folder, by kind."""
    documents = [yaml.safe_load(path.read_text()) for path in sorted(folder.glob("*.yaml"))]
    return {document["kind"]: document for document in documents}
