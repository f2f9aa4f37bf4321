"""A widget with a picture of its state for those who have no JavaScript, or no kernel.

The picture and the widget are two outputs, one above the other, and the widget hides the
picture. In one output they would exclude each other: nbconvert takes the widget wherever a
notebook holds its state, and shows nothing where the widgets' scripts cannot be fetched.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from workbench.lab import registry
from workbench.lab.publisher import Publisher


def text_of(*names: str) -> str:
    """Files below this folder, joined: a widget's script or style as one text.

    A text and not a path: a path would be watched by a thread that keeps every widget alive
    (anywidget issue 929).
    """
    here = Path(__file__).parent
    return "\n".join((here / name).read_text(encoding="utf-8") for name in names)


class Pictured(anywidget.AnyWidget):
    """Shows its picture wherever it is shown itself, and keeps it up to date.

    A subclass has ``svg()``, and its script hides
    ``[data-workbench-picture="…"]`` with the value of ``_picture``.
    """

    _picture = traitlets.Unicode("").tag(sync=True)
    _closed = True

    def __init__(self, **state: Any) -> None:
        self._shown: Any = None
        self._publisher = Publisher(self._redraw)
        super().__init__(_picture=secrets.token_hex(8), **state)
        self._closed = False

    def open(self) -> None:
        """Tell the front end of the widget."""
        super().open()
        # ipykernel 7.4 sends a page's words to the subshell from which this widget last said
        # something, which is that of a page that may be closed by now: then they are refused.
        # Each goes to the subshell that its own page asked for.
        self.comm._reply_subshell_for = _as_addressed

    def svg(self) -> str:
        """The picture of the present state, one ``<svg>`` element."""
        raise NotImplementedError

    def close(self) -> None:
        """End the thread and close the widget. Twice is once."""
        if self._closed:
            return
        self._closed = True
        registry.release(self)
        self._publisher.close()
        self.layout.close()
        super().close()

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if self._closed:
            print(f"{self!r}, closed")
            return
        self._shown = display(self._framed_picture(), raw=True, display_id=True)
        data, metadata = super()._repr_mimebundle_()
        data["text/plain"] = "The picture above moves where this notebook is run."
        display(data, metadata=metadata, raw=True)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The widget, and the picture for those who cannot show one."""
        data, metadata = super()._repr_mimebundle_()
        return {**data, "image/svg+xml": self.svg()}, metadata

    def _framed_picture(self) -> dict[str, str]:
        return {
            "text/html": f'<div data-workbench-picture="{self._picture}">{self.svg()}</div>',
            "text/plain": repr(self),
        }

    def _redraw(self) -> None:
        if self._shown is not None:
            self._shown.update(self._framed_picture(), raw=True)


def _as_addressed(_data: Any, subshell: str | None) -> str | None:
    return subshell
