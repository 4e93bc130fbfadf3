"""The optional parts of trpo-deploy, and the line that installs a missing one."""

from __future__ import annotations

from importlib.util import find_spec

from trpo_deploy.errors import MissingExtraError

# One import name for each distribution that an extra brings beyond the core.
_MODULES = {
    "train": ("torch", "stable_baselines3", "gymnasium", "yaml", "matplotlib", "onnx"),
    "export": ("torch", "stable_baselines3", "gymnasium", "yaml", "onnx"),
    "serve": ("bentoml", "orjson", "httptools", "prometheus_client", "uvicorn", "websockets"),
    "video": ("imageio_ffmpeg",),
}


def require(*extras: str) -> None:
    """Check that extras are installed, without importing them.

    Args:
        extras: names out of ``train``, ``export``, ``serve``, ``video``.

    Raises:
        MissingExtraError: with the exact ``pip install`` line for all that is missing.
    """
    missing = [name for extra in extras for name in _MODULES[extra] if find_spec(name) is None]
    if missing:
        names = ", ".join(dict.fromkeys(missing))
        raise MissingExtraError(
            f'{names} not installed; run: pip install "trpo-deploy[{",".join(extras)}]"'
        )
