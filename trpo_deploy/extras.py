"""Optional dependencies (extras): which are missing, and the command that installs them.

``pyproject.toml`` declares them. They are read from the metadata of the installed distribution,
which is the same for a wheel and an editable install.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import TYPE_CHECKING

from trpo_deploy.errors import MissingExtraError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

DISTRIBUTION = "trpo-deploy"


def require(*extras: str) -> None:
    """Check that extras are installed, without importing their packages.

    Args:
        extras: Names of ``[project.optional-dependencies]``, such as ``train``.

    Raises:
        MissingExtraError: A package is missing or has an unsupported version. The message has the
            exact ``pip install`` line for all ``extras``.
        ValueError: An extra does not exist.
    """
    install = f'run: pip install "{DISTRIBUTION}[{",".join(extras)}]"'
    try:
        known = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError as error:
        raise MissingExtraError(f"{DISTRIBUTION} not installed; {install}") from error
    unknown = [extra for extra in extras if extra not in known]
    if unknown:
        raise ValueError(f"unknown extra {unknown[0]!r}; expected one of {', '.join(known)}")
    missing, unsupported = find_problems(DISTRIBUTION, extras)
    if missing:
        unsupported.insert(0, f"{', '.join(missing)} not installed")
    if unsupported:
        raise MissingExtraError(f"{', '.join(unsupported)}; {install}")


def require_package(package: str, extra: str) -> None:
    """Check that one package of an extra is installed, where the others are not needed.

    Raises:
        MissingExtraError: It is missing or has an unsupported version.
    """
    (wanted,) = (each.specifier for each in _added_by(DISTRIBUTION, extra) if each.name == package)
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError:
        found = ""
    if not found or not wanted.contains(found, prereleases=True):
        problem = f"{found} does not match {wanted}" if found else "not installed"
        raise MissingExtraError(f'{package} {problem}; run: pip install "{package}{wanted}"')


def find_extra(package: str, nested: str) -> str | None:
    """The extra of trpo-deploy that requires ``package[nested]``; ``None`` if none does."""
    try:
        known = metadata.metadata(DISTRIBUTION).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return None
    for extra in known:
        for requirement in _added_by(DISTRIBUTION, extra):
            if requirement.name == package and nested in requirement.extras:
                return str(extra)
    return None


def find_problems(distribution: str, extras: Iterable[str]) -> tuple[list[str], list[str]]:
    """Check the packages that extras add to an installed distribution.

    Extras of these packages are followed, so ``all = ["trpo-deploy[train,export]"]`` and
    ``gymnasium[mujoco]`` are checked in full.

    Returns:
        The names of missing packages, and a sentence for each version outside its range.
    """
    missing: dict[str, None] = {}
    unsupported: dict[str, None] = {}
    pending = [(distribution, extra) for extra in extras]
    for owner, extra in pending:
        for requirement in _added_by(owner, extra):
            name = requirement.name
            try:
                version = metadata.version(name)
            except metadata.PackageNotFoundError:
                missing[name] = None
                continue
            if not requirement.specifier.contains(version, prereleases=True):
                text = f"{name} {version} does not match {requirement.specifier}"
                unsupported[text] = None
            new = [(name, nested) for nested in sorted(requirement.extras)]
            pending += [item for item in new if item not in pending]
    return list(missing), list(unsupported)


def requirements(distribution: str, extras: Iterable[str] = ()) -> Iterator[Requirement]:
    """Direct requirements of an installed distribution with some of its extras, on this platform.

    Raises:
        importlib.metadata.PackageNotFoundError: The distribution is not installed.
    """
    from packaging.requirements import Requirement

    for text in metadata.requires(distribution) or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield requirement


def _added_by(distribution: str, extra: str) -> Iterator[Requirement]:
    """Requirements that apply with an extra and not without it."""
    for requirement in requirements(distribution, (extra,)):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            yield requirement
