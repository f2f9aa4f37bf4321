"""Whether this installation works, and what to do where it does not.

Every check looks at one thing and says what it found. ``wrong`` stops the course from
working, ``note`` is worth knowing, ``ok`` is fine.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from workbench import storage
from workbench.errors import WorkbenchError

if TYPE_CHECKING:
    from packaging.requirements import Requirement

State = Literal["ok", "note", "wrong"]

OLDEST_PYTHON = (3, 10)
REQUIREMENTS = Path(__file__).parents[1] / "requirements.txt"
#: ipykernel 7.0 fails where a thread updates a widget; before 7.4 a raw send on the shell's
#: socket could lose the message that came at the same moment (ipython/ipykernel#1529).
BROKEN_KERNELS = [["7", "0"], ["7", "1"], ["7", "2"], ["7", "3"]]
INSTALL = "run: python -m pip install -r requirements.txt -e ."
#: Below the first a run may not fit, below the second hardly anything does; bytes.
LOW_MEMORY, NO_MEMORY = 2e9, 0.75e9
LOW_DISK, NO_DISK = 2e9, 0.5e9

_MARKS = {"ok": "✓", "note": "•", "wrong": "✗"}


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        name: what was looked at.
        state: "ok", "note" (worth knowing) or "wrong" (has to be put right).
        found: what is there.
        advice: what to do; empty if nothing.
    """

    name: str
    state: State
    found: str
    advice: str = ""

    def to_json(self) -> dict[str, str]:
        """The four fields, for ``workbench doctor --json``."""
        return asdict(self)


def examine() -> list[Finding]:
    """Run every check, the basic ones first; takes some seconds, as torch is loaded."""
    checks: list[Callable[[], list[Finding]]] = [
        check_python,
        check_requirements,
        check_imports,
        check_kernel,
        check_widgets,
        check_device,
        check_memory,
        check_disk,
        check_cache,
        check_world,
        check_teachers,
    ]
    return [finding for check in checks for finding in _run(check)]


def _run(check: Callable[[], list[Finding]]) -> list[Finding]:
    try:
        return check()
    except (ImportError, OSError, ValueError, KeyError) as error:
        # A check that cannot be made, as a package is missing or broken, has found something.
        name = check.__name__.removeprefix("check_")
        return [Finding(name, "wrong", f"cannot be checked: {_line(error)}", INSTALL)]


def report(findings: list[Finding]) -> str:
    """One line a finding: ``✓`` fine, ``•`` worth knowing, ``✗`` wrong; advice after an arrow."""
    width = max((len(f.name) for f in findings), default=0)
    return "\n".join(
        f"{_MARKS[f.state]} {f.name:<{width}}  {f.found}" + (f" → {f.advice}" if f.advice else "")
        for f in findings
    )


def check_python() -> list[Finding]:
    """The interpreter is 3.10 or newer."""
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] >= OLDEST_PYTHON:
        return [Finding("Python", "ok", found)]
    advice = "install Python 3.10 or newer and make the environment again"
    return [Finding("Python", "wrong", found, advice)]


def check_requirements() -> list[Finding]:
    """Every pinned package is installed, in the version that this project is tested with."""
    if not REQUIREMENTS.exists():
        advice = "install from a full clone: pip install -r requirements.txt -e ."
        return [Finding("packages", "wrong", f"there is no {REQUIREMENTS}", advice)]
    checked = [_check_requirement(pin, optional) for pin, optional in pins()]
    odd = [finding for finding in checked if finding.state != "ok"]
    if odd:
        return odd
    return [Finding("packages", "ok", f"all {len(checked)} in the pinned versions")]


def pins() -> Iterator[tuple[Requirement, bool]]:
    """The requirements that hold for this Python, each with whether only the tests need it."""
    from packaging.requirements import Requirement

    heading = ""
    for line in REQUIREMENTS.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").strip()
        elif line.strip():
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate():
                yield pin, heading == "tests"


def _check_requirement(pin: Requirement, only_tests: bool) -> Finding:
    installed = installed_version(pin.name)
    if installed is None:
        if only_tests:
            return Finding(pin.name, "note", "missing; only the tests need it", INSTALL)
        return Finding(pin.name, "wrong", "missing", INSTALL)
    if pin.name == "ipykernel" and installed.split(".")[:2] in BROKEN_KERNELS:
        found = f"{installed}, in which widgets fail or a message to the kernel is lost"
        return Finding(pin.name, "wrong", found, INSTALL)
    # A local version, such as torch's 2.13.0+cpu, is the release that is pinned.
    if not pin.specifier.contains(installed, prereleases=True):
        found = f"{installed}; tested with {str(pin.specifier).lstrip('=')}"
        return Finding(pin.name, "note", found, f"if something fails, {INSTALL}")
    return Finding(pin.name, "ok", installed)


def installed_version(package: str) -> str | None:
    """Version of an installed package, None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def check_imports() -> list[Finding]:
    """torch and transformers load: a foreign torchvision or a broken library shows here."""
    try:
        import torch
        from transformers import GPT2LMHeadModel
    except Exception as error:
        # Whatever they raise (ImportError, OSError, RuntimeError) is what was looked for.
        found = f"do not load: {type(error).__name__}: {_line(error)}"
        advice = f"in a new environment, {INSTALL}"
        return [Finding("torch and transformers", "wrong", found, advice)]
    found = f"torch {torch.__version__} and {GPT2LMHeadModel.__name__} load"
    return [Finding("torch and transformers", "ok", found)]


def check_kernel() -> list[Finding]:
    """Notebooks run on this interpreter."""
    from workbench.web import server

    environment = dict(os.environ)
    try:
        server.prefer_this_environment(os.environ)
        command = server.check_kernel()
    except WorkbenchError as error:
        return [Finding("kernel", "wrong", str(error), INSTALL)]
    finally:
        os.environ.clear()
        os.environ.update(environment)
    return [Finding("kernel", "ok", f"{server.KERNEL}: {' '.join(command[:3])}, this environment")]


def check_widgets() -> list[Finding]:
    """Sliders need ipywidgets for the kernel and jupyterlab_widgets beside JupyterLab."""
    needed = ["jupyterlab", "ipywidgets", "jupyterlab_widgets"]
    missing = [package for package in needed if installed_version(package) is None]
    advice = f"{INSTALL} and start JupyterLab again, not only the kernel"
    if missing:
        return [Finding("widgets", "wrong", f"without {', '.join(missing)}", advice)]
    # JupyterLab reads the browser's half of the widgets from its environment, at its start.
    extension = Path("share", "jupyter", "labextensions", "@jupyter-widgets", "jupyterlab-manager")
    if not (Path(sys.prefix) / extension / "package.json").exists():
        return [Finding("widgets", "wrong", f"no {extension} under {sys.prefix}", advice)]
    found = " · ".join(f"{package} {installed_version(package)}" for package in needed)
    return [Finding("widgets", "ok", found)]


def check_device() -> list[Finding]:
    """How many cores torch uses, and whether there is an accelerator."""
    import torch

    threads, cores = torch.get_num_threads(), usable_cores()
    found = f"torch uses {threads} of {cores} cores"
    findings = [Finding("cores", "ok", found)]
    if threads > cores:
        advice = f"set OMP_NUM_THREADS={cores}: threads that wait for each other are slower"
        findings = [Finding("cores", "note", found, advice)]
    if torch.cuda.is_available():
        found = f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}"
        return [*findings, Finding("GPU", "ok", found)]
    found = "none that torch can use; the built-in models need none"
    return [*findings, Finding("GPU", "note", found)]


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_memory() -> list[Finding]:
    """Enough memory is free for a run with its defaults (1.5 GB at most)."""
    import psutil

    free = psutil.virtual_memory().available
    state = _state(free, LOW_MEMORY, NO_MEMORY)
    advice = "" if state == "ok" else "close other programs and kernels; a run takes up to 1.5 GB"
    return [Finding("memory", state, f"{_gigabytes(free)} free", advice)]


def check_disk() -> list[Finding]:
    """Space for runs in the working directory."""
    return [_check_place("disk", Path.cwd(), "work in another directory")]


def check_cache() -> list[Finding]:
    """A cache directory that can be written to, with space for teachers' answers."""
    from workbench.teacher_cache import cache_directory

    return [_check_place("cache", cache_directory().absolute(), "set WORKBENCH_CACHE to another")]


def _check_place(name: str, directory: Path, elsewhere: str) -> Finding:
    # A directory that is made on its first use stands where its nearest parent does.
    existing = storage.existing(directory)
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding(name, "wrong", f"{existing} is not a directory to write to", elsewhere)
    free = storage.free_bytes(existing)
    state = _state(free, LOW_DISK, NO_DISK)
    advice = "" if state == "ok" else f"free some space, or {elsewhere}"
    return Finding(name, state, f"{_gigabytes(free)} free for {directory}", advice)


def check_world() -> list[Finding]:
    """The tables of the built-in world are there and can be read."""
    from workbench.worlds import proteins

    try:
        families = proteins.built_in_profiles()
    except (OSError, ValueError, KeyError) as error:
        advice = "restore the tables: git checkout -- data/worlds"
        return [Finding("protein world", "wrong", f"its tables fail: {_line(error)}", advice)]
    return [Finding("protein world", "ok", f"{len(families)} families")]


def check_teachers() -> list[Finding]:
    """Every built-in teacher's weights are there and whole."""
    from workbench import models, recipes

    named = {recipes.get(name).scale("classroom").teacher_source for name in recipes.names()}
    return [_check_teacher(name, models.BUILT_IN_TEACHERS / name) for name in sorted(named)]


def _check_teacher(name: str, directory: Path) -> Finding:
    from safetensors import SafetensorError, safe_open

    label, weights = f"teacher {name}", directory / "model.safetensors"
    advice = f"restore it: git checkout -- data/teachers, or train it: workbench teach {name}"
    missing = [f for f in ("config.json", weights.name) if not (directory / f).exists()]
    if missing:
        return Finding(label, "wrong", f"{directory} is without {', '.join(missing)}", advice)
    try:
        with safe_open(weights, "np") as file:
            tensors = len(list(file.keys()))
    except (SafetensorError, OSError) as error:
        return Finding(label, "wrong", f"{weights} is damaged: {_line(error)}", advice)
    return Finding(label, "ok", f"{tensors} tensors, {weights.stat().st_size / 1e6:.1f} MB")


def _state(amount: float, low: float, too_low: float) -> State:
    if amount < too_low:
        return "wrong"
    return "note" if amount < low else "ok"


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _gigabytes(amount: float) -> str:
    return f"{amount / 1e9:.1f} GB"
