"""How far a run is, for whoever watches: a bar, plain lines, or nothing."""

from __future__ import annotations

import sys
import time
from typing import Protocol


class Progress(Protocol):
    """What a run tells its watcher; every method may be called from a worker thread."""

    def stage(self, text: str) -> None:
        """A new stage has begun, such as "asking the teacher"."""
        ...

    def advance(self, done: int, total: int, numbers: dict[str, float]) -> None:
        """So much of the stage is done; ``numbers`` are worth showing."""
        ...

    def note(self, text: str) -> None:
        """A sentence for the user."""
        ...

    def close(self) -> None:
        """The run has ended, well or not."""
        ...


class Silent:
    """Shows nothing."""

    def stage(self, text: str) -> None:
        """See `Progress.stage`."""

    def advance(self, done: int, total: int, numbers: dict[str, float]) -> None:
        """See `Progress.advance`."""

    def note(self, text: str) -> None:
        """See `Progress.note`."""

    def close(self) -> None:
        """See `Progress.close`."""


class Bar:
    """A tqdm bar on standard error, or in the notebook's cell."""

    def __init__(self) -> None:
        self._bar = None
        self._text = ""

    def stage(self, text: str) -> None:
        """See `Progress.stage`."""
        self.close()
        self._text = text

    def advance(self, done: int, total: int, numbers: dict[str, float]) -> None:
        """See `Progress.advance`."""
        from tqdm.auto import tqdm

        if self._bar is None:
            self._bar = tqdm(
                total=total,
                desc=self._text,
                file=sys.stderr,
                initial=0,
                dynamic_ncols=True,
                bar_format="{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} "
                "[{elapsed}<{remaining}{postfix}]",
            )
        if numbers:
            self._bar.set_postfix_str(describe(numbers), refresh=False)
        self._bar.update(done - self._bar.n)

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        from tqdm.auto import tqdm

        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """See `Progress.close`."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Lines:
    """Plain lines on standard error, at most one every few seconds: logs, pipes, batch systems."""

    def __init__(self, every: float = 5.0) -> None:
        self._every = every
        self._text = ""
        self._began = self._last = time.monotonic()

    def stage(self, text: str) -> None:
        """See `Progress.stage`."""
        self._text = text
        self._began = self._last = time.monotonic()
        print(text, file=sys.stderr, flush=True)

    def advance(self, done: int, total: int, numbers: dict[str, float]) -> None:
        """See `Progress.advance`."""
        now = time.monotonic()
        if now - self._last < self._every and done < total:
            return
        self._last = now
        left = (now - self._began) / done * (total - done) if done else float("nan")
        detail = f", {describe(numbers)}" if numbers else ""
        print(
            f"{self._text}: {done}/{total}{detail}, {left:.0f} s left", file=sys.stderr, flush=True
        )

    def note(self, text: str) -> None:
        """See `Progress.note`."""
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        """See `Progress.close`."""


def for_here() -> Progress:
    """A bar in a terminal or notebook, plain lines elsewhere."""
    return Bar() if sys.stderr.isatty() or _in_notebook() else Lines()


def describe(numbers: dict[str, float]) -> str:
    """Numbers as short text: ``loss 2.13, perplexity 8.1, tokens/s 61,200``."""
    return ", ".join(
        f"{name} {value:,.0f}" if abs(value) >= 1000 else f"{name} {value:.3g}"
        for name, value in numbers.items()
    )


def _in_notebook() -> bool:
    shell = sys.modules.get("IPython") and sys.modules["IPython"].get_ipython()
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"
