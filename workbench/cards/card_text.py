"""Text of others inside Markdown: nothing that a user typed may change how a card is read."""

from __future__ import annotations

import re
from collections.abc import Sequence

#: Of Markdown inside a line; what counts at the beginning of one only is never put there.
_MARKUP = re.compile(r"([\\`*_\[\]|<>~$&])")


def plain(text: object) -> str:
    """On one line, with everything escaped that means something inside a line of Markdown."""
    line = " ".join(str(text).split())
    # HTML first: a backslash does not keep a browser from reading a tag.
    return _MARKUP.sub(lambda m: _ENTITY.get(m[1], "\\" + m[1]), line)


_ENTITY = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def fenced(text: str, language: str = "") -> str:
    """A code block whose fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table; the cells are escaped already, the first column stands left."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *lines))
