"""One thread that draws: soon after it is asked, and never more than ten times a second.

Widget traits can be set a thousand times faster than a browser can show them;
a client that falls behind then loses messages. So nothing is queued up here:
whoever has news calls `poke`, and the next drawing shows the state as it then is.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

INTERVAL = 0.1
log = logging.getLogger(__name__)


class Publisher:
    """Calls ``draw`` after every `poke`, at most once in an interval.

    The first poke after a quiet time is drawn at once; those that come while it
    pauses are drawn together when the pause ends. The thread starts at the first.

    Args:
        draw: shows the present state; runs on the publisher's thread only.
        interval: seconds between the end of one drawing and the next.
        pause: waits so many seconds; replaced in tests.
    """

    def __init__(
        self,
        draw: Callable[[], None],
        interval: float = INTERVAL,
        pause: Callable[[float], object] | None = None,
    ) -> None:
        self._draw = draw
        self._interval = interval
        self._news = threading.Condition()
        self._asked = self._drawn = 0
        self._closed = threading.Event()
        self._pause = pause or self._closed.wait
        self._thread: threading.Thread | None = None

    def poke(self) -> None:
        """There is something new to draw. Any thread; returns at once."""
        with self._news:
            if self._closed.is_set():
                return
            self._asked += 1
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._work, name="workbench publisher", daemon=True
                )
                self._thread.start()
            self._news.notify_all()

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until all that was new at the call is drawn; False if that took too long."""
        with self._news:
            wanted = self._asked
            return self._news.wait_for(
                lambda: self._drawn >= wanted or self._closed.is_set(), timeout
            )

    def is_current_thread(self) -> bool:
        """Whether the caller is the drawing itself."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """Draw no more. A drawing that has begun is waited for, so that nothing follows."""
        with self._news:
            self._closed.set()
            self._news.notify_all()
        if self._thread is not None and not self.is_current_thread():
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._asked > self._drawn or self._closed.is_set())
                if self._closed.is_set():
                    return
                wanted = self._asked
            try:
                self._draw()
            except Exception:
                # A drawing that fails must not end all later ones.
                log.exception("the panel could not be drawn")
            with self._news:
                self._drawn = wanted
                self._news.notify_all()
            self._pause(self._interval)
