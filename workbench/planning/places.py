"""Where a teacher and data would come from, and whether they are here; the network is not asked."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from workbench import models
from workbench.errors import WorkbenchError
from workbench.records import hub, sources

Where = Literal["built in", "directory", "file", "world", "hub cache", "hub"]


@dataclass(frozen=True)
class Place:
    """Where something is.

    Attributes:
        source: as it was asked for.
        where: "hub" alone means that it would have to be downloaded.
        path: of the directory or file; None where it is not here, or in no file.
        bytes: of the weights or the file that are here; None if they are not, or not known.
    """

    source: str
    where: Where
    path: Path | None = None
    bytes: int | None = None

    @property
    def here(self) -> bool:
        """Whether nothing has to be downloaded."""
        return self.where != "hub"

    def to_json(self) -> dict[str, Any]:
        """For ``--json``."""
        path = None if self.path is None else str(self.path)
        return {**asdict(self), "path": path, "here": self.here}


def of_model(source: str) -> Place:
    """Where a model is: built in, in a directory, in the hub's local cache, or on the hub.

    Raises:
        WorkbenchError: if it is none of these.
    """
    found = models.resolve_model(source)
    if isinstance(found, Path):
        if not found.is_dir():
            raise WorkbenchError(
                f"{found} is a file; expected a model directory with config.json and *.safetensors"
            )
        built_in = models.BUILT_IN_TEACHERS.parent in found.parents
        return Place(source, "built in" if built_in else "directory", found, _weights(found))
    snapshot = _snapshot(found)
    if snapshot is None:
        return Place(source, "hub")
    size = _weights(snapshot)
    # A configuration that was looked at once is here without its weights.
    return Place(source, "hub" if size is None else "hub cache", snapshot, size)


def of_data(source: str) -> Place:
    """Where data are: a world, a file, in the hub's local cache, or on the hub.

    Raises:
        WorkbenchError: if it is none of these.
    """
    if source.startswith("world:"):
        return Place(source, "world")
    path = Path(source).expanduser()
    if path.is_file():
        return Place(source, "file", path, path.stat().st_size)
    if path.is_dir():
        raise WorkbenchError(f"{source} is a directory; expected a file")
    if not sources.is_hub_id(source):
        raise WorkbenchError(
            f"there is no file {source}; expected a file, a world such as world:proteins, or an "
            "id on the hub such as nferruz/UR50_2021_04"
        )
    for directory in _data_caches(hub.name(source)):
        if directory.is_dir():
            return Place(source, "hub cache", directory, _tree(directory))
    return Place(source, "hub")


def _snapshot(source: str) -> Path | None:
    """A model's directory in the hub's cache, of its revision or main; None without one."""
    repository, revision = hub.split(source)
    commit = hub.cached_commit(repository, revision)
    found = None if commit is None else hub.snapshot(repository, commit, "model")
    return found if found is not None and (found / "config.json").exists() else None


def _data_caches(repository: str) -> list[Path]:
    """Where hub client and `datasets` keep a data set."""
    from datasets import config
    from datasets.naming import camelcase_to_snakecase

    owner, name = repository.split("/")
    prepared = f"{owner}___{camelcase_to_snakecase(name)}"
    return [hub.folder(repository, "dataset"), Path(config.HF_DATASETS_CACHE) / prepared]


def _weights(directory: Path) -> int | None:
    sizes = [p.stat().st_size for p in directory.glob("*.safetensors")]
    return sum(sizes) if sizes else None


def _tree(directory: Path) -> int:
    return sum(
        os.path.getsize(Path(folder) / name)
        for folder, _, names in os.walk(directory)
        for name in names
        if not (Path(folder) / name).is_symlink()
    )
