"""``trpo-deploy demo``: the served policy takes the trained policy's actions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.command import Run, run_cli
from trpo_deploy.cli.demo import (
    ENV_ID,
    SEED,
    PlayedEpisode,
    check_equal_actions,
    check_own,
    play,
)
from trpo_deploy.errors import CertificateError
from trpo_deploy.files.model_dir import ModelDir
from trpo_deploy.files.yaml import to_yaml
from trpo_deploy.train import load_config


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Run]:
    """The demo's folder and output."""
    pytest.importorskip("imageio_ffmpeg")
    folder = tmp_path_factory.mktemp("demo") / "demo"
    return folder, run_cli("demo", "-o", folder)


@pytest.mark.slow
def test_the_served_episodes_are_those_of_the_last_evaluation(shown: tuple[Path, Run]) -> None:
    folder, run = shown
    assert run.code == 0, run.error
    returns = re.findall(r"return (?:in training|over HTTP) +│ +(.+ ± \S+)", run.output)
    assert returns == ["500.0 ± 0.0", "500.0 ± 0.0"]
    assert "every action equal: 10 episodes, 5,000 actions" in run.output
    assert "the same policy" in run.output
    assert (folder / "certificate.json").is_file()


@pytest.mark.slow
def test_picture_video_and_page_are_where_the_demo_says(shown: tuple[Path, Run]) -> None:
    folder, run = shown
    said = dict(re.findall(r"^(learning curve|video|page) +(\S+)", run.output, re.MULTILINE))
    assert Path(said["learning curve"]).read_bytes().startswith(b"\x89PNG")
    assert Path(said["video"]).read_bytes()[4:8] == b"ftyp"
    page = Path(said["page"])
    assert page == folder / "page" / "index.html"
    # All that the page loads is beside it.
    for name in re.findall(r'(?:src|href)="([^"]+)"', page.read_text()):
        assert (page.parent / name).is_file(), name


@pytest.mark.slow
def test_the_next_commands_work_as_printed(shown: tuple[Path, Run]) -> None:
    folder, run = shown
    commands = re.findall(r"^  trpo-deploy (.+)$", run.output, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["inspect", "evaluate", "serve", "train"]
    assert all(str(folder) in command for command in commands[:3])
    for command in commands[:2]:
        assert run_cli(*shlex.split(command)).code == 0


@pytest.mark.slow
def test_a_demo_replaces_an_earlier_one_and_nothing_else(
    shown: tuple[Path, Run], tmp_path: Path
) -> None:
    folder, _ = shown
    check_own(ModelDir(folder))
    check_own(ModelDir(tmp_path))  # empty
    check_own(ModelDir(tmp_path / "new"))


def run_of_another_seed(folder: Path) -> None:
    config = load_config(ENV_ID, seed=SEED + 1)
    (folder / "config.yaml").write_text(to_yaml(config.to_dict()))
    (folder / "policy.zip").write_bytes(b"precious")


@pytest.mark.parametrize(
    "fill",
    [
        run_of_another_seed,
        lambda folder: (folder / "notes.txt").write_text("precious"),
        lambda folder: (folder / "policy.zip").write_bytes(b"precious"),
    ],
)
def test_a_folder_of_something_else_is_kept(fill: Callable[[Path], object], tmp_path: Path) -> None:
    fill(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    run = run_cli("demo", "-o", tmp_path)
    run.assert_one_clear_line("something else than this demo", "another folder with -o")
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_different_action_is_an_error_that_names_seed_and_step() -> None:
    expected = [PlayedEpisode(7, [0, 1, 1], 3.0), PlayedEpisode(8, [0, 1, 1, 0], 4.0)]
    served = [PlayedEpisode(7, [0, 1, 1], 3.0), PlayedEpisode(8, [0, 1, 0], 3.0)]
    check_equal_actions(expected, expected)
    with pytest.raises(CertificateError, match=r"seed 8, step 2: .* takes action 1, .* answered 0"):
        check_equal_actions(expected, served)


def test_play_gives_the_same_episodes_for_the_same_seeds() -> None:
    episodes = play(lambda observation: int(observation[2] > 0), [3, 4])
    assert [episode.seed for episode in episodes] == [3, 4]
    for episode in episodes:  # CartPole's reward is 1 per step
        assert episode.total == len(episode.actions)
    assert episodes == play(lambda observation: int(observation[2] > 0), [3, 4])
