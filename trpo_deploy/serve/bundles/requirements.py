"""Exact versions of everything that the service needs, as installed here.

Why this is not BentoML's lock: ``docs/decisions/bundle-requirements.md``.
"""

from __future__ import annotations

from importlib import metadata

from trpo_deploy.errors import ServeError
from trpo_deploy.extras import requirements


def pin_requirements(distribution: str, *extras: str) -> list[str]:
    """Pin the requirements of a distribution, including indirect ones, for ``pip install -r``.

    Args:
        distribution: An installed distribution. It is not part of the result.
        extras: Its extras to include.

    Returns:
        Lines such as ``numpy==2.3.0``, sorted.

    Raises:
        ServeError: A requirement is not installed.
    """
    from packaging.utils import canonicalize_name

    pending = [(distribution, extra) for extra in ("", *extras)]
    names: set[str] = set()
    for owner, extra in pending:
        try:
            needed = list(requirements(owner, (extra,)))
        except metadata.PackageNotFoundError as error:
            raise ServeError(f"{owner} is not installed, so it cannot be pinned") from error
        for requirement in needed:
            name = canonicalize_name(requirement.name)
            names.add(name)
            new = [(name, nested) for nested in ("", *sorted(requirement.extras))]
            pending += [item for item in new if item not in pending]
    names.discard(canonicalize_name(distribution))
    return [f"{name}=={metadata.version(name)}" for name in sorted(names)]
