"""Memory that a training step gives back and wants again at once."""

from __future__ import annotations

import ctypes
from functools import cache

#: Numbers of the two settings in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
#: Bytes: so much free memory stays with the process, and larger blocks always go back.
KEPT, LARGEST = 1 << 28, 1 << 25


@cache
def keep_freed_memory() -> bool:
    """Ask the C library to keep up to 256 MB of freed memory for the next tensors.

    A step on a CPU frees and allocates the same tensors, some MB each, over and over. By default
    glibc hands such blocks back to the system, which fills every page with zeros before it gives
    it out again: hundreds to thousands of page faults in each step of the classroom's student,
    depending on what was freed before. With memory kept there are some twenty;
    ``tests/unit/test_allocator.py`` counts them.

    Returns:
        Whether the C library has such a setting. Those of macOS, Windows and musl have not; there
        nothing is done.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function, or no handle to look in
        return False
    # Both, or else the first setting would end glibc's own adaptation and leave it at 128 kB.
    return bool(mallopt(_TRIM_THRESHOLD, KEPT) and mallopt(_MMAP_THRESHOLD, LARGEST))
