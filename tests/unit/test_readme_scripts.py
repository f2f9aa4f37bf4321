"""The scripts that the README gives to a batch system have no mistake that can be seen."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def batch_scripts() -> list[str]:
    blocks = re.findall(
        r"^```bash\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    return [b for b in blocks if b.startswith("#!/bin/bash\n") and "\n#SBATCH " in b]


def check(script: str) -> subprocess.CompletedProcess[str]:
    beside = Path(sys.executable).with_name("shellcheck")
    program = str(beside) if beside.exists() else shutil.which("shellcheck")
    assert program, "shellcheck is not installed; it comes with requirements.txt"
    return subprocess.run(
        [program, "--shell=bash", "-"], input=script, capture_output=True, text=True
    )


def test_the_readme_has_a_slurm_script_and_shellcheck_finds_nothing_in_it():
    scripts = batch_scripts()
    assert scripts
    for script in scripts:
        found = check(script)
        assert found.returncode == 0, found.stdout
        assert "workbench" in script and "requeue" in script and "resume" in script
    # What it is there for: a name without quotes is found.
    assert "SC2086" in check(scripts[0].replace('"$run/config.json"', "$run/config.json").replace(
        'rm -f "$began"', "rm -f $began")).stdout  # fmt: skip
