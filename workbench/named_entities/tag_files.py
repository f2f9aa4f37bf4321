"""Sentences whose words are tagged with named entities, and the files they come in.

The tags are BIO: ``B-Disease`` begins an entity of the type Disease, ``I-Disease`` goes on with
it, ``O`` is outside of any. A file has a word a line, a tab and the word's tag; a blank line ends
a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from workbench import corpora
from workbench.errors import WorkbenchError

OUTSIDE = "O"
#: The line with which CoNLL's own files begin a document; it is no word of a sentence.
DOCUMENT = "-DOCSTART-"
_TAG = re.compile(r"O|[BI]-\S+")
_SHAPE = "a word and its tag with one tab between, and a blank line after each sentence"


class TaggedWords(Protocol):
    """What every function of named entities accepts, wherever the sentences come from."""

    @property
    def words(self) -> Sequence[str]:
        """The words of one sentence."""
        ...

    @property
    def tags(self) -> Sequence[str]:
        """The tag of each word."""
        ...


@dataclass(frozen=True)
class Tagged:
    """One sentence.

    Attributes:
        words: its words, punctuation marks among them.
        tags: the tag of each word, such as ``B-Disease``, ``I-Disease`` or ``O``.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]


def read_tags(path: str | Path) -> list[Tagged]:
    """Sentences of a file with a word a line, a tab and its tag.

    An entity may begin with ``I-``, as CoNLL allows. Lines that begin with ``-DOCSTART-`` are
    left out; Windows line ends, a byte-order mark and several blank lines are fine.

    Raises:
        WorkbenchError: if the file is missing, a directory, empty, not UTF-8 text, has a line
            with other than two columns or with a tag that is not BIO, or names no entity.
    """
    place = Path(path).expanduser()
    if not place.exists():
        raise WorkbenchError(f"there is no file {path}; expected one with {_SHAPE}")
    if place.is_dir():
        raise WorkbenchError(f"{path} is a directory; expected a file with {_SHAPE}")
    corpora.check_text(place)
    sentences: list[Tagged] = []
    words: list[str] = []
    tags: list[str] = []
    # Not str.splitlines: it would also break lines at separators that stand inside words.
    with place.open(encoding="utf-8-sig") as file:
        for number, raw in enumerate(file, start=1):
            line = raw.rstrip("\n")
            if not line.strip() or line.startswith(DOCUMENT):
                if words:
                    sentences.append(Tagged(tuple(words), tuple(tags)))
                    words, tags = [], []
                continue
            word, tag = _columns(line, f"{path}, line {number},")
            words.append(word)
            tags.append(tag)
    if words:
        sentences.append(Tagged(tuple(words), tuple(tags)))
    if not sentences:
        raise WorkbenchError(f"{path} is empty; expected {_SHAPE}")
    check_entities(sentences, str(path))
    return sentences


def _columns(line: str, where: str) -> tuple[str, str]:
    columns = line.split("\t")
    if len(columns) != 2:
        count = "1 column" if len(columns) == 1 else f"{len(columns)} columns"
        raise WorkbenchError(f"{where} has {count}; expected {_SHAPE}: mend or remove that line")
    word, tag = columns[0], columns[1].strip()
    if not word:
        raise WorkbenchError(f"{where} has no word before its tab; expected {_SHAPE}")
    if not _TAG.fullmatch(tag):
        raise WorkbenchError(
            f"{where} has the tag {tag!r}; expected {OUTSIDE}, or B- or I- and a type, such as "
            "B-Disease: rewrite other schemes in BIO"
        )
    return word, tag


def check_entities(sentences: Sequence[TaggedWords], name: str) -> None:
    """Raise WorkbenchError unless every word has a tag, all tags are BIO, and one is an entity's.

    Args:
        sentences: from any source.
        name: what to call them in the message.
    """
    for number, sentence in enumerate(sentences, start=1):
        if len(sentence.words) != len(sentence.tags):
            raise WorkbenchError(
                f"sentence {number} of {name} has {len(sentence.words)} words and "
                f"{len(sentence.tags)} tags; expected a tag for each word"
            )
        for tag in sentence.tags:
            if not _TAG.fullmatch(tag):
                raise WorkbenchError(
                    f"sentence {number} of {name} has the tag {tag!r}; expected {OUTSIDE}, or B- "
                    "or I- and a type, such as B-Disease"
                )
    if all(tag == OUTSIDE for sentence in sentences for tag in sentence.tags):
        raise WorkbenchError(
            f"no entity in {name} ({len(sentences)} sentences, all tags {OUTSIDE}); expected some "
            "words tagged B-…: nothing can be learned or judged without"
        )


def is_tag(text: str) -> bool:
    """Whether a text is a BIO tag."""
    return _TAG.fullmatch(text) is not None
