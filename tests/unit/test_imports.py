"""Every name that one file takes from another is there, in those imported late as well."""

from __future__ import annotations

import ast
import importlib
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_name_taken_from_the_workbench_is_there():
    missing = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.module}.{name.name}"
        for path in [*ROOT.glob("workbench/**/*.py"), *ROOT.glob("tests/**/*.py")]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "workbench"
        for name in node.names
        if not there(node.module, name.name)
    ]
    assert missing == []


def there(module: str, name: str) -> bool:
    loaded = importlib.import_module(module)
    if hasattr(loaded, name):
        return True
    return hasattr(loaded, "__path__") and find_spec(f"{module}.{name}") is not None


def test_a_name_that_is_not_there_is_seen():
    assert there("workbench", "bench") and there("workbench.amounts", "in_bytes")
    assert not there("workbench", "benches") and not there("workbench.amounts", "in_bits")
