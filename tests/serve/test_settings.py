"""Settings: arguments, environment variables, and their checks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trpo_deploy.errors import ServeError
from trpo_deploy.serve.settings import Settings


def test_settings_survive_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(
        models=(tmp_path / "a", tmp_path / "b"),
        max_batch=7,
        api_key_file=tmp_path / "keys",
        cors_origins=("https://a.example", "https://b.example"),
        access_log=True,
        out_of_bounds="clip",
        require_certificate=False,
        model_store=tmp_path / "store",
        trial_seconds=2.5,
    )
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_paths_with_any_character_survive_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a:b", "[", '["x"]', "umläut", "\udcff", "a,b", "new\nline"]
    settings = Settings(models=tuple(tmp_path / name for name in names))
    monkeypatch.setenv("TRPO_DEPLOY_MODELS", settings.to_environment()["TRPO_DEPLOY_MODELS"])
    assert Settings().models == settings.models


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("models", ["models"]),
        (f"a{os.pathsep}b", ["a", "b"]),
        ('["a:b", "c"]', ["a:b", "c"]),
        ("[odd", ["[odd"]),
    ],
)
def test_models_are_a_list_as_in_path_or_in_json(
    monkeypatch: pytest.MonkeyPatch, text: str, paths: list[str]
) -> None:
    monkeypatch.setenv("TRPO_DEPLOY_MODELS", text)
    assert Settings().models == tuple(map(Path, paths))


def test_an_empty_variable_keeps_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    default = Settings()
    for name in ("MAX_BATCH", "MODELS", "API_KEY_FILE", "ACCESS_LOG"):
        monkeypatch.setenv(f"TRPO_DEPLOY_{name}", "")
    assert Settings() == default


def test_flags_that_are_given_override_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = tmp_path / "keys"
    monkeypatch.setenv("TRPO_DEPLOY_API_KEY_FILE", str(keys))
    monkeypatch.setenv("TRPO_DEPLOY_OUT_OF_BOUNDS", "clip")
    settings = Settings.with_flags(api_key_file=None, access_log=True, out_of_bounds="refuse")
    assert settings.api_key_file == keys
    assert settings.access_log
    assert settings.out_of_bounds == "refuse"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MAX_BATCH", "many"),
        ("MAX_BATCH", "-1"),
        ("ACCESS_LOG", "perhaps"),
        ("OUT_OF_BOUNDS", "ignore"),
    ],
)
def test_an_invalid_variable_is_named_with_its_value(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(f"TRPO_DEPLOY_{name}", text)
    with pytest.raises(ServeError, match=f"TRPO_DEPLOY_{name}.*{text!r}"):
        Settings()


def test_an_unknown_setting_is_refused() -> None:
    with pytest.raises(ServeError, match="max_speed"):
        Settings(max_speed=1)
