"""The T/α explorer: one position of one example, and what temperature and α make of it.

    >>> from workbench.lab import Explorer
    >>> Explorer("T=10;alpha=0.1;T2=off;protein=3;position=14")

All that depends on T and α is computed in the browser (``distillation.js``), so that a
slider's move is on the screen in the same frame. The kernel is asked for another example
only. Where there is no JavaScript, a picture of the same state stands in its place.
"""

from __future__ import annotations

import logging
import threading
from typing import Any

import traitlets

from workbench.errors import UsageError, WorkbenchError
from workbench.lab import registry
from workbench.lab.explore import explorer_svg
from workbench.lab.explore.examples import SEQUENCES, Example, Pair, figures, given
from workbench.lab.explore.presets import (
    HIGHEST_TEMPERATURE,
    LARGEST_LOGIT,
    LOWEST_TEMPERATURE,
    PRESETS,
    PROTEINS,
    State,
    change_state,
    format_state,
    parse_state,
)
from workbench.lab.pictured import Pictured, text_of
from workbench.worlds.proteins import AMINO_ACIDS

#: One ES module: elements, mathematics, state strings, what is seen.
MODULE = text_of(
    "elements.js", "explorer_charts.js", "distillation.js", "state.js", "explore/explorer.js"
)  # fmt: skip
log = logging.getLogger(__name__)


class Explorer(Pictured):
    """Oracle, teacher, student and label at one position, with T and α under one's hand.

    An explorer made by a cell that is run again replaces the one that the cell made before.

    Args:
        state: what to show, see `presets.parse_state`.
        teacher: as `models.load_causal_lm` takes it; one token a residue.
        student: likewise, such as the ``student/`` of a run.
        name: a new explorer closes the open one of the same name; by default the cell's, so
            two explorers of one cell need names.

    Raises:
        UsageError: if the state is wrong, or a model has another vocabulary.
        WorkbenchError: if a model cannot be loaded.

    Attributes:
        state: the present state as a string; can be set, and follows the browser.
        name: name of the explorer.
        problem: the last error in the browser's panel; empty if all went well since.
    """

    _esm = MODULE
    _css = text_of("explore/explorer.css")

    state = traitlets.Unicode("").tag(sync=True)
    _example = traitlets.Dict().tag(sync=True)
    _presets = traitlets.List().tag(sync=True)
    _limits = traitlets.Dict().tag(sync=True)

    def __init__(
        self,
        state: str = "",
        *,
        teacher: str = "protgpt2",
        student: str = "protgpt2-tiny",
        name: str | None = None,
    ) -> None:
        wanted = parse_state(state)  # before the models are loaded: a typing error costs no time
        pair = Pair(teacher, student)
        self._open(pair, pair.example(wanted), wanted, name)

    @classmethod
    def from_logits(
        cls,
        symbols: Any,
        teacher_logits: Any,
        student_logits: Any,
        label: Any,
        *,
        oracle: Any = None,
        tokens: int | None = None,
        sequences: int = SEQUENCES,
        contexts: Any = None,
        state: str = "",
        name: str | None = None,
    ) -> Explorer:
        """An explorer of any vocabulary.

        Of a large one, the most probable symbols are shown and the others as one bar;
        entropies, gradients and norms are over all.

        Args:
            symbols: names, as many as the vocabulary has.
            teacher_logits: ``[vocabulary]`` or ``[positions, vocabulary]``.
            student_logits: likewise.
            label: index of the true symbol, or ``[positions]`` of them.
            oracle: probabilities of the truth, of the shape of the logits.
            tokens: scored tokens of a sequence, for batchmean and sum; by default the
                number of positions.
            sequences: of a batch, for sum.
            contexts: a text for each position, such as the sentence that a word was taken from.
            state: what to show, without protein and sequence.
            name: see `Explorer`.

        Raises:
            UsageError: if shapes differ, numbers are not finite or the state is wrong.
        """
        example = given(
            symbols, teacher_logits, student_logits, label,
            oracle=oracle, tokens=tokens, sequences=sequences, contexts=contexts,
        )  # fmt: skip
        self = cls.__new__(cls)
        self._open(None, example, parse_state(state), name)
        return self

    def _open(self, pair: Pair | None, example: Example, state: State, name: str | None) -> None:
        self._pair = pair
        self._loaded = example
        self._check_source(state)
        text = _canonical(example, state)
        self._lock = threading.RLock()
        self._asked: str | None = None
        super().__init__(
            state=text,
            _example=example.pack(),
            _presets=[vars(p) for p in PRESETS],
            _limits={
                "temperature": [LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE],
                "logit": LARGEST_LOGIT,
                "proteins": PROTEINS,
                "residues": AMINO_ACIDS,
                "longest": pair.longest if pair else 0,
            },
        )
        self.problem = ""
        self.on_msg(self._on_message)
        self.observe(lambda _: self._publisher.poke(), names="state")
        self.name = name or "/".join(filter(None, (registry.cell(), "explorer")))
        registry.claim(self.name, self)

    # -- by hand

    def set(self, **parts: Any) -> None:
        """Change parts of the state: ``set(T=4, alpha=0.1, T2=False, position=14)``.

        Raises:
            UsageError: if a part is unknown or wrong; nothing is changed then.
        """
        with self._lock:
            text = format_state(change_state(parse_state(self.state), parts))
        self.state = text

    def numbers(self) -> dict[str, Any]:
        """All figures at the present state, computed in Python: see `examples.figures`."""
        with self._lock:
            return figures(self._loaded, self._loaded.resolve(parse_state(self.state)))

    def svg(self) -> str:
        """A picture of the present state, without JavaScript."""
        with self._lock:
            example, state = self._loaded, self._loaded.resolve(parse_state(self.state))
        return explorer_svg.picture(example, state, figures(example, state))

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until what the browser asked for is there; False after ``timeout`` seconds."""
        return self._publisher.flush(timeout)

    def __repr__(self) -> str:
        """One line, shown where there are no widgets."""
        return f"Explorer({self.state!r})"

    # -- the state's way in

    @traitlets.validate("state")
    def _validate(self, proposal: Any) -> str:
        """The state as it is written, after its example has been loaded."""
        state = parse_state(proposal["value"])
        with self._lock:
            self._check_source(state)
            if self._pair is None or state.source == self._loaded.source:
                return _canonical(self._loaded, state)
        # Asking the models takes a while; a slider that moves meanwhile must not wait for it.
        example = self._pair.example(state)
        text = _canonical(example, state)
        with self._lock:
            self._loaded, self._example = example, example.pack()
        return text

    def set_state(self, sync_data: dict[str, Any]) -> None:
        """What the browser has set, on whatever thread the kernel likes; loads nothing."""
        try:
            state = parse_state(sync_data.get("state", self.state))
            if self._pair is not None and state.source != self._loaded.source:
                raise UsageError(f"{state.source} is no longer shown")
            text = _canonical(self._loaded, state)
        except UsageError as error:
            log.warning("a state of the browser was not taken: %s", error)
            self.send_state("state")
            return
        super().set_state({"state": text})

    def _on_message(self, _widget: Any, content: Any, _buffers: Any) -> None:
        """The browser wants another example; the last wish counts."""
        if isinstance(content, dict) and isinstance(content.get("want"), str):
            self._asked = content["want"]
            self._publisher.poke()

    # -- the publisher's thread

    def _redraw(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            try:
                self.state = asked
                self.problem = ""
            except WorkbenchError as error:
                self.problem = str(error)
            except Exception as error:
                log.exception("the explorer could not load an example")
                self.problem = f"{type(error).__name__}: {error}"
            self.send({"asked": asked, "problem": self.problem})
        super()._redraw()

    # -- parts

    def _check_source(self, state: State) -> None:
        if self._pair is None and state.source != State().source:
            raise UsageError(
                f"the state asks for {state.source}, and this explorer shows logits that were "
                "given; leave it out"
            )


def _canonical(example: Example, state: State) -> str:
    return format_state(example.abbreviate(example.resolve(state)))
