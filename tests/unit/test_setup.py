"""The installation: its pins, what an import loads, what is in the repository, and `doctor`."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import psutil
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from typer.testing import CliRunner

from workbench import cli, doctor, models
from workbench.doctor import Finding
from workbench.errors import WorkbenchError
from workbench.web import server
from workbench.worlds import proteins

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it where Python has none of its own

ROOT = Path(__file__).parents[2]
TOP_LEVEL = {
    *("README.md", "LICENSE", "Makefile", "pyproject.toml", "requirements.txt"),
    *("notebooks", "workbench", "data", "tests"),
}
LARGEST_FILE = 8 * 2**20


# ------------------------------------------------------------------ pins


def pins() -> list[Requirement]:
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]


def declared() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]["test"]
    return [Requirement(line) for line in [*project["dependencies"], *optional]]


def test_every_pin_is_exact():
    for pin in pins():
        (specifier,) = pin.specifier
        assert specifier.operator == "==" and "*" not in specifier.version, str(pin)


def test_pins_and_dependencies_name_the_same_packages():
    assert {canonicalize_name(p.name) for p in pins()} == {
        canonicalize_name(d.name) for d in declared()
    }


@pytest.mark.parametrize("dependency", declared(), ids=lambda d: d.name)
def test_lower_bounds_admit_the_pins(dependency):
    versions = [next(iter(p.specifier)).version for p in pins() if p.name == dependency.name]
    assert versions
    assert list(dependency.specifier.filter(versions)) == versions


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.14"])
def test_each_python_has_one_pin_a_package(python):
    environment = {"python_version": python}
    names = [p.name for p in pins() if p.marker is None or p.marker.evaluate(environment)]
    assert sorted(names) == sorted({d.name for d in declared()})


@pytest.mark.parametrize("version", ["7.0.1", "7.1.0", "7.3.0"])
def test_broken_ipykernel_is_excluded(version):
    (ipykernel,) = (d for d in declared() if d.name == "ipykernel")
    assert not ipykernel.specifier.contains(version)


# ------------------------------------------------------------------ import, repository


@pytest.mark.parametrize(
    ("first", "given", "expected"),
    [
        ("", {}, "None"),
        ("ipykernel, ", {}, "2000"),
        ("ipykernel, ", {"GOMP_SPINCOUNT": "7"}, "7"),
        ("ipykernel, ", {"OMP_WAIT_POLICY": "ACTIVE"}, "None"),
    ],
)
def test_in_a_notebook_waiting_threads_do_not_spin_unless_the_user_wants_it(first, given, expected):
    kept = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    code = f"import {first}workbench, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=kept | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == expected


def test_import_loads_nothing_heavy():
    heavy = ["torch", "transformers", "datasets", "matplotlib", "IPython", "pandas", "sklearn"]
    code = f"import sys, workbench, workbench.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def tracked() -> list[Path]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    return [Path(name) for name in done.stdout.decode().split("\0") if name]


def test_top_level_is_the_design(tracked):
    top = {path.parts[0] for path in tracked}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL


def test_no_large_files(tracked):
    sizes = {p: (ROOT / p).stat().st_size for p in tracked if (ROOT / p).exists()}
    assert {p: size for p, size in sizes.items() if size > LARGEST_FILE} == {}


def test_no_pickles(tracked):
    pickles = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib", ".npy"}
    assert [p for p in tracked if p.suffix.lower() in pickles] == []


# ------------------------------------------------------------------ make, the suite


@pytest.fixture
def make(tmp_path):
    """Runs `make install` with an interpreter of its own choice on a copy of the Makefile."""
    if shutil.which("make") is None:
        pytest.skip("no make here")
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)

    def run(python: str) -> subprocess.CompletedProcess[str]:
        command = ["make", "--silent", "install", f"PYTHON={python}"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    return run


def test_make_without_python(make, tmp_path):
    done = make("no-such-python")
    assert done.returncode and "make: there is no 'no-such-python' here" in done.stderr
    assert not (tmp_path / ".venv").exists()


def test_make_with_an_old_python(make, tmp_path):
    old = tmp_path / "old"
    # Fails every question about its version but the one for its name.
    old.write_text('#!/bin/sh\n[ "$1" = -V ] && echo Python 3.8.1 && exit 0\nexit 1\n')
    old.chmod(0o755)
    done = make(str(old))
    assert done.returncode and "is Python 3.8.1, and the workbench needs Python 3.10" in done.stderr
    assert not (tmp_path / ".venv").exists()


@pytest.fixture(scope="module")
def suite():
    """tests/all.py as a module."""
    spec = importlib.util.spec_from_file_location("suite", ROOT / "tests" / "all.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["suite"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["suite"]


def test_suite_prints_what_tests_measured(suite, tmp_path, capfd):
    (tmp_path / "test_x.py").write_text(
        "def test_x(record_property):\n    record_property('measured', 'a frame: 1 ms')\n"
    )
    steps = suite.Suite(tmp_path)
    assert steps._pytest("x", str(tmp_path / "test_x.py")) == suite.Outcome(passed=1)
    assert "\na frame: 1 ms\n" in capfd.readouterr().out


def test_suite_counts_what_pytest_reports(suite, tmp_path):
    report = tmp_path / "report.xml"
    report.write_text(
        "<testsuites><testsuite><testcase/><testcase/><testcase><failure/></testcase>"
        "<testcase><error/></testcase><testcase><skipped/></testcase></testsuite></testsuites>"
    )
    assert suite.count(report) == suite.Outcome(passed=2, failed=2, skipped=1)


def test_suite_fails_where_nothing_is_collected(suite, tmp_path):
    (tmp_path / "empty").mkdir()
    steps = suite.Suite(tmp_path)
    assert steps._pytest("empty", str(tmp_path / "empty")) == suite.Outcome(failed=1)


def test_suite_runs_all_steps_and_sums_them_up(suite, tmp_path, capsys):
    steps = suite.Suite(tmp_path)
    steps.steps = {
        "first": ("fails", lambda: suite.Outcome(passed=2, failed=1)),
        "second": ("passes", lambda: suite.Outcome(passed=3, skipped=1)),
    }
    assert not steps.run(["first", "second"])
    assert capsys.readouterr().out.splitlines()[-1] == "5 passed, 1 failed"
    assert steps.run(["second"])


# ------------------------------------------------------------------ doctor


@pytest.fixture
def requirements(monkeypatch, tmp_path):
    """Lets a test write its own requirements.txt."""

    def write(text: str) -> None:
        path = tmp_path / "requirements.txt"
        path.write_text(text)
        monkeypatch.setattr(doctor, "REQUIREMENTS", path)

    return write


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_python_too_old(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))
    finding = only(doctor.check_python())
    assert finding.state == "wrong" and "3.10" in finding.advice


def test_pins_that_hold(requirements):
    requirements(f"# models\npsutil=={psutil.__version__}\nnone==1; python_version < '3.0'\n")
    assert only(doctor.check_requirements()).state == "ok"


def test_other_version_is_a_note(requirements):
    requirements("psutil==0.1\n")
    finding = only(doctor.check_requirements())
    assert (finding.name, finding.state) == ("psutil", "note")
    assert psutil.__version__ in finding.found and "0.1" in finding.found
    assert "requirements.txt" in finding.advice


def test_missing_package_is_wrong_unless_for_tests(requirements):
    requirements("# models\nno-such-package==1.0\n\n# tests\nno-such-test-package==1.0\n")
    found = {finding.name: finding.state for finding in doctor.check_requirements()}
    assert found == {"no-such-package": "wrong", "no-such-test-package": "note"}


def test_local_version_is_its_release(requirements, monkeypatch):
    monkeypatch.setattr(doctor, "installed_version", lambda _: "2.13.0+cpu")
    requirements("torch==2.13.0\n")
    assert only(doctor.check_requirements()).state == "ok"


@pytest.mark.parametrize("version", ["7.0.1", "7.3.0"])
def test_broken_ipykernel_is_wrong(requirements, monkeypatch, version):
    monkeypatch.setattr(doctor, "installed_version", lambda _: version)
    requirements("ipykernel==7.4.0\n")
    assert only(doctor.check_requirements()).state == "wrong"


def test_no_clone(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "REQUIREMENTS", tmp_path / "requirements.txt")
    finding = only(doctor.check_requirements())
    assert finding.state == "wrong" and "clone" in finding.advice


def test_broken_import_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    finding = only(doctor.check_imports())
    assert finding.state == "wrong" and "transformers" in finding.found


def test_check_that_cannot_be_made_is_a_finding(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    finding = only(doctor._run(doctor.check_memory))
    assert (finding.name, finding.state) == ("memory", "wrong") and "psutil" in finding.found


@pytest.mark.parametrize(("free", "state"), [(8e9, "ok"), (1.5e9, "note"), (0.3e9, "wrong")])
def test_free_memory(monkeypatch, free, state):
    memory = namedtuple("Memory", "available")(int(free))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)
    finding = only(doctor.check_memory())
    assert finding.state == state and bool(finding.advice) == (state != "ok")


@pytest.mark.parametrize(("free", "state"), [(8e9, "ok"), (1.5e9, "note"), (0.1e9, "wrong")])
def test_free_disk(monkeypatch, tmp_path, free, state):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "not" / "yet" / "made"))
    usage = namedtuple("Usage", "total used free")(10**12, 0, int(free))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    for check in (doctor.check_disk, doctor.check_cache):
        finding = only(check())
        assert finding.state == state and bool(finding.advice) == (state != "ok")
    assert not (tmp_path / "not").exists()


def test_cache_that_is_a_file(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("WORKBENCH_CACHE", str(tmp_path / "file"))
    finding = only(doctor.check_cache())
    assert finding.state == "wrong" and "WORKBENCH_CACHE" in finding.advice


def test_tables_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(proteins, "TABLES", tmp_path)
    finding = only(doctor.check_world())
    assert finding.state == "wrong" and "data/worlds" in finding.advice


def test_teacher_missing_and_damaged(monkeypatch, tmp_path):
    monkeypatch.setattr(models, "BUILT_IN_TEACHERS", tmp_path)
    teachers = ("biobert", "pmhc", "protgpt2")
    for finding, name in zip(doctor.check_teachers(), teachers, strict=True):
        assert finding.state == "wrong" and f"workbench teach {name}" in finding.advice

    (tmp_path / "protgpt2").mkdir()
    (tmp_path / "protgpt2" / "config.json").write_text("{}")
    (tmp_path / "protgpt2" / "model.safetensors").write_bytes(b"\x10" + bytes(7) + b"{")
    *_, finding = doctor.check_teachers()
    assert finding.state == "wrong" and "damaged" in finding.found


def test_widgets_of_another_environment(monkeypatch, tmp_path):
    # Installed, but the JupyterLab of this prefix would not find the browser's half.
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    finding = only(doctor.check_widgets())
    assert finding.state == "wrong" and "start JupyterLab again" in finding.advice


@pytest.fixture
def foreign_kernel(monkeypatch, tmp_path):
    """A python3 kernel of another environment, where Jupyter looks first."""
    kernel = tmp_path / "share" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    argv = ["/opt/other/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Other", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "share"))
    return argv


def test_foreign_kernel_does_not_win(foreign_kernel):
    with pytest.raises(WorkbenchError, match="/opt/other/bin/python"):
        server.check_kernel()
    # `workbench lab` and `doctor` put this environment first.
    assert only(doctor.check_kernel()).state == "ok"


def test_doctor_leaves_the_environment_alone(monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", "/somewhere")
    doctor.check_kernel()
    assert os.environ["JUPYTER_PATH"] == "/somewhere"


def test_report_is_a_line_a_finding():
    findings = [
        Finding("Python", "ok", "3.12"),
        Finding("GPU", "note", "none"),
        Finding("teacher", "wrong", "missing", "train it"),
    ]
    assert doctor.report(findings).splitlines() == [
        "✓ Python   3.12",
        "• GPU      none",
        "✗ teacher  missing → train it",
    ]
    assert doctor.report([]) == ""


def test_command_prints_one_json_object_and_fails_if_anything_is_wrong(monkeypatch, capsys):
    findings = [Finding("Python", "ok", "3.12"), Finding("teacher", "wrong", "missing", "train it")]
    monkeypatch.setattr(doctor, "examine", lambda: findings)
    with pytest.raises(SystemExit) as left:
        cli.main(["doctor", "--json"])
    printed = capsys.readouterr()
    assert left.value.code == 1
    assert json.loads(printed.out)["checks"][1] == findings[1].to_json()
    assert printed.err.count("\n") == 1


def test_lab_without_notebooks_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(server, "NOTEBOOKS", tmp_path / "notebooks")
    with pytest.raises(WorkbenchError, match="there is no directory of notebooks"):
        server.jupyter_lab(8888, False)
    (tmp_path / "notebooks").mkdir()
    with pytest.raises(WorkbenchError, match=r"00_start_here\.ipynb is missing"):
        server.jupyter_lab(8888, False)


def test_lab_without_jupyterlab_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setattr(server, "find_spec", lambda _: None)
    with pytest.raises(WorkbenchError, match="JupyterLab is not installed"):
        server.jupyter_lab(8888, False, tmp_path)


def test_lab_refuses_a_port_that_is_none():
    done = CliRunner().invoke(cli.app, ["lab", "--port", "70000", "--no-open"])
    assert done.exit_code != 0 and "70000" in str(done.exception)
