"""An environment with a few packages alone, made of links to those that are installed.

Whether something works without the rest, without torch for one, shows only where the rest cannot
be imported. A virtual environment of its own would need the network and a minute; a directory of
links to what some requirements need, and nothing else, needs neither.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def plain_environment(directory: Path, *requirements: str) -> Path:
    """Link everything that some requirements need, and nothing else, into a directory.

    Args:
        directory: to make; it becomes an entry of ``sys.path``.
        requirements: as pip reads them, such as ``onnxruntime`` or ``torch; python_version > "3"``.

    Returns:
        The directory.

    Raises:
        PackageNotFoundError: if something that is needed is not installed.
        ValueError: if an installed distribution does not say which files are its own.
    """
    directory.mkdir(parents=True)
    shared = _shared_names()
    for found in closure(requirements):
        if found.files is None:
            raise ValueError(f"{found.name} does not list its files")
        paths = [PurePosixPath(file) for file in found.files]
        # Commands lie beside the packages (../../bin), and compiled files come of themselves.
        own = [p for p in paths if ".." not in p.parts and "__pycache__" not in p.parts]
        for name in sorted({p.parts[0] for p in own}):
            if name in shared:
                _link_files(found, directory, [p for p in own if p.parts[0] == name])
            else:
                (directory / name).symlink_to(Path(found.locate_file(name)).resolve())
    return directory


def closure(requirements: Iterable[str]) -> list[Distribution]:
    """The installed distributions that some requirements need, each once, by name."""
    found: dict[str, Distribution] = {}
    asked: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in found:
            found[name] = distribution(name)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in asked:
                asked.add((name, wanted))
                waiting += [(Requirement(text), wanted) for text in found[name].requires or ()]
    return [found[name] for name in sorted(found)]


def run_in(environment: Path, code: str, *arguments: str, timeout: float = 300) -> str:
    """What a program prints that sees the standard library and the environment alone.

    Args:
        environment: of `plain_environment`.
        code: of the program.
        arguments: its ``sys.argv[1:]``.
        timeout: seconds that it may take.

    Raises:
        AssertionError: if it fails, with what it said.
    """
    # -I: no PYTHONPATH, no user's packages, not the directory it is started in; -S: no
    # site-packages.
    reach = f"import sys; sys.path.append({str(environment)!r})\n"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", reach + code, *arguments],
        capture_output=True, text=True, timeout=timeout, cwd=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def _shared_names() -> set[str]:
    """Directories that several installed distributions put files in, such as ``nvidia``."""
    owners: Counter[str] = Counter()
    for found in distributions():
        owners.update({PurePosixPath(file).parts[0] for file in found.files or ()})
    return {name for name, count in owners.items() if count > 1}


def _link_files(found: Distribution, directory: Path, files: Sequence[PurePosixPath]) -> None:
    """Link files one by one, so that nobody else's come along."""
    for file in files:
        place = directory / file
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists():  # several bring the same empty __init__.py
            place.symlink_to(Path(found.locate_file(file)).resolve())
