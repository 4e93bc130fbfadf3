"""The certificate of HTTPS, taken up again when its files are renewed."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import TypeAlias

from trpo_deploy.errors import ServeError

_Stamps: TypeAlias = tuple[tuple[int, int, int, int] | None, ...]
_log = logging.getLogger(__name__)


class Certificate:
    """A certificate chain and its private key.

    Args:
        chain: PEM file of the chain.
        key: PEM file of the key.

    Attributes:
        context: For new connections. A renewed certificate replaces it.
        http2: The same for HTTP/2, which clients of gRPC ask for in the handshake.

    Raises:
        ServeError: The files are not a chain and its key.
    """

    def __init__(self, chain: Path, key: Path) -> None:
        self._files = chain, key
        self._stamps = self._read_stamps()
        self.context, self.http2 = self._load()

    def refresh(self) -> None:
        """Load the files if they changed. An invalid pair leaves the previous one in use."""
        stamps = self._read_stamps()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self.context, self.http2 = self._load()
        except ServeError as error:
            _log.warning("keeping the previous TLS certificate: %s", error)
        else:
            _log.info("TLS certificate loaded again from %s", self._files[0])

    def _load(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        chain, key = self._files
        contexts = _new_context(), _new_context()
        contexts[1].set_alpn_protocols(["h2"])
        try:
            for context in contexts:
                # The empty password stops OpenSSL from asking for one at the terminal.
                context.load_cert_chain(chain, key, password="")
        except OSError as error:  # includes ssl.SSLError
            raise ServeError(
                f"{chain} and {key} are not a certificate chain and its key in PEM form: {error}"
            ) from error
        return contexts

    def _read_stamps(self) -> _Stamps:
        return tuple(_read_stamp(path) for path in self._files)


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _read_stamp(path: Path) -> tuple[int, int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
