"""PyTorch, loaded when something of it is first used.

Recipes, settings and stored results are declarations and numbers: whoever only reads them does
not wait the second or two that torch takes. Modules that declare import torch from here; those
that compute import it as usual.

    >>> from workbench.lazily import functional, torch
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any


class _Lazily:
    """Stands for a module; what was once asked for is kept, and costs nothing after that."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(import_module(self._name), attribute)
        setattr(self, attribute, found)
        return found


if TYPE_CHECKING:
    import torch
    from torch.nn import functional
else:
    torch, functional = _Lazily("torch"), _Lazily("torch.nn.functional")
