"""A video is a file of the asked format, made without a display and without noise, or one line."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from tests.command import Run, run_cli
from trpo_deploy.envs.environment import Environment
from trpo_deploy.errors import EnvError, ModelDirError
from trpo_deploy.export import export_model
from trpo_deploy.play.video import follow_robot, prepare_video, record_episode
from trpo_deploy.spec.spaces import Array

ROOT = Path(__file__).parents[2]
HEADLESS = ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL", "SDL_VIDEODRIVER", "XDG_RUNTIME_DIR")
imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")


class Film(gymnasium.Env[Any, Any]):
    """Ten steps; its pictures have an odd size and get brighter."""

    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Discrete(2)
    metadata = {"render_modes": ["rgb_array"], "render_fps": 100}  # noqa: RUF012 - Gymnasium's
    picture: Any = None

    def __init__(self, **kwargs: Any) -> None:
        self.render_mode = kwargs["render_mode"]

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed, options=options)
        self.steps = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> Any:  # noqa: ARG002
        self.steps += 1
        return np.zeros(2, np.float32), 1.0, self.steps == 10, False, {}

    def render(self) -> Any:
        if self.picture is not None:
            return self.picture
        return np.full((33, 45, 3), 20 * self.steps, np.uint8)


gymnasium.register("Film-v0", Film)


def act(observation: Any, state: Any) -> tuple[Array, Any]:
    return np.zeros(len(observation), np.int64), state


def film(path: Path) -> None:
    """Record the environment."""
    prepare_video(path)
    record_episode(Environment("Film-v0"), act, 0, path)


def decoded(path: Path, height: int, width: int) -> Array:
    """The frames of a video, uint8 ``(frames, height, width, 3)``."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path]
    output = ("-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    done = subprocess.run([*command, *output], check=True, capture_output=True, timeout=240)
    return np.frombuffer(done.stdout, np.uint8).reshape(-1, height, width, 3)


def test_a_fast_environment_is_shown_at_its_own_speed_with_fewer_frames(tmp_path: Path) -> None:
    film(tmp_path / "film.mp4")
    frames = decoded(tmp_path / "film.mp4", 34, 46)  # H.264 takes even sizes
    # Of the frames 0 to 10 at 100 per second, every second one.
    assert len(frames) == 6
    _, seconds = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "film.mp4"))
    assert seconds == pytest.approx(6 / 50, abs=0.01)
    # 8: H.264 loses a little, and stores colours as brightness of 16 to 235.
    for frame, brightness in zip(frames, range(0, 240, 40), strict=True):
        assert abs(frame[:33, :45].mean() - brightness) < 8


def test_a_gif_repeats_and_has_every_frame(tmp_path: Path) -> None:
    from PIL import Image

    film(tmp_path / "film.gif")
    with Image.open(tmp_path / "film.gif") as image:
        assert image.format == "GIF"
        assert image.size == (45, 33)
        assert image.info["loop"] == 0
        assert getattr(image, "n_frames") == 6  # noqa: B009 - not in every image type
        assert image.info["duration"] == 20  # milliseconds


def test_a_webp_is_animated(tmp_path: Path) -> None:
    from PIL import Image

    film(tmp_path / "film.webp")
    with Image.open(tmp_path / "film.webp") as image:
        assert image.format == "WEBP"
        assert getattr(image, "n_frames") == 6  # noqa: B009


@pytest.mark.parametrize("name", ["film.avi", "film", "film.MP4", ".mp4"])
def test_another_ending_is_refused_before_anything_is_read(name: str, tmp_path: Path) -> None:
    run = run_cli("evaluate", tmp_path / "nothing", "--video", tmp_path / name)
    run.assert_one_clear_line(name, "ends in .mp4, .gif or .webp")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_refused_before_a_step_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Film, "step", None)
    (tmp_path / "film.mp4").mkdir()
    with pytest.raises(ModelDirError, match=r"film\.mp4: it is a folder"):
        film(tmp_path / "film.mp4")


def test_what_ffmpeg_says_is_one_line_and_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Film, "picture", np.zeros((33, 0, 3), np.uint8))
    with pytest.raises(EnvError, match=r"cannot write .*film\.mp4: ffmpeg: ") as error:
        film(tmp_path / "film.mp4")
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore:.*RGB-array rendering")  # Gymnasium says so as well
@pytest.mark.parametrize("picture", [np.zeros((3, 3)), [1, 2]])
def test_an_environment_without_pictures_is_refused(
    picture: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Film, "picture", picture)
    with pytest.raises(EnvError, match="renders no images"):
        film(tmp_path / "film.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_missing_ffmpeg_is_named_with_the_pip_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trpo_deploy import extras

    monkeypatch.setattr(extras, "find_problems", lambda *_: (["imageio-ffmpeg"], []))
    monkeypatch.setattr("trpo_deploy.cli.evaluate.require", lambda *_: None)
    run = run_cli("evaluate", ROOT / "models" / "Hopper-v5", "--video", tmp_path / "a.mp4")
    run.assert_one_clear_line("imageio-ffmpeg not installed", 'pip install "trpo-deploy[video]"')


@pytest.fixture(scope="module")
def hopper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained policy for Hopper-v5, which falls after some steps."""
    pytest.importorskip("mujoco")
    from stable_baselines3 import PPO

    file = tmp_path_factory.mktemp("hopper") / "policy.onnx"
    model = PPO("MlpPolicy", "Hopper-v5", n_steps=64, seed=0, device="cpu")
    return export_model(model, file, verify=False).path


def evaluate_without_display(model: Path, *arguments: object, **variables: str) -> Run:
    """``trpo-deploy evaluate`` on a machine without a display, as a process."""
    kept = {name: value for name, value in os.environ.items() if name not in HEADLESS}
    command = ("evaluate", model, "--episodes", 1, *arguments)
    done = subprocess.run(
        [sys.executable, "-m", "trpo_deploy", *map(str, command)],
        env={**kept, **variables},
        capture_output=True,
        text=True,
        timeout=240,
    )
    return Run(done.returncode, done.stdout, done.stderr)


def test_mujoco_renders_without_a_display(hopper: Path, tmp_path: Path) -> None:
    if ctypes.util.find_library("EGL") is None:
        pytest.skip("needs the Debian packages libegl1 and libgl1-mesa-dri")
    video = tmp_path / "hopper.gif"
    run = evaluate_without_display(hopper, "--env", "Hopper-v5", "--video", video)
    assert run.code == 0, run.error
    recording = f"recording the first episode to {video} ..."
    assert run.error.splitlines() == [recording, "playing 1 episode ..."]
    assert run.output.splitlines()[1:] == [f"wrote {video}"]
    last = decoded(video, 480, 480)[-1]
    # The camera that follows sees the orange robot in the middle, before a grey and green scene.
    middle = last[160:320, 160:320].astype(int)
    assert (middle[..., 0] - middle[..., 2] > 40).mean() > 0.02


@pytest.mark.parametrize(("chosen", "camera"), [({}, 0), ({"camera_id": -1}, -1)])
def test_the_camera_follows_the_robot_unless_another_is_chosen(
    chosen: dict[str, Any], camera: int
) -> None:
    pytest.importorskip("mujoco")
    environment = Environment("Hopper-v5", {"render_mode": "rgb_array", **chosen})
    with environment.opened() as env:
        follow_robot(environment, env)
        renderer = env.unwrapped.mujoco_renderer  # type: ignore[attr-defined]
        assert renderer.camera_id == camera
    with Environment("Film-v0", {"render_mode": "rgb_array"}).opened() as env:
        follow_robot(environment, env)  # has no cameras


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("glfw", ("Hopper-v5 cannot be rendered", "needs a display", "MUJOCO_GL=egl")),
        ("EGL", ("MUJOCO_GL=EGL", "expected egl, osmesa, glfw")),
        ("bogus", ("MUJOCO_GL=bogus", "expected egl, osmesa, glfw")),
        ("osmesa", ("MUJOCO_GL=osmesa", "libosmesa6")),
    ],
)
def test_an_opengl_that_cannot_be_used_is_one_line(
    value: str, says: tuple[str, ...], hopper: Path, tmp_path: Path
) -> None:
    if value == "osmesa" and ctypes.util.find_library("OSMesa") is not None:
        pytest.skip("OSMesa is here")
    video = tmp_path / "hopper.mp4"
    run = evaluate_without_display(hopper, "--env", "Hopper-v5", "--video", video, MUJOCO_GL=value)
    run.assert_one_clear_line(*says)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_egl_names_the_debian_packages(hopper: Path, tmp_path: Path) -> None:
    # PyOpenGL without its library raises an AttributeError.
    (tmp_path / "OpenGL.py").write_text("None.eglQueryString")
    path = os.pathsep.join([str(tmp_path), str(ROOT), os.environ.get("PYTHONPATH", "")])
    video = ("--video", tmp_path / "hopper.mp4")
    run = evaluate_without_display(hopper, "--env", "Hopper-v5", *video, PYTHONPATH=path)
    run.assert_one_clear_line("MuJoCo cannot render", "packages libegl1 and libgl1-mesa-dri")
    assert not (tmp_path / "hopper.mp4").exists()
