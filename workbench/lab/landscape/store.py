"""Stores a sweep for everybody: ``python -m workbench.lab.landscape.store DIRECTORY NAME``.

The file ``data/sweeps/NAME.json`` is what `workbench.Landscape` shows before anything is trained;
the command of the sweep, the machine and the date stand in it. The stored ones were made by

    workbench sweep protgpt2-tiny --temperature 1 2 4 10 --alpha 0 0.1 0.5 1 \\
        --variant corrected as-published as-coded --size 1x24 2x48 --seeds 2 --steps 300 --dir A
    workbench sweep distilbert-pmhc --temperature 1 2 4 10 --alpha 0 0.1 0.5 1 \\
        --variant corrected as-coded --seeds 2 --steps 200 --dir B
    workbench sweep compactbiobert --temperature 1 2 4 10 --variant corrected as-coded \\
        --alpha 0 0.1 0.16666666666666666 0.5 1 --seeds 2 --steps 150 --dir C
    python -m workbench.lab.landscape.store A protgpt2-tiny

and the like for B and C, which takes an hour on two cores. More temperatures, alphas, variants and
seeds under the same directory add to a sweep; other sizes and steps need one of their own.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from workbench import storage
from workbench.errors import UsageError, WorkbenchError
from workbench.lab.landscape.gathering import gather

PLACE = Path(__file__).parents[3] / "data" / "sweeps"
#: Every copy of the repository carries these files, and every page that shows one.
MOST_BYTES = 1_000_000


def store(directory: str | Path, name: str, within: Path = PLACE) -> Path:
    """Write what a landscape shows of a sweep into one file.

    Args:
        directory: of the sweep.
        name: of the file, without its ending; the recipe's for the one that is shown by default.
        within: where it goes.

    Returns:
        The file.

    Raises:
        UsageError: if the name is none of a file.
        WorkbenchError: if there is no sweep, or its file would be too large.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise UsageError(
            f"the name is {name!r}; expected letters, digits, dots and dashes, such as "
            "protgpt2-tiny"
        )
    content = gather(directory)
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
    if len(text.encode()) > MOST_BYTES:
        raise WorkbenchError(
            f"{directory} would fill {len(text.encode()) / 1e6:.1f} MB; expected at most "
            f"{MOST_BYTES / 1e6:.0f} MB: sweep fewer points, or one size a file"
        )
    storage.make_directory(within, "the stored sweeps")
    path = within / f"{name}.json"
    storage.write_bytes(path, text.encode())
    return path


def main(arguments: list[str]) -> int:
    """The command; its exit status."""
    if len(arguments) != 2:
        print("usage: python -m workbench.lab.landscape.store DIRECTORY NAME", file=sys.stderr)
        return 2
    try:
        print(store(*arguments))
    except WorkbenchError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
