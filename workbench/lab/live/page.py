"""What a visitor of `workbench show` sees: one panel, or one sentence that says why there is none.

The page's only cell calls `show`. A visitor may ask for other settings in the
address, as in ``/?link=protgpt2-tiny;T=4;alpha=0.5``.
"""

from __future__ import annotations

import html
import os
from pathlib import Path
from urllib.parse import parse_qs

from IPython.display import HTML, display

from workbench.errors import UsageError, WorkbenchError
from workbench.lab.live import knobs
from workbench.lab.live.lab import Lab

LONGEST_LINK = 500  # characters; it is quoted in a sentence where it is wrong


def show(text: str) -> None:
    """Display the panel, or the one that the visitor's address asks for.

    Args:
        text: a recipe's name, a permalink, or the absolute path of a run directory.
    """
    try:
        link = asked(os.environ.get("QUERY_STRING", ""))
        if link is not None:
            knobs.read(link)  # raises for anything but a permalink: visitors open no directory
        shown = panel_for(text if link is None else link)
    except WorkbenchError as error:
        shown = HTML(f'<p role="alert" class="workbench-alert">{html.escape(str(error))}</p>')
    display(shown)


def panel_for(text: str) -> Lab:
    """The panel for a recipe's name, a permalink or the absolute path of a run directory.

    Raises:
        WorkbenchError: if there is no such recipe or run, or a setting is out of range.
    """
    if Path(text).is_absolute():
        return Lab.follow(text)
    # Whoever opens the page sits at another desk: no file of this machine is for them.
    return Lab(text, private=True)


def asked(query: str) -> str | None:
    """The permalink in a query string, None if there is none.

    Raises:
        UsageError: if there is more than one, or one longer than `LONGEST_LINK`.
    """
    links = parse_qs(query, keep_blank_values=True).get("link", [])
    if len(links) > 1:
        raise UsageError("the address has more than one link")
    if links and len(links[0]) > LONGEST_LINK:
        raise UsageError(
            f"the link has {len(links[0])} characters; expected at most {LONGEST_LINK}"
        )
    return links[0] if links else None
