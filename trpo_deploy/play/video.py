"""Record an episode as a video."""

from __future__ import annotations

import math
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.episode import Act, Episode, batch
from trpo_deploy.envs.failure import missing_package
from trpo_deploy.envs.rendering import render_problem, render_without_display
from trpo_deploy.errors import ConfigError, EnvError, MissingExtraError
from trpo_deploy.extras import require
from trpo_deploy.files.atomic import atomic_path
from trpo_deploy.spec.spaces import Array

_DEFAULT_FPS = 30.0
_MAX_FPS = 50.0
"""Browsers play a GIF with more frames per second in slow motion."""

# The palette comes from the first frames: ffmpeg keeps these in memory until it has the palette.
_GIF = (
    "split[head][all];[head]trim=end_frame=150,palettegen[palette];"
    "[all][palette]paletteuse=dither=bayer:bayer_scale=4:diff_mode=rectangle"
)
_ENCODINGS = {
    ".mp4": (
        *("-c:v", "libx264", "-crf", "23", "-pix_fmt", "yuv420p"),
        *("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2"),  # H.264 needs an even width and height
        *("-movflags", "+faststart"),
    ),
    ".gif": ("-filter_complex", _GIF, "-loop", "0"),
    ".webp": ("-c:v", "libwebp_anim", "-quality", "80", "-loop", "0"),
}

_TOLD_STEPS = 200

Write: TypeAlias = Callable[[Array], object]
"""Adds a frame, uint8 ``(height, width, 3)``, to a video."""

Tell: TypeAlias = Callable[[str], object]
"""Tells a user what is being done, in a few words."""


def prepare_video(path: Path) -> None:
    """Check that a video can be written to a file of this name, before anything is played.

    Call it before the environment is made: without a display, it makes MuJoCo and SDL render into
    memory.

    Raises:
        ConfigError: The file name has another ending than ``.mp4``, ``.gif`` or ``.webp``.
        MissingExtraError: ffmpeg is not installed.
    """
    if path.suffix not in _ENCODINGS:
        raise ConfigError(f"{path}: expected a file name that ends in .mp4, .gif or .webp")
    require("video")
    _ffmpeg()
    render_without_display()


def record_episode(
    environment: Environment, act: Act, seed: int, path: Path, tell: Tell = lambda _: None
) -> None:
    """Play one episode and write it as a video.

    The file name's ending chooses MP4 (H.264), GIF or WebP. The video plays at the environment's
    own speed; of more than :data:`_MAX_FPS` frames per second it has every second, third, ...

    Args:
        environment: The environment to play.
        act: The policy, for batches of raw observations.
        seed: Seed for ``env.reset``.
        path: The file, checked with :func:`prepare_video`. It is written completely or not at all.
        tell: Called when the first picture is there, and after every :data:`_TOLD_STEPS` steps.

    Raises:
        EnvError: The environment cannot render images.
        ModelDirError: The file cannot be written.
    """
    rendering = replace(environment, kwargs={**environment.kwargs, "render_mode": "rgb_array"})
    with rendering.opened() as env:
        follow_robot(environment, env)
        episode = Episode(environment, env, seed)
        frame = _rendered_frame(environment, env)
        fps = float(env.metadata.get("render_fps") or _DEFAULT_FPS)
        every = math.ceil(fps / _MAX_FPS)
        with _video(path, frame, fps / every) as write:
            write(frame)
            state, steps = None, 0
            tell(f"recording the first episode to {path}")
            while not episode.ended:
                actions, state = act(batch([episode.observation]), state)
                episode.step(actions[0])
                steps += 1
                if steps % every == 0:
                    write(_rendered_frame(environment, env))
                if steps % _TOLD_STEPS == 0:
                    tell(f"recording the first episode to {path}: step {steps:,}")


@contextmanager
def _video(path: Path, frame: Array, fps: float) -> Iterator[Write]:
    """Run ffmpeg; gives the function that adds a frame, of the size of ``frame``."""
    height, width, _ = frame.shape
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:.6g}")
    quiet = ("-hide_banner", "-loglevel", "error", "-y")
    kind = path.suffix.removeprefix(".")
    with atomic_path(path) as temporary, tempfile.TemporaryFile() as log:
        command = [_ffmpeg(), *quiet, *raw, "-i", "-", *_ENCODINGS[path.suffix]]
        process = subprocess.Popen(  # noqa: S603 - the program of imageio-ffmpeg
            [*command, "-f", kind, str(temporary)], stdin=subprocess.PIPE, stderr=log
        )
        pipe = process.stdin
        assert pipe is not None
        try:
            with suppress(BrokenPipeError):  # ffmpeg has ended; its log says why
                yield lambda frame: pipe.write(frame.data)
                pipe.close()
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            with suppress(BrokenPipeError):
                pipe.close()
        if code != 0:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines()
            raise EnvError(f"cannot write {path}: ffmpeg: {lines[0] if lines else code}")


def _ffmpeg() -> str:
    import imageio_ffmpeg

    try:
        program: str = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise MissingExtraError(
            "imageio-ffmpeg has no ffmpeg for this system; install ffmpeg, or set "
            "IMAGEIO_FFMPEG_EXE to its path"
        ) from error
    return program


def follow_robot(environment: Environment, env: Any) -> None:
    """Take MuJoCo's camera ``track``, unless the user chose one or the model has none.

    Gymnasium did so until 1.3; the default camera of 1.4 stands still, and robots leave its view.
    """
    renderer = getattr(env.unwrapped, "mujoco_renderer", None)
    if renderer is None or environment.kwargs.keys() & {"camera_id", "camera_name"}:
        return
    with suppress(KeyError):
        renderer.camera_id = renderer.model.camera("track").id


def _rendered_frame(environment: Environment, env: Any) -> Array:
    """Render a frame, uint8 ``(height, width, 3)``."""
    try:
        with warnings.catch_warnings():  # GLFW warns; what it warns of is raised as well
            warnings.filterwarnings("ignore", module="glfw")
            frame = env.render()
    except Exception as error:  # renderers and GL drivers raise anything
        missing = missing_package(error)
        reason = (
            f"{missing[0]} is not installed; {missing[1]}" if missing else render_problem(error)
        )
        _discard_frames(error)
        raise EnvError(f"{environment.env_id} cannot be rendered here ({reason})") from error
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3:
        raise EnvError(f"{environment.env_id} renders no images (render_mode='rgb_array')")
    return np.ascontiguousarray(frame, dtype=np.uint8)


def _discard_frames(error: BaseException) -> None:
    """Delete a half-made viewer now: Gymnasium's prints a traceback when it is deleted."""
    hook = sys.unraisablehook
    sys.unraisablehook = lambda _: None
    try:
        traceback.clear_frames(error.__traceback__)
    finally:
        sys.unraisablehook = hook
