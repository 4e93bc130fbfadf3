"""Rendering without a display, and why MuJoCo cannot render."""

from __future__ import annotations

import os
import sys
import traceback

_WITHOUT_DISPLAY = {
    "EGL_LOG_LEVEL": "fatal",  # EGL's warnings say less than our error
    "MUJOCO_GL": "egl",
    "SDL_AUDIODRIVER": "dummy",
    "SDL_VIDEODRIVER": "dummy",
}
_ADVICE = {
    "egl": "install the Debian packages libegl1 and libgl1-mesa-dri",
    "osmesa": "install the Debian package libosmesa6, or unset MUJOCO_GL",
    "glfw": "it needs a display; set MUJOCO_GL=egl to render without one",
}
_OPENGL_MODULES = (
    "OpenGL.",
    "gymnasium.envs.mujoco.mujoco_rendering",
    "mujoco.egl",
    "mujoco.gl_context",
    "mujoco.glfw",
    "mujoco.osmesa",
    "mujoco.rendering.",
)


def render_without_display() -> None:
    """Let MuJoCo render with EGL, and SDL into memory, if this process has no display.

    Environment variables are set, for the whole process: MuJoCo and SDL read them when they are
    imported. Those that the user has set stay as they are.
    """
    has_display = os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if has_display or not sys.platform.startswith("linux"):
        return
    for name, value in _WITHOUT_DISPLAY.items():
        if not os.environ.get(name):
            os.environ[name] = value


def render_problem(error: BaseException) -> str:
    """Why an environment could not be made or rendered, as one line.

    MuJoCo imports its OpenGL together with itself, so a missing library appears in both places,
    and often as an ``AttributeError``.
    """
    reason = " ".join(str(error).split())
    frames = traceback.walk_tb(error.__traceback__)
    modules = {str(frame.f_globals.get("__name__")) + "." for frame, _ in frames}
    if not any(module.startswith(_OPENGL_MODULES) for module in modules):
        return reason
    backend = os.environ.get("MUJOCO_GL", "").strip() or "glfw"
    if backend not in _ADVICE:
        return f"MUJOCO_GL={backend}: expected {', '.join(_ADVICE)}, or unset it"
    # GLFW's reasons are about its own state.
    detail = (
        "" if isinstance(error, AttributeError) or backend == "glfw" else f": {reason.rstrip('.')}"
    )
    return f"MuJoCo cannot render with MUJOCO_GL={backend}{detail}; {_ADVICE[backend]}"
