"""Settings: arguments, environment variables, and their checks."""

from __future__ import annotations

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
    )
    for name, value in settings.to_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


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
