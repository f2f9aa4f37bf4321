"""Errors that a user can do something about: one clear line each."""

from __future__ import annotations


class WorkbenchError(Exception):
    """Something the user gave, or the machine, stands in the way. One line: what, why, what to do.

    The command line prints it without a traceback and leaves with status 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class UsageError(WorkbenchError):
    """A value outside what a command accepts; the command line leaves with status 2."""


class NonFiniteLoss(WorkbenchError):
    """A loss term is no longer a finite number."""


class Interrupted(WorkbenchError):
    """The user stopped a run; it can be resumed."""


def first_line(error: BaseException) -> str:
    """The first line of what an error says; its type where it says nothing."""
    return next(iter(str(error).strip().splitlines()), repr(error))
