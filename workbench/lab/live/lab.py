"""The Lab: one panel for every recipe, with a hand on T and α while a student learns.

The panel is one widget. What is done in the browser arrives here as numbered messages, is put
into the settings or told to the engine, and returns; what there is to see is drawn on one
thread, at most ten times a second. Everything the mouse can do, Python can.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import traitlets

from workbench import recipes, run_directory
from workbench.comparisons.headline import BY_TASK
from workbench.config import RunConfig
from workbench.errors import UsageError, WorkbenchError
from workbench.events import WEIGHT
from workbench.lab import registry
from workbench.lab.live import controls, drawn, knobs, script, stored, wording
from workbench.lab.live.controls import Control, Press, Question
from workbench.lab.live.engine import Course, Engine, Moment, Plateau
from workbench.lab.live.follower import Follower
from workbench.lab.live.knobs import LIVE, ON_RESET, PRESETS, Settings
from workbench.lab.pictured import Pictured, text_of
from workbench.lab.svg import escape

#: Settings that a page for visitors does not take from them: they name files of this machine.
PRIVATE = ("data", "init")
_JS = (
    "elements.js", "state.js", "distillation.js", "explorer_charts.js",
    *(f"live/{name}.js" for name in ("wire", "status", "controls", "transport", "probe", "lab")),
)  # fmt: skip


class Lab(Pictured):
    """Train, steer, stop, rewind, branch and compare runs of one recipe in a notebook cell.

    Args:
        link: a recipe's name, or a link with settings, such as
            ``protgpt2-tiny;T=4;alpha=0.5;hide=seed``; see `workbench.lab.live.knobs`.
        directory: where run directories are made; by default ``runs/`` here.
        question: to be answered before the first Play.
        plateau: end a run where its held-out figure no longer gets better.
        private: take no data and no start from the panel; for pages with visitors.
        presenter: begin in large type with few controls.
        name: a new Lab closes the open one of the same name; by default the cell and the recipe.
        follow: a run directory to show, see `follow`; link and options are the run's own then.
        options: values of knobs (``T``, ``alpha``, ``variant``, ``steps`` …; ``weights`` by term),
            and options of `RunConfig.from_recipe` that have no knob.

    Raises:
        UsageError: if the link or an option is wrong.

    Attributes:
        settings: of the next run.
        engine: what trains.
        controls: knobs with ``.value`` and buttons with ``.click()``, by name.
    """

    _face = traitlets.Dict().tag(sync=True)
    _values = traitlets.Dict().tag(sync=True)
    _status = traitlets.Dict().tag(sync=True)
    _formula = traitlets.Unicode("").tag(sync=True)
    _numbers = traitlets.Unicode("").tag(sync=True)
    _curves = traitlets.Unicode("").tag(sync=True)
    _terms = traitlets.Unicode("").tag(sync=True)
    _table = traitlets.Unicode("").tag(sync=True)
    _origin = traitlets.Unicode("").tag(sync=True)
    _probe = traitlets.Dict().tag(sync=True)
    _logits = traitlets.Bytes(b"").tag(sync=True)
    _link = traitlets.Unicode("").tag(sync=True)
    _script = traitlets.Unicode("").tag(sync=True)
    _presenter = traitlets.Bool(False).tag(sync=True)

    _esm = text_of(*_JS)
    _css = text_of("live/lab.css")

    def __init__(
        self,
        link: str = "protgpt2-tiny",
        *,
        directory: str | Path | None = None,
        question: Question | None = None,
        plateau: Plateau | None = None,
        private: bool = False,
        presenter: bool = False,
        name: str | None = None,
        follow: str | Path | None = None,
        **options: Any,
    ) -> None:
        if follow is None:
            self.settings = controls.settings(link, options)
        else:
            self.settings = controls.of_run(follow)
        self._private = private
        if private:
            self._refuse_private(self.settings.given)
        self._directory = None if directory is None else Path(directory)
        self._question, self._answer = question, None
        self._headline = BY_TASK[recipes.get(self.settings.recipe).task]
        self._lock = threading.RLock()
        self._heard = 0
        self._taken: dict[str, int] = {}  # page: number of the last message that was taken
        self._turns = 0
        self._ends = False
        self._example = 0
        self._pins: dict[int, Course] = {}
        self._stored = (
            None if follow is not None or self._is_special() else stored.load(self.settings.recipe)
        )
        self._look_drawn: Any = None
        self._picture_of: tuple[Any, ...] = ()
        self.engine: Engine | Follower
        if follow is not None:
            self.engine = Follower(follow, self._poke)
        else:
            self.engine = Engine(
                lambda seed: self.settings.config(seed),
                self._poke,
                self._new_directory,
                plateau,
                stored.references,
            )
        super().__init__(_presenter=presenter)
        self.controls: dict[str, Any] = self._controls()
        self._draw()
        self.on_msg(self._received)
        self.name = name or "/".join(filter(None, (registry.cell(), self.settings.recipe)))
        registry.claim(self.name, self)

    @classmethod
    def follow(cls, run: str | Path, **options: Any) -> Lab:
        """A panel that shows a run directory and follows it while something else writes it.

        Args:
            run: finished or not, of this machine or in a folder shared with another.
            options: ``presenter`` and ``name``.

        Raises:
            WorkbenchError: if there is no run.
        """
        return cls(follow=run, **options)

    # ------------------------------------------------------------------ by hand

    def set(self, **changes: Any) -> None:
        """Set knobs: those that are live at the next step, the others at the next reset.

        Args:
            changes: by name; ``T`` is short for temperature, ``lr`` for learning_rate, and
                ``weights={"hidden": 0}`` sets weights of terms.

        Raises:
            UsageError: if there is no such knob or a value is out of range; nothing is changed.
        """
        named = controls.long_names(changes)
        with self._lock:
            if self._private:
                self._refuse_private(named)
            self.settings = self.settings.changed(named)
            values = self.settings.values()
        for name in named:
            if name in LIVE or name.startswith(WEIGHT):
                self.engine.set(name, values[name])
        self._poke()

    def play(self) -> None:
        """Go on to the end; from nothing, or after the end, with a new run."""
        self._begin("play")

    def run(self, **changes: Any) -> dict[str, Any]:
        """A whole new run; returns what results.json holds.

        The cell waits; the panel does not: its knobs, Pause and Play work meanwhile. Interrupting
        the cell pauses the run.

        Args:
            changes: knobs to set before, as for `set`.

        Raises:
            UsageError: if a setting is wrong or the question is not answered yet.
            WorkbenchError: if the run fails or is left before its end.
        """
        if self.state == "following":
            raise UsageError("this panel follows a run of another process; it begins none")
        if self._closed:
            raise UsageError("this panel is closed; run its cell again for a new one")
        self.set(**changes)
        if "play" not in drawn.allowed(Moment(), self._asked):
            raise UsageError("the question comes first: answer it in the panel or by lab.answer(…)")
        if self.state not in ("new", "done"):
            self.reset()
        try:
            self.play()
            end = self.engine.wait_for_end()
        except KeyboardInterrupt:
            self.pause()
            raise
        self._publisher.flush(5.0)
        if end.state != "done" or end.course is None or end.course.results is None:
            raise WorkbenchError(end.error or "the run was left before its end")
        return end.course.results

    def step(self, count: int = 1) -> None:
        """Take so many steps."""
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise UsageError(f"steps is {count!r}; expected a whole number, 1 or more")
        self._begin("steps", count)

    def pause(self) -> None:
        """Stand still after the present step."""
        self.engine.tell("pause")

    def reset(self) -> None:
        """Leave the run, on the disk as far as it is, and be ready for a new one."""
        self.engine.tell("reset")

    def rewind(self, step: int) -> None:
        """Go back to a kept step; a finished run is branched instead."""
        self.engine.tell("rewind", int(step))

    def branch(self, step: int) -> None:
        """Leave the run as it is and go on from a kept step in a new run."""
        self.engine.tell("branch", int(step))

    def seeds(self, count: int = 3) -> None:
        """Whole runs with so many seeds in a row, and a verdict."""
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= 20:
            raise UsageError(f"seeds is {count!r}; expected 1 to 20")
        self._begin("seeds", count)

    def pin(self) -> None:
        """Keep the curve of the present run as a ghost."""
        course = self._with_stored(self.engine.moment).course
        if course is None:
            self.engine.remark("There is no run to pin.")
            return
        with self._lock:
            self._pins[max(self._pins, default=0) + 1] = course
        self._poke()

    def unpin(self, number: int) -> None:
        """Let go of a ghost."""
        with self._lock:
            self._pins.pop(number, None)
        self._poke()

    def answer(self, option: str) -> None:
        """Answer the question before Play.

        Raises:
            UsageError: if there is no question, or no such answer.
        """
        if self._question is None or option not in self._question.options:
            raise UsageError(f"{option!r} is no answer to what was asked")
        with self._lock:
            # A prediction is not changed after the fact.
            self._answer = self._answer or option
        self._poke()

    def preset(self, name: str) -> None:
        """Take over a preset.

        Raises:
            UsageError: if there is none of that name.
        """
        found = {p.name: p for p in self._presets()}
        if name not in found:
            raise UsageError(f"there is no preset {name!r}; expected {', '.join(found)}")
        own = RunConfig.from_recipe(self.settings.recipe)
        plain = {"temperature": own.temperature, "alpha": own.alpha, "variant": "corrected"}
        given = dict(found[name].given)
        if "variant" in given:
            plain |= {"temperature": RunConfig.from_recipe(
                self.settings.recipe, variant=given["variant"]).temperature}  # fmt: skip
        self.set(**{**plain, **given})

    def look(self, example: int) -> None:
        """Choose the example whose answers are shown."""
        with self._lock:
            self._example = int(example)
        if self.engine.moment.examples:
            self.engine.tell("example", int(example))
        self._poke()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing goes on and all is drawn; False after ``timeout`` seconds."""
        began = time.monotonic()
        if not self.engine.wait(timeout):
            return False
        left = None if timeout is None else max(0.0, timeout - (time.monotonic() - began))
        return self._publisher.flush(left)

    @property
    def state(self) -> str:
        """One of `workbench.lab.live.engine.State`."""
        return self.engine.moment.state

    @property
    def message(self) -> str:
        """What the status line says."""
        return " ".join(filter(None, (self._status["title"] + ":", self._status["sentence"],
                                      self._status["remark"])))  # fmt: skip

    @property
    def results(self) -> list[dict[str, Any]]:
        """Contents of results.json of every finished run, oldest first."""
        return [c.results for c in self.engine.moment.earlier if c.results]

    @property
    def link(self) -> str:
        """One line that makes the same panel again."""
        return self.settings.link()

    @property
    def script(self) -> str:
        """Python source that repeats the present run, or makes the next one."""
        return script.source(self.settings, self._with_stored(self.engine.moment).course)

    def freeze(self) -> None:
        """Show the panel as it is now as a plain output, which needs no kernel and no script."""
        from IPython.display import HTML, display

        self._publisher.flush(5.0)
        display(HTML(self.static()))

    def static(self) -> str:
        """The panel as it is now, as HTML without scripts."""
        course = self.engine.moment.course
        title = wording.named(course.config) if course else self.settings.recipe
        style = "font-family:system-ui,sans-serif;font-size:14px;line-height:1.45;max-width:960px"
        parts = (self._formula, self._numbers, self._curves, self._terms, self._table, self._origin)
        return (
            f'<section style="{style}"><h4>{escape(self.settings.recipe)}: {escape(title)}</h4>'
            f"<p>{escape(self.message)}</p>{''.join(parts)}</section>"
        )

    def svg(self) -> str:
        """The curves."""
        return self._curves

    def close(self) -> None:
        """End the run at its next step, the threads, the widget. Twice is once."""
        if self._closed:
            return
        self._ends = True
        self.engine.close()
        if not sys.is_finalizing():
            self._draw()
            # Where it was shown, the picture is what remains.
            super()._redraw()
        super().close()

    def join(self, timeout: float | None = None) -> bool:
        """After `close`: wait until the engine's thread has ended; False after ``timeout``."""
        return self.engine.join(timeout)

    def __repr__(self) -> str:
        """One line, shown where there are no widgets."""
        return f"Lab({self.link!r}, {self.state}, finished runs: {len(self.results)})"

    # ------------------------------------------------------------------ messages

    def _received(self, _widget: Any, content: Any, _buffers: Any) -> None:
        """A message from the browser, on whatever thread; returns at once."""
        if not isinstance(content, dict):
            return
        # A message repeats those before it that the page does not know to be heard.
        earlier = content.get("again")
        messages = [*(earlier if isinstance(earlier, list) else ()), content]
        for message in messages:
            if isinstance(message, dict) and self._is_new(content.get("page"), message.get("n")):
                self._take(message)

    def _is_new(self, page: Any, number: Any) -> bool:
        """Whether a page's message was not taken before; from now on it was."""
        if not isinstance(page, str) or not isinstance(number, int):
            return True
        with self._lock:
            if number <= self._taken.get(page, 0):
                return False
            self._taken[page] = number
            return True

    def _take(self, message: dict[str, Any]) -> None:
        number = message.get("n")
        try:
            if isinstance(message.get("set"), dict):
                self.set(**message["set"])
            if "do" in message:
                self._do(message["do"], message.get("with"))
        except WorkbenchError as error:
            self.engine.remark(str(error))
        finally:
            if isinstance(number, int):
                with self._lock:
                    self._heard = max(self._heard, number)
            self._poke()

    def _do(self, command: str, value: Any) -> None:
        simple = {"play": self.play, "pause": self.pause, "reset": self.reset, "pin": self.pin,
                  "step": self.step}  # fmt: skip
        valued = {
            "steps": self.step, "rewind": self.rewind, "branch": self.branch,
            "unpin": self.unpin, "seeds": self.seeds, "preset": self.preset, "example": self.look,
            "answer": self.answer, "link": self._follow_link,
        }  # fmt: skip
        if command in simple:
            simple[command]()
        elif command in valued:
            try:
                valued[command](value)
            except (TypeError, ValueError) as error:
                raise UsageError(f"{command} was asked for with {value!r}") from error
        else:
            raise UsageError(f"the panel knows no command {command!r}")

    @property
    def _asked(self) -> bool:
        """Whether a question waits for its answer."""
        return self._question is not None and self._answer is None

    def _begin(self, command: str, value: Any = None) -> None:
        if self._asked:
            self.engine.remark("Answer the question first: then the run can.")
            return
        self.engine.tell(command, value)

    def _follow_link(self, text: str) -> None:
        wanted = knobs.read(str(text))
        if wanted.recipe != self.settings.recipe:
            raise UsageError(
                f"this panel is for {self.settings.recipe}; Lab({wanted.link()!r}) makes the other"
            )
        with self._lock:
            if self._private:
                self._refuse_private(wanted.given)
            before = self.settings.values()
            self.settings = replace(self.settings, given=wanted.given, hidden=wanted.hidden)
            values = self.settings.values()
        for name, value in values.items():
            if value != before.get(name) and (name in LIVE or name.startswith(WEIGHT)):
                self.engine.set(name, value)

    def _refuse_private(self, names: Mapping[str, Any]) -> None:
        for name in PRIVATE:
            if name in names:
                raise UsageError(f"{name} cannot be set on this page")
        # Somebody else's machine: no student that fills its memory.
        sizes = ["", *knobs.sizes(self.settings)]
        if names.get("size", "") not in sizes:
            raise UsageError(f"on this page the size is one of {', '.join(sizes[1:])}")

    # ------------------------------------------------------------------ drawing

    def _is_special(self) -> bool:
        """Whether the stored run would not be of this panel's models and data."""
        return any(n in self.settings.options for n in ("scale", "teacher")) or any(
            n in self.settings.given for n in PRIVATE
        )

    def _with_stored(self, now: Moment) -> Moment:
        """With the stored run where there is none yet, so that the first picture is not empty."""
        if self._stored is None or now.course is not None:
            return now
        course, looks, _ = self._stored
        look = looks[min(self._example, len(looks) - 1)] if now.look is None else now.look
        return replace(
            now, course=course, step=course.config.steps, look=look,
            examples=now.examples or tuple(one.probe.title for one in looks),
        )  # fmt: skip

    def _poke(self) -> None:
        if not self._closed:
            self._publisher.poke()

    def _redraw(self) -> None:
        self._draw()
        now = self.engine.moment
        # The picture for those without a kernel is renewed where something has come to an end:
        # ten times a second it would fill the notebook's outputs.
        stands = (now.state, now.course, now.reason)
        if now.state in ("paused", "done", "failed", "closed") and stands != self._picture_of:
            self._picture_of = stands
            super()._redraw()

    def _framed_picture(self) -> dict[str, str]:
        return {
            "text/html": f'<div data-workbench-picture="{self._picture}">{self.static()}</div>',
            "text/plain": repr(self),
        }

    def _draw(self) -> None:
        now = self._with_stored(self.engine.moment)
        if self._ends:
            # The engine's thread says so itself when its last step is over.
            now = replace(now, state="closed", remark="")
        with self._lock:
            if now.turns != self._turns:
                # Taken back: the knobs stand where they stood then.
                self._turns = now.turns
                self.settings = self.settings.changed(now.knobs)
            settings, heard, pins = self.settings, self._heard, dict(self._pins)
            taken = dict(self._taken)
            answer, example = self._answer, self._example
        config, values = settings.config(), settings.values()
        course = now.course
        told = drawn.told(self._question, now, answer)
        asked = self._question is not None and answer is None
        title, sentence = wording.status(now, config.steps, self._words(values))
        if course is not None and course.number == 0:
            sentence += f" Shown until then: the recipe's own stored run ({self._stored[2]})."
        traits = {
            "_face": self._drawn_face(settings, now),
            "_values": {
                "settings": values, "pending": drawn.pending(values, course, now), "heard": heard,
                "taken": taken,
                "answer": answer, "example": example,
            },
            "_status": {
                "state": now.state, "title": title, "sentence": sentence,
                "remark": " ".join(filter(None, (now.remark, told))),
                "details": now.details, "done": now.done, "total": now.total,
                "allowed": drawn.allowed(now, asked), "kept": list(now.kept), "step": now.step,
                "steps": course.config.steps if course else config.steps,
                "pins": [
                    {"id": n, "label": wording.difference(c, course)} for n, c in pins.items()
                ],
            },
            "_formula": wording.formula(config, values),
            "_numbers": wording.numbers(now, self._headline, drawn.megabytes()),
            "_curves": wording.curves(now, list(pins.values()), self._headline),
            "_terms": wording.terms(now),
            "_table": wording.table(now, self._headline),
            "_origin": wording.origin(config),
            "_link": settings.link(),
            "_script": script.source(settings, course),
        }  # fmt: skip
        if now.look is not None and now.look is not self._look_drawn:
            self._look_drawn = now.look
            traits["_probe"], traits["_logits"] = drawn.example(now.look)
        with self.hold_sync():
            for name, value in traits.items():
                if getattr(self, name) != value:
                    setattr(self, name, value)

    def _drawn_face(self, settings: Settings, now: Moment) -> dict[str, Any]:
        question = self._question
        shown = [k for k in knobs.knobs(settings) if not (self._private and k["name"] in PRIVATE)]
        return {
            "title": settings.recipe,
            "knobs": shown,
            "presets": [{"name": p.name, "words": p.words} for p in self._presets()],
            "examples": list(now.examples),
            "question": None if question is None else
            {"text": question.text, "options": list(question.options)},
            "hidden": list(settings.hidden),
            "follows": now.state == "following",
        }  # fmt: skip

    def _presets(self) -> list[knobs.Preset]:
        return [p for p in PRESETS if "variant" not in p.given or not self.settings.options.get(
            "variant")]  # fmt: skip

    def _words(self, values: Mapping[str, Any]) -> str:
        return f"T = {values['temperature']:g}, α = {values['alpha']:.3g}, {values['variant']}"

    def _controls(self) -> dict[str, Any]:
        names = (*LIVE, *ON_RESET, *(f"{WEIGHT}{n}" for n in self.settings.own_terms()))
        buttons = {
            "play": self.play, "pause": self.pause, "step": self.step, "reset": self.reset,
            "pin": self.pin, "seeds": self.seeds,
        }  # fmt: skip
        return {n: Control(self, n) for n in names} | {n: Press(f) for n, f in buttons.items()}

    def _new_directory(self, config: RunConfig) -> run_directory.RunDirectory:
        path = run_directory.new_name(config)
        if self._directory is not None:
            path = run_directory.new_name(config, self._directory)
        return run_directory.RunDirectory(path)
