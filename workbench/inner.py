"""Inside the models: hidden states and attention of a student against those of its teacher.

A term (`workbench.terms`) names, as data, which teacher layer each student layer is held
against (a layer map, as `layer_maps` reads it) and how they are compared. What has to be
learned for that, projections between different widths, belongs to the training and not to the
student: a `Matcher` holds it.

Padding never counts. Every mean is over real tokens, or over pairs of real tokens of one row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from workbench import layer_maps, losses
from workbench.errors import UsageError, WorkbenchError
from workbench.initialisation import layer_list
from workbench.terms import AttentionOperand, AttentionTerm, HiddenTerm

if TYPE_CHECKING:
    from workbench.objective import Counts, Objective

#: Pairs of layers (student's, teacher's); of hidden states 0 is the output of the embeddings.
Pairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Seen:
    """What a model held inside while it read a batch.

    Attributes:
        real: ``[batch, length]``, True where a token is not padding.
        hidden: output of the embeddings and of each layer, ``[batch, length, width]`` each;
            empty if it was not asked for.
        attention: of each layer, ``[batch, heads, length, length]``: query, then key; empty if
            it was not asked for.
    """

    real: Tensor
    hidden: tuple[Tensor, ...] = ()
    attention: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Looks:
    """What must be seen inside for an objective.

    Attributes:
        hidden: hidden states of all layers.
        attention: attention of all layers, and before or after softmax.
    """

    hidden: bool = False
    attention: AttentionOperand | None = None

    def __bool__(self) -> bool:
        return self.hidden or self.attention is not None

    @property
    def needs_maps(self) -> bool:
        """Whether the model itself must give its attention maps."""
        return self.attention == "probabilities"


def looks(objective: Objective) -> Looks:
    """What must be seen inside for an objective."""
    attention = objective.attention
    return Looks(objective.hidden is not None, attention.operand if attention else None)


def prepare(model, wanted: Looks) -> None:
    """Make a model give what is wanted: only eager attention keeps its maps.

    PyTorch's fused attention (SDPA) never holds a map, and transformers then gives None in its
    place and says nothing.
    """
    if wanted.needs_maps:
        model.set_attn_implementation("eager")
    if wanted.attention == "scores":
        _check_scores(model)


def release(model) -> None:
    """Give a model fast attention again, where its architecture has it."""
    if getattr(model, "_supports_sdpa", False):
        model.set_attn_implementation("sdpa")


def read(backbone: nn.Module, input_ids: Tensor, real: Tensor, wanted: Looks):
    """Last hidden states of a padded batch, and what was wanted from inside.

    Args:
        backbone: a model without its head.
        input_ids: ``[batch, length]``.
        real: ``[batch, length]``, True where a token is not padding.
        wanted: what to look for.

    Returns:
        ``[batch, length, width]`` and a `Seen`.

    Raises:
        WorkbenchError: if the model gives no attention maps, or keeps queries and keys where
            nobody knows.
    """
    options = {"input_ids": input_ids, "attention_mask": real.long()}
    scores: tuple[Tensor, ...] = ()
    if wanted.attention == "scores":
        with _queries_and_keys(backbone) as held:
            output = backbone(**options, output_hidden_states=wanted.hidden)
        heads = backbone.config.num_attention_heads
        scores = tuple(_scores(query, key, heads) for query, key in held)
    else:
        output = backbone(
            **options, output_hidden_states=wanted.hidden, output_attentions=wanted.needs_maps
        )
    maps = output.attentions if wanted.needs_maps else ()
    if wanted.needs_maps and (not maps or any(m is None for m in maps)):
        raise WorkbenchError(
            f"{type(backbone).__name__} gave no attention maps; its attention is "
            f"{getattr(backbone.config, '_attn_implementation', None)!r}, expected 'eager', which "
            "alone keeps them"
        )
    hidden = output.hidden_states if wanted.hidden else ()
    return output.last_hidden_state, Seen(real, tuple(hidden), tuple(maps) or scores)


class Matcher(nn.Module):
    """Compares what student and teacher hold inside, and learns the projections for it.

    Args:
        objective: with a hidden or an attention term.
        student: its configuration.
        teacher: its configuration.
        seed: of the projections' first weights.

    Raises:
        UsageError: if a map asks for a layer that there is not.
        WorkbenchError: if widths or heads cannot be compared.
    """

    def __init__(self, objective: Objective, student, teacher, *, seed: int = 0) -> None:
        super().__init__()
        self.hidden, self.attention = objective.hidden, objective.attention
        self.hidden_pairs: Pairs = ()
        self.attention_pairs: Pairs = ()
        projections = 0
        if self.hidden is not None:
            self.hidden_pairs = hidden_pairs(self.hidden, student, teacher)
            if self.hidden.projection is None and student.hidden_size != teacher.hidden_size:
                raise WorkbenchError(
                    f"the student's hidden states are {student.hidden_size} wide and the "
                    f"teacher's {teacher.hidden_size}; the hidden term of this recipe has no "
                    "projection and needs a student as wide as its teacher: give --init with a "
                    "layer map, such as 2i"
                )
            projections = {None: 0, "shared": 1, "each": len(self.hidden_pairs)}[
                self.hidden.projection
            ]
        if self.attention is not None:
            self.attention_pairs = attention_pairs(self.attention, student, teacher)
            heads = student.num_attention_heads, teacher.num_attention_heads
            if heads[0] != heads[1]:
                raise WorkbenchError(
                    f"the student has {heads[0]} heads and the teacher {heads[1]}; the attention "
                    "term compares head by head and needs as many in both"
                )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.projections = nn.ModuleList(
                nn.Linear(student.hidden_size, teacher.hidden_size) for _ in range(projections)
            )

    def forward(self, student: Seen, teacher: Seen, counts: Counts) -> dict[str, Tensor]:
        """Values of the terms there are, scalars.

        Args:
            student: with its graph.
            teacher: of the same batch.
            counts: of the whole batch, so that parts of it add up.
        """
        found = {}
        if self.hidden is not None:
            found["hidden"] = self._hidden(student, teacher, counts)
        if self.attention is not None:
            found["attention"] = self._attention(student, teacher, counts)
        return found

    def _hidden(self, student: Seen, teacher: Seen, counts: Counts) -> Tensor:
        total = student.hidden[0].new_zeros(())
        for number, (mine, theirs) in enumerate(self.hidden_pairs):
            state = student.hidden[mine][student.real]
            target = teacher.hidden[theirs][teacher.real].to(state.dtype)
            if len(self.projections):
                state = self.projections[number % len(self.projections)](state)
            if self.hidden.measure == "cosine":
                total = total + losses.cosine_distance(state, target).sum() / counts.tokens
            else:
                total = total + (state - target).square().mean(-1).sum() / counts.tokens
        return total

    def _attention(self, student: Seen, teacher: Seen, counts: Counts) -> Tensor:
        real = student.real
        both = (real[:, None, :, None] & real[:, None, None, :]).to(student.attention[0].dtype)
        total = student.attention[0].new_zeros(())
        for mine, theirs in self.attention_pairs:
            a = student.attention[mine]
            b = teacher.attention[theirs].to(a.dtype)
            heads = a.shape[1]
            if self.attention.measure == "mse":
                value = ((a - b).square() * both).sum() / (heads * counts.pairs)
            else:
                rows = losses.attention_divergence(a, b) * real[:, None, :]
                if self.attention.averaged_over_keys:
                    rows = rows / real.sum(-1)[:, None, None]
                value = rows.sum() / (heads * counts.tokens)
            total = total + value
        return total


def hidden_pairs(term: HiddenTerm, student, teacher) -> Pairs:
    """Indices into the hidden states of both, of which 0 is the embeddings' output."""
    pairs = tuple((s + 1, t + 1) for s, t in _pairs(term.layers, student, teacher, "hidden"))
    return ((0, 0), *pairs) if term.embeddings else pairs


def attention_pairs(term: AttentionTerm, student, teacher) -> Pairs:
    """Numbers of layers of both, from 0."""
    return _pairs(term.layers, student, teacher, "attention")


def _pairs(layers: str, student, teacher, what: str) -> Pairs:
    own, theirs = student.num_hidden_layers, teacher.num_hidden_layers
    # A name says how layers correspond for any depth, a map by hand which ones they are.
    named = layers in layer_maps.NAMES and layers != "distilbert"
    layer_map = layer_maps.parse(f"{layers}:{own}" if named else layers, theirs)
    if layer_map is None or len(layer_map) != own:
        raise UsageError(
            f"the {what} term compares layers by the map {layers}; expected a map with an entry "
            f"for each of the student's {own} layers, or a name such as 2i+1"
        )
    pairs = tuple((i, layer) for i, layer in enumerate(layer_map) if layer is not None)
    if not pairs:
        raise UsageError(f"the {what} term compares no layers: its map is {layers}")
    return pairs


def _scores(query: Tensor, key: Tensor, heads: int) -> Tensor:
    batch, length, width = query.shape
    size = width // heads
    q, k = (t.view(batch, length, heads, size).transpose(1, 2) for t in (query, key))
    return q @ k.transpose(-1, -2) / math.sqrt(size)


@torch.no_grad()
def _check_scores(model) -> None:
    """Raise WorkbenchError unless queries times keys are a model's attention before softmax.

    Not so where positions are turned into queries and keys afterwards (rotary embeddings).
    """
    backbone, before = model.base_model, model.config._attn_implementation
    tokens = torch.arange(4, device=next(model.parameters()).device)[None]
    model.set_attn_implementation("eager")
    try:
        with _queries_and_keys(backbone) as held:
            maps = backbone(input_ids=tokens, output_attentions=True).attentions
    finally:
        model.set_attn_implementation(before)
    heads = backbone.config.num_attention_heads
    for (query, key), attention in zip(held, maps, strict=True):
        if not torch.allclose(_scores(query, key, heads).softmax(-1), attention, atol=1e-4):
            raise WorkbenchError(
                f"the attention of {type(model).__name__} is more than queries times keys (rotary "
                "positions, say); give --variant as-coded, which compares it after softmax, or "
                "--init with a layer map and another recipe"
            )


@contextmanager
def _queries_and_keys(backbone: nn.Module) -> Iterator[list[tuple[Tensor, Tensor]]]:
    """Collects queries and keys of each layer, ``[batch, length, width]``, in one forward pass."""
    place = layer_list(backbone)
    held: list[list[Tensor]] = []
    hooks = []

    def keep(layer: int, which: int) -> Callable:
        return lambda _module, _inputs, output: held[layer].__setitem__(which, output)

    for number, layer in enumerate(backbone.get_submodule(place)):
        found = {
            name.rpartition(".")[2]: module
            for name, module in layer.named_modules()
            if name.rpartition(".")[2] in ("query", "key")
        }
        if set(found) != {"query", "key"}:
            raise WorkbenchError(
                f"the layers of {type(backbone).__name__} have no query and key of their own; "
                "expected attention built as BERT's"
            )
        held.append([torch.empty(0), torch.empty(0)])
        hooks.append(found["query"].register_forward_hook(keep(number, 0)))
        hooks.append(found["key"].register_forward_hook(keep(number, 1)))
    try:
        yield held  # type: ignore[misc]
    finally:
        for hook in hooks:
            hook.remove()
