"""Settings: arguments, environment variables, and their checks."""

from __future__ import annotations

import os
import re
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
        allowed_hosts=("a.example", "::1"),
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


@pytest.mark.parametrize(
    "origin",
    [
        *("https://game.example", "http://localhost:8080", "http://[::1]:3000", "*", "null"),
        *("capacitor://localhost", "https://xn--spl-wna.example", "http://127.0.0.1"),
    ],
)
def test_an_origin_as_browsers_send_it_is_accepted(origin: str) -> None:
    assert Settings(cors_origins=(origin,)).cors_origins == (origin,)


@pytest.mark.parametrize(
    ("origin", "right"),
    [
        ("https://game.example/", "https://game.example"),
        ("https://game.example/play?x#y", "https://game.example"),
        ("game.example", "https://game.example"),
        ("game.example:8080", "https://game.example:8080"),
        ("HTTPS://Game.Example", "https://game.example"),
        ("https://game.example:443", "https://game.example"),
        ("http://game.example:80", "http://game.example"),
        ("https://user@game.example", "https://game.example"),
        ("https://sp\u00fcl.example", "https://xn--spl-ioa.example"),
        ("https://*.example", "name each one"),
        ("https://", "has no host"),
        ("https://game.example:x", "https://game.example"),
        ("https://a b.example", "blanks"),
    ],
)
def test_an_origin_that_no_browser_sends_is_refused_with_the_right_form(
    origin: str, right: str
) -> None:
    with pytest.raises(ServeError, match=re.escape(right)) as caught:
        Settings(cors_origins=(origin,))
    assert "TRPO_DEPLOY_CORS_ORIGINS" in str(caught.value)


def test_names_of_a_variable_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRPO_DEPLOY_ALLOWED_HOSTS", "Robot.example, 10.0.0.1,::1,")
    monkeypatch.setenv("TRPO_DEPLOY_CORS_ORIGINS", "https://a.example, https://b.example")
    settings = Settings()
    assert settings.allowed_hosts == ("robot.example", "10.0.0.1", "::1")
    assert settings.cors_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("host", "right"),
    [
        ("http://robot.example", "write 'robot.example'"),
        ("robot.example:3000", "write 'robot.example'"),
        ("robot.example/x", "write 'robot.example'"),
        ("*.example", "name each one"),
    ],
)
def test_an_allowed_host_is_a_name_only(host: str, right: str) -> None:
    with pytest.raises(ServeError, match=re.escape(right)):
        Settings(allowed_hosts=(host,))


def test_bytes_in_flight_have_room_for_one_body() -> None:
    with pytest.raises(ServeError, match=r"^max_bytes_in_flight is 10, less than max_body_bytes"):
        Settings(max_bytes_in_flight=10)
