"""The environment of links holds what its requirements need and nothing else."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest
from plain_environment import closure, plain_environment, run_in


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Distributions made here: one, two and three share a namespace; one needs two, and more."""
    place = tmp_path / "site"

    def install(name: str, requires: list[str], *files: str) -> None:
        info = place / f"{name.replace('-', '_')}-1.0.dist-info"
        info.mkdir(parents=True)
        lines = ["Metadata-Version: 2.1", f"Name: {name}", "Version: 1.0", "Provides-Extra: more"]
        lines += [f"Requires-Dist: {r}" for r in requires]
        (info / "METADATA").write_text("\n".join(lines))
        (info / "RECORD").write_text(
            "".join(f"{f},,\n" for f in (f"{info.name}/METADATA", "../../bin/tool", *files))
        )
        for file in files:
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_text(f"name = {name!r}\n")

    install("made-one", ['made_two[more]; python_version > "3"', 'absent; sys_platform == "dos"'],
            "made/__init__.py", "made/one.py", "made_one.py")  # fmt: skip
    install("made-two", ['made.four; extra == "more"', 'absent; extra == "other"'],
            "made/__init__.py", "made/two.py", "made_two.libs/lib.so")  # fmt: skip
    install("made-three", [], "made/three.py")
    install("made-four", ["made-one"], "made_four/__init__.py", "made_four/inner/part.py")
    install("made-five", ["made-absent>=2"], "made_five.py")
    monkeypatch.syspath_prepend(str(place))
    return place


def test_it_follows_markers_extras_and_rings(installed):
    names = [d.name for d in closure(["made-one"])]
    assert names == ["made-four", "made-one", "made-two"]
    assert [d.name for d in closure(["made_two"])] == ["made-two"]
    with pytest.raises(PackageNotFoundError, match="made-absent"):
        closure(["made-five"])


def test_a_shared_directory_holds_only_what_was_asked_for(installed, tmp_path):
    place = plain_environment(tmp_path / "plain", "made-one")
    assert {p.name for p in place.iterdir()} == {
        "made", "made_four", "made_one.py", "made_two.libs",
        *(f"made_{name}-1.0.dist-info" for name in ("one", "two", "four")),
    }  # fmt: skip
    assert {p.name for p in (place / "made").iterdir()} == {"__init__.py", "one.py", "two.py"}
    said = run_in(
        place,
        "import made.one, made.two, made_four.inner.part\n"
        "print(made.one.name, made.two.name, made_four.inner.part.name, sys.argv[1])",
        "given",
    )
    assert said.split() == ["made-one", "made-two", "made-four", "given"]
    with pytest.raises(AssertionError, match=r"No module named 'made\.three'"):
        run_in(place, "import made.three")


def test_nothing_else_that_is_installed_can_be_imported(tmp_path):
    place = plain_environment(tmp_path / "plain", "numpy", "packaging")
    assert run_in(place, "import numpy, packaging; print(numpy.__file__)").startswith(str(place))
    for name in ("torch", "pytest", "workbench"):
        with pytest.raises(AssertionError, match=f"No module named '{name}'"):
            run_in(place, f"import {name}")
