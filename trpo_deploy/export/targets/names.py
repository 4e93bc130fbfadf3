"""Names of a policy and of its observations as identifiers of C, C++ and JavaScript."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from trpo_deploy.errors import ExportError

_MAX_LENGTH = 48
# C11 and C++20; then JavaScript.
_WORDS = """
alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t
char8_t class co_await co_return co_yield compl concept const const_cast consteval constexpr
constinit continue decltype default delete do double dynamic_cast else enum explicit export extern
false float for friend goto if inline int long mutable namespace new noexcept not not_eq nullptr
operator or or_eq private protected public register reinterpret_cast requires restrict return short
signed sizeof static static_assert static_cast struct switch template this thread_local throw true
try typedef typeid typename union unsigned using virtual void volatile wchar_t while xor xor_eq

arguments await debugger eval finally function import in instanceof let null package super var with
yield
"""
_KEYWORDS = frozenset(_WORDS.split())
# With -I, the compiler would take NAME.h of the policy for the header of the standard library.
_HEADER_NAMES = """
assert complex ctype errno fenv inttypes iso646 limits locale math setjmp signal stdalign stdarg
stdatomic stdbit stdbool stdckdint stddef stdint stdio stdlib stdnoreturn string tgmath threads time
uchar unistd wchar wctype
"""
_HEADERS = frozenset(_HEADER_NAMES.split())


def identifier(text: str) -> str:
    """A text as an identifier in lower case, such as ``hopper_v5`` for ``Hopper-v5``."""
    name = re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")[:_MAX_LENGTH].rstrip("_")
    if not name or not name[0].isalpha() or name in _KEYWORDS or name in _HEADERS:
        name = f"policy_{name}"[:_MAX_LENGTH].rstrip("_")
    return name


def check_identifier(name: str) -> None:
    """Check the name that a user chose.

    Raises:
        ExportError: The name is not an identifier, or is taken.
    """
    if not re.fullmatch(rf"[A-Za-z][A-Za-z0-9_]{{0,{_MAX_LENGTH - 1}}}", name):
        raise ExportError(
            f"--name {name!r} is not an identifier: expected a letter, then at most "
            f"{_MAX_LENGTH - 1} letters, digits or underscores, such as {identifier(name)!r}"
        )
    if name in _KEYWORDS:
        raise ExportError(
            f"--name {name!r} is a keyword of C, C++ or JavaScript; give another, such as "
            f"{identifier(name)!r}"
        )
    if name.lower() in _HEADERS:
        raise ExportError(
            f"--name {name!r} would hide the header {name.lower()}.h of C; give another, such as "
            f"{identifier(name)!r}"
        )


def identifiers(keys: Iterable[str], what: str) -> Mapping[str, str]:
    """Each key as an identifier that keeps its letters, such as ``left_arm`` for ``left arm``.

    Args:
        keys: The keys.
        what: What they are, for the message.

    Raises:
        ExportError: Two keys would have the same name, or a name is a keyword.
    """
    names: dict[str, str] = {}
    for key in keys:
        name = re.sub(r"[^A-Za-z0-9_]", "_", key).lstrip("_")
        if not name or not name[0].isalpha():
            name = f"key_{name}"
        if name in _KEYWORDS:
            raise ExportError(
                f"the target cannot hold the {what} {key!r}: {name} is a keyword of C, C++ or "
                "JavaScript; train with another key"
            )
        # Macros are in upper case, so case does not tell names apart.
        other = next((each for each, taken in names.items() if taken.lower() == name.lower()), None)
        if other is not None:
            raise ExportError(
                f"the target cannot hold the {what}s {other!r} and {key!r}: both become "
                f"{name}; train with other keys"
            )
        names[key] = name
    return names
