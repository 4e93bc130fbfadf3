"""Names that a script in a page cannot define."""

from __future__ import annotations

from trpo_deploy.errors import ExportError

# Accessors of the window, which ignore, refuse or convert a value; then what the module calls.
_WORDS = """
caches clientInformation closed cookieStore crashReport credentialless crossOriginIsolated crypto
customElements devicePixelRatio document documentPictureInPicture event external fence frameElement
frames history indexedDB innerHeight innerWidth isSecureContext launchQueue length localStorage
location locationbar menubar name navigation navigator offscreenBuffering opener origin
originAgentCluster outerHeight outerWidth pageXOffset pageYOffset parent performance personalbar
scheduler screen screenLeft screenTop screenX screenY scrollX scrollY scrollbars self sessionStorage
speechSynthesis status statusbar styleMedia toolbar top trustedTypes viewport visualViewport window

Array ArrayBuffer Float32Array Float64Array Infinity Int16Array Int32Array Int8Array JSON Math NaN
Number Object RangeError String TypeError Uint16Array Uint32Array Uint8Array atob globalThis
undefined
"""
_GLOBALS = frozenset(_WORDS.split())


def check_global(name: str) -> None:
    """Check the name of the global that a script defines.

    Raises:
        ExportError: Each page has another global of that name.
    """
    if name in _GLOBALS:
        raise ExportError(
            f"the name {name!r} is a global of each page; give another with --name, such as "
            f"{f'{name.lower()}_policy'!r}"
        )
