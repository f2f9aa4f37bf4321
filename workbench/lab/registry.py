"""Which lab is open under which name, so that running a cell again closes what it made before."""

from __future__ import annotations

import sys
import threading
import weakref
from typing import Protocol


class Closable(Protocol):
    """Something that can be closed, also twice."""

    def close(self) -> None:
        """Let go of threads and widgets."""
        ...


_open: weakref.WeakValueDictionary[str, Closable] = weakref.WeakValueDictionary()
_lock = threading.Lock()


def claim(name: str, lab: Closable) -> None:
    """Register a lab under a name and close the one that had it before."""
    with _lock:
        before = _open.get(name)
        _open[name] = lab
    if before is not None and before is not lab:
        before.close()


def release(lab: Closable) -> None:
    """Forget a lab that was closed."""
    with _lock:
        for name in [n for n, held in _open.items() if held is lab]:
            del _open[name]


def open_names() -> list[str]:
    """Names of all open labs."""
    with _lock:
        return sorted(_open)


def cell() -> str | None:
    """The notebook cell that is being executed, if there is one and the front end names it."""
    interactive = sys.modules.get("IPython")
    shell = interactive and interactive.get_ipython()
    if not hasattr(shell, "get_parent"):
        return None
    try:
        return shell.get_parent()["metadata"]["cellId"]
    except (LookupError, TypeError):
        return None
