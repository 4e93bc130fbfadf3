"""Ctrl-C while compiled modules are imported."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_deferred() -> Iterator[None]:
    """Delay Ctrl-C until the block ends.

    An interrupt during the import of a compiled module can crash the process.

    Raises:
        KeyboardInterrupt: after the block, if Ctrl-C was pressed in it.
    """
    pressed = []
    before = signal.signal(signal.SIGINT, lambda *_: pressed.append(True))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if pressed:
        raise KeyboardInterrupt
