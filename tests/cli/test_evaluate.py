"""``trpo-deploy evaluate``: the same returns from the file and from torch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.command import run_cli, run_process
from trpo_deploy.files.model_dir import ModelDir


def test_both_backends_play_the_same_episodes(model: ModelDir) -> None:
    results = []
    for backend in ("onnx", "torch"):
        run = run_cli("evaluate", model.root, "--backend", backend, "--episodes", 5, "--json")
        assert run.code == 0, run.error
        results.append(json.loads(run.output))  # one object and nothing else
    assert results[0]["returns"] == results[1]["returns"]
    assert results[0]["env_id"] == "CartPole-v1"


def test_stochastic_actions_play_other_episodes(model: ModelDir) -> None:
    evaluate = ("evaluate", model.root, "--backend", "torch", "--episodes", 5, "--json")
    returns = [
        json.loads(run_cli(*evaluate, *more).output)["returns"] for more in ((), ("--stochastic",))
    ]
    assert returns[0] != returns[1]


def test_a_video_is_written_without_a_word_from_sdl(
    model: ModelDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("imageio_ffmpeg")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    video = tmp_path / "episode.mp4"
    arguments = ("evaluate", model.root, "--backend", "torch", "--episodes", 1)
    run = run_process(*arguments, "--video", video)
    assert run.code == 0, run.error
    assert run.error.splitlines() == [
        f"recording the first episode to {video} ...",
        *(f"recording the first episode to {video}: step {n} ..." for n in (200, 400)),
        "playing 1 episode ...",
    ]
    returns, wrote = run.output.splitlines()
    assert returns.endswith(", 1 episode, torch)")
    assert wrote == f"wrote {video}"
    assert video.read_bytes()[4:8] == b"ftyp"
    assert [path.name for path in tmp_path.iterdir()] == ["episode.mp4"]
