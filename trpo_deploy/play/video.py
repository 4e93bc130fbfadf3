"""Record an episode as a video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trpo_deploy.envs.environment import Environment
from trpo_deploy.envs.episode import Act, Episode, batch
from trpo_deploy.errors import ConfigError, EnvError
from trpo_deploy.extras import require
from trpo_deploy.files.atomic import atomic_path
from trpo_deploy.spec.spaces import Array

_DEFAULT_FPS = 30


def record_episode(environment: Environment, act: Act, seed: int, path: Path) -> None:
    """Play one episode and write it as an MP4 file (H.264).

    Args:
        environment: The environment to play.
        act: The policy, for batches of raw observations.
        seed: Seed for ``env.reset``.
        path: The file. It is written completely or not at all.

    Raises:
        MissingExtraError: ffmpeg is not installed.
        ConfigError: The file name does not end in ``.mp4``.
        EnvError: The environment cannot render images.
        ModelDirError: The file cannot be written.
    """
    if path.suffix != ".mp4":
        raise ConfigError(f"{path}: expected a file name that ends in .mp4")
    require("video")
    import imageio_ffmpeg

    rendering = replace(environment, kwargs={**environment.kwargs, "render_mode": "rgb_array"})
    with rendering.opened() as env, atomic_path(path) as temporary:
        episode = Episode(environment, env, seed)
        frame = _rendered_frame(environment, env)
        writer = imageio_ffmpeg.write_frames(
            str(temporary),
            (frame.shape[1], frame.shape[0]),
            fps=env.metadata.get("render_fps", _DEFAULT_FPS),
            macro_block_size=2,  # H.264 needs an even width and height
            ffmpeg_log_level="error",
            output_params=["-f", "mp4"],  # the temporary name has no extension for ffmpeg
        )
        writer.send(None)
        try:
            writer.send(frame)
            state = None
            while not episode.ended:
                actions, state = act(batch([episode.observation]), state)
                episode.step(actions[0])
                writer.send(_rendered_frame(environment, env))
        finally:
            writer.close()


def _rendered_frame(environment: Environment, env: Any) -> Array:
    """Render a frame, uint8 ``(height, width, 3)``."""
    try:
        frame = env.render()
    except Exception as error:  # renderers and GL drivers raise anything
        reason = " ".join(str(error).split())
        raise EnvError(f"{environment.env_id} cannot be rendered here ({reason})") from error
    if not isinstance(frame, np.ndarray) or frame.ndim != 3 or frame.shape[2] != 3:
        raise EnvError(f"{environment.env_id} renders no images (render_mode='rgb_array')")
    return np.ascontiguousarray(frame, dtype=np.uint8)
