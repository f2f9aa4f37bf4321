"""What a task has to say for itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from workbench.comparisons.headline import Headline
from workbench.config import RunConfig
from workbench.probes import Probe
from workbench.recipes.recipe import Scale, Shape

if TYPE_CHECKING:
    from workbench.corpora import Batch, Rows
    from workbench.hidden_words.masking import Masker
    from workbench.models import Kind
    from workbench.progress import Progress
    from workbench.teacher_cache import Teacher

#: Keys that every row of the results has; what does not apply is null.
ROW_KEYS = (
    "parameters", "perplexity", "perplexity_per_residue", "accuracy", "f1", "auc",
    "kl_to_teacher", "agreement", "calibration_error", "latency_ms", "latency_p95_ms",
    "tokens_per_second", "throughput", "generation_seconds", "peak_memory_mb", "intervals",
)  # fmt: skip


@dataclass(frozen=True)
class Judged:
    """Everything that the four rows are computed from.

    Attributes:
        corpus: with its truth, where it is known.
        tokenizer: of the models.
        validation: held-out rows, and ``batches`` made of them.
        teacher_model: None where the model cannot be compared with its teacher.
        teacher: what it says about the batches.
        student: in eval mode.
        baseline: likewise; None where there is none.
        brief: quality only: no speed, nothing generated, nothing trained to judge by.
        known: rows that a run with the same teacher, data and baseline has measured.
    """

    corpus: Any
    tokenizer: Any
    validation: Rows
    batches: Sequence[Batch]
    teacher_model: Any
    teacher: Teacher | None
    student: Any
    baseline: Any
    brief: bool = False
    known: Mapping[str, dict[str, Any]] = field(default_factory=dict)


class Task(Protocol):
    """What differs between kinds of models; see the implementations beside this file."""

    name: str
    kind: Kind
    headline: Headline
    #: Of the model card: tags of the hub.
    tags: tuple[str, ...]
    #: Whether the table of four rows has room for intervals; the model card has it always.
    intervals_in_table: bool

    def load_model(self, source: str) -> tuple[Any, Any, str]:
        """Teacher or student, its tokenizer, and where they came from."""

    def load_corpus(self, config: RunConfig, tokenizer: Any = None) -> Any:
        """The data that a configuration asks for, with ``notes`` and ``source``.

        Given the model's tokenizer, data that it cannot read are refused.
        """

    def rows(
        self,
        corpus: Any,
        tokenizer: Any,
        model: Any,
        positions: int,
        progress: Progress | None = None,
    ) -> tuple[Rows, Rows]:
        """Training and held-out rows of tokens for a model and its like.

        Of a large corpus this takes a while, and whoever is given in ``progress`` is told.
        """

    def pad(self, tokenizer: Any) -> int:
        """Token id that batches are filled up with."""

    def masker(self, tokenizer: Any, model: Any, *, whole_words: bool) -> Masker | None:
        """What hides tokens of the training batches; None where none are hidden."""

    def held_out(self, batches: Sequence[Batch], masker: Masker | None) -> Sequence[Batch]:
        """The held-out batches as they are judged."""

    def build(self, shape: Shape, scale: Scale, *, seed: int, tokenizer: Any, like: Any) -> Any:
        """A fresh student, for a teacher such as ``like``."""

    def count_parameters(self, shape: Shape, scale: Scale) -> int:
        """Parameters of a model of that shape."""

    def validate(self, distiller: Any, shop: Any) -> dict[str, float | None]:
        """Held-out figures while learning, the headline among them."""

    def references(self, shop: Any) -> dict[str, float]:
        """The headline of "teacher" and, where the truth is known, "oracle", held out."""

    def four_rows(self, config: RunConfig, judged: Judged) -> dict[str, Any]:
        """Oracle, teacher, student, baseline; and whatever else the task reports."""

    def probes(self, shop: Any) -> list[Probe]:
        """Examples at which one can watch the models' answers."""

    def columns(self) -> tuple[tuple[str, str, str], ...]:
        """Key, title and format of the columns of the table of four rows."""

    def sentences(self, results: dict[str, Any]) -> list[str]:
        """What the table says, in words."""
