"""Ids on the Hugging Face hub: with a revision, resolved to a commit, and without network.

``ORG/NAME`` is what its branch ``main`` holds today, ``ORG/NAME@REVISION`` a commit, branch or tag.
The hub is asked once which commit that is; where it cannot be reached, the hub client's own cache
answers, or one line says what to do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from workbench.errors import WorkbenchError, first_line

MAIN = "main"
#: Seconds until the hub counts as out of reach.
PATIENCE = 10.0
_ID = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w][\w./-]*))?")

Kind = Literal["model", "dataset"]


@dataclass(frozen=True)
class Located:
    """What a source on the hub stands for now.

    Attributes:
        name: id without a revision.
        commit: hash.
        files: names in it; None where the hub could not be asked.
        snapshot: directory of the hub's cache that holds the commit; None where there is none.
    """

    name: str
    commit: str
    files: frozenset[str] | None
    snapshot: Path | None

    @property
    def reached(self) -> bool:
        """Whether the hub was asked."""
        return self.files is not None


def split(source: str) -> tuple[str, str] | None:
    """Id and revision of a source on the hub; None for anything that does not look like one.

    Whether there is a file or directory of that name, the caller has to ask first.
    """
    match = _ID.fullmatch(source)
    if match is None or source.startswith("."):
        return None
    return match[1], match[2] or MAIN


def name(source: str) -> str:
    """A source without its revision; what is no id stays as it is."""
    found = split(source)
    return source if found is None else found[0]


def pinned(source: str, revision: str) -> str:
    """An id at a revision; `main`, or none, stays unsaid."""
    return source if revision in ("", MAIN) else f"{source}@{revision}"


@lru_cache(maxsize=64)
def locate(source: str, kind: Kind = "model") -> Located:
    """Which commit a source is; asked once in a process.

    Args:
        source: ``ORG/NAME`` or ``ORG/NAME@REVISION``.
        kind: of repository.

    Raises:
        WorkbenchError: if the hub does not know it, or cannot be reached and its cache has none.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    found = split(source)
    if found is None:
        raise ValueError(f"{source!r} is not an id on the hub")
    repository, revision = found
    try:
        info = HfApi().repo_info(repository, revision=revision, repo_type=kind, timeout=PATIENCE)
    except RepositoryNotFoundError as error:
        raise WorkbenchError(
            f"{_cannot(source, kind)}: there is none of that name, or it is private or gated; "
            "look for it on huggingface.co, or log in with hf auth login"
        ) from error
    except RevisionNotFoundError as error:
        raise WorkbenchError(
            f"{_cannot(source, kind)}: it has no revision {revision}; expected a commit, a branch "
            "or a tag of it"
        ) from error
    except Exception as error:
        # The client raises a dozen types for "no network", "offline mode" and "out of order".
        commit = cached_commit(repository, revision, kind)
        if commit is None:
            raise WorkbenchError(_unreachable(source, kind, error)) from error
        return Located(repository, commit, None, snapshot(repository, commit, kind))
    files = frozenset(file.rfilename for file in info.siblings or ())
    return Located(repository, info.sha, files, snapshot(repository, info.sha, kind))


def weights_revision(at: Located) -> str:
    """The revision to load weights from: the commit, if it has safetensors.

    The hub keeps a converted copy of what `main` holds in another format, which `transformers`
    finds by the name of the branch only.

    Raises:
        WorkbenchError: if the commit has no safetensors and is not what `main` holds.
    """
    if at.files is None or any(file.endswith(".safetensors") for file in at.files):
        return at.commit
    if locate(at.name).commit == at.commit:
        return MAIN
    raise WorkbenchError(
        f"the model {at.name} has no safetensors at commit {at.commit[:12]}, and pickles are never "
        f"loaded; give {at.name}@main, or a pull request with converted weights as "
        f"{at.name}@refs/pr/NUMBER"
    )


def cached_commit(repository: str, revision: str, kind: Kind = "model") -> str | None:
    """What the hub client's cache knows a revision as; None if it holds nothing of it."""
    place = folder(repository, kind)
    if (place / "snapshots" / revision).is_dir():
        return revision
    reference = place / "refs" / revision
    return reference.read_text().strip() if reference.is_file() else None


def holds_weights(repository: str, commit: str) -> bool:
    """Whether the hub client's cache holds safetensors of a commit."""
    place = snapshot(repository, commit, "model")
    return place is not None and any(place.glob("*.safetensors"))


def snapshot(repository: str, commit: str, kind: Kind) -> Path | None:
    """Directory of the hub client's cache that holds a commit; None where there is none."""
    place = folder(repository, kind) / "snapshots" / commit
    return place if place.is_dir() else None


def folder(repository: str, kind: Kind) -> Path:
    """Where the hub client's cache keeps a repository, if it does."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE) / f"{kind}s--{repository.replace('/', '--')}"


def _cannot(source: str, kind: Kind) -> str:
    return f"cannot load the {'data set' if kind == 'dataset' else 'model'} {source} from the hub"


def _unreachable(source: str, kind: Kind, error: Exception) -> str:
    reason = first_line(error)
    repository, revision = split(source)
    command = f"hf download {repository}"
    if revision != MAIN:
        command += f" --revision {revision}"
    if kind == "dataset":
        return (
            f"{_cannot(source, kind)}: it cannot be reached and its cache has none ({reason}); "
            "without network, give a file with --data FILE, or leave --data and --scale away to "
            "use the built-in world"
        )
    return (
        f"{_cannot(source, kind)}: it cannot be reached and its cache has none ({reason}); without "
        f"network, download it once where there is one ({command}) and give the directory with "
        "--teacher DIR, or leave --teacher and --scale away to use the built-in teacher"
    )
