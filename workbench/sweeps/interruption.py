"""Ctrl-C that waits until nothing is held which others wait for."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interruption:
    """While this is entered, Ctrl-C takes effect in `strike` alone; a second one at once.

    Where Ctrl-C strikes in the middle of a query, the exception may keep the query alive, and with
    it a lock on the study's file: workers that are to put their trials back would wait for it, and
    whoever interrupted for them.

    Signals reach the main thread; in any other, and where Ctrl-C is ignored, nothing changes.
    """

    def __init__(self) -> None:
        self._struck = False
        self._before: Any = None

    def __enter__(self) -> Interruption:
        here = threading.current_thread() is threading.main_thread()
        before = signal.getsignal(signal.SIGINT)
        if here and callable(before):
            self._before = before
            signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)
            self._before = None

    def strike(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C has come."""
        if self._struck:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._struck:
            raise KeyboardInterrupt
        self._struck = True
