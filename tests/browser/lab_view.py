"""A stand-in for the Lab, for tests of its front end without a kernel: its traits in mid-run."""

from __future__ import annotations

import base64
from typing import Any

import anywidget
import numpy as np
import traitlets

from workbench.lab import svg
from workbench.lab.live.lab import Lab
from workbench.plots import COLOURS
from workbench.worlds import proteins

SERIES = ("oracle", "teacher", "student", "baseline")

#: Renders the module with a stand-in for the widget's model. As in anywidget, each view gets a
#: model object of its own, and a default export that is a function is called once a model.
RENDER = """async ({module, css, traits}) => {
  const bytes = (text) => new DataView(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  traits._logits = bytes(traits._logits);
  const listeners = {};
  const tell = (name, ...what) => (listeners[name] ?? []).forEach(f => f(...what));
  window.sent = [];
  window.saved = [];
  const face = () => ({
    get: (key) => traits[key],
    set: (key, value) => {
      if (traits[key] !== value) { traits[key] = value; tell(`change:${key}`); }
    },
    on: (name, f) => (listeners[name] ??= []).push(f),
    off: (name, f) => { listeners[name] = (listeners[name] ?? []).filter(g => g !== f); },
    save_changes: () => window.saved.push({_presenter: traits._presenter}),
    send: (content) => window.sent.push(structuredClone(content)),
  });
  window.kernel = {
    get: (key) => traits[key],
    say: (changes) => {
      if ('_logits' in changes) changes._logits = bytes(changes._logits);
      Object.assign(traits, changes);
      Object.keys(changes).forEach(key => tell(`change:${key}`));
    },
    speak: (content) => tell('msg:custom', content),
    listeners: () => Object.values(listeners).flat().length,
  };
  const style = document.createElement('style');
  style.textContent = css;
  document.head.append(style);
  const address = URL.createObjectURL(new Blob([module], {type: 'text/javascript'}));
  window.wblab = await import(address);
  const widget = wblab.default();
  window.view = () => {
    const place = document.createElement('div');
    document.body.append(place);
    return widget.render({model: face(), el: place});
  };
  window.leave = view();
}"""


class StandIn(anywidget.AnyWidget):
    """The traits of the Lab, and what they hold in the middle of a run."""

    _esm, _css = Lab._esm, Lab._css

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
    _picture = traitlets.Unicode("abc123").tag(sync=True)

    def __init__(self, **changes: Any) -> None:
        super().__init__(**{**canned(), **changes})

    def traits_as_json(self) -> dict[str, Any]:
        """What the browser gets, bytes as base64."""
        own = {name: getattr(self, name) for name in canned()} | {"_picture": self._picture}
        return {**own, "_logits": base64.b64encode(own["_logits"]).decode()}


# ---------------------------------------------------------------------- a run, as Python tells it


def knob(name: str, label: str, kind: str, **more: Any) -> dict[str, Any]:
    empty = {"min": None, "max": None, "step": None, "options": [], "ends": None, "help": "",
             "mark": None, "live": True}  # fmt: skip
    return {"name": name, "label": label, "kind": kind, **empty, **more}


KNOBS = [
    knob("temperature", "Temperature T", "log", min=0.25, max=50,
         ends=["0.25, sharper", "softer, 50"], help="Softens teacher and student alike",
         mark={"value": 10, "name": "published"}),
    knob("alpha", "Labels’ weight α", "slider", min=0, max=1, step=0.01,
         ends=["teacher only", "labels only"]),
    knob("learning_rate", "Learning rate", "log", min=1e-5, max=0.1),
    knob("weight.hidden", "Weight of hidden states", "slider", min=0, max=10, step=0.1),
    knob("variant", "Variant", "menu", live=False, options=[
        {"value": "corrected", "label": "corrected"},
        {"value": "as-published", "label": "as published"}]),
    knob("steps", "Steps", "number", min=1, max=5000, step=1, live=False),
    knob("seed", "Seed", "number", min=0, max=2**31 - 1, step=1, live=False),
    knob("size", "Student", "menu", live=False, options=[
        {"value": 1, "label": "1 layer"}, {"value": 2, "label": "2 layers"}]),
    knob("init", "Layers copied", "text", live=False, suggestions=["2i", "first:2", "random"]),
]  # fmt: skip
SETTINGS = {
    "temperature": 2.0, "alpha": 0.5, "learning_rate": 0.003, "weight.hidden": 0.0,
    "variant": "corrected", "steps": 400, "seed": 20, "size": 2, "init": "2i",
}  # fmt: skip
ALL = ["pause", "play", "step", "steps", "rewind", "branch", "reset", "pin", "seeds"]


def canned() -> dict[str, Any]:
    words, text = [*proteins.AMINO_ACIDS, "end"], "MKTAYIAKQRQISFVKSHFSRQ[?]"
    return {
        "_face": {
            "title": "protgpt2-tiny",
            "knobs": KNOBS,
            "presets": [
                {"name": "as published", "words": "T = 10 and hardly any labels"},
                {"name": "labels only", "words": "what a teacher is compared with"},
                {"name": "sharp", "words": "T below 1"},
            ],
            "examples": [
                "PF00042 1–60, position 12", "PF00042 1–60, position 24", "PF00069, position 3",
            ],
            "question": None, "hidden": [], "follows": False,
        },
        "_values": values(),
        "_status": status(),
        "_formula": "<div>The next run minimises <strong>0.5 · CE(student, label) + "
        "0.5 · 2² · KL(teacher‖student) at T = 2</strong></div>",
        "_numbers": "<div>step 120 of 400 · loss 2.31 · perplexity 9.87 · 6 s left</div>",
        "_curves": curves(120),
        "_terms": terms(),
        "_table": "<table><caption>Finished runs</caption><tr><th>run</th><td>1</td></tr></table>",
        "_origin": "<div>A built-in world of proteins: its truth is known exactly.</div>",
        "_probe": {"title": "PF00042 1–60, position 23", "text": text, "words": words,
                   "shown": list(range(21)), "rest": None, "rows": list(SERIES), "label": 15},
        "_logits": logits(21).tobytes(),
        "_link": "protgpt2-tiny;T=2",
        "_script": "from workbench.lab import Lab\nLab('protgpt2-tiny;T=2')", "_presenter": False,
    }  # fmt: skip


def values(heard: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "settings": SETTINGS,
        "pending": [],
        "heard": heard,
        "answer": None,
        "example": 0,
        **changes,
    }


def status(state: str = "running", **changes: Any) -> dict[str, Any]:
    return {
        "state": state, "title": "Training", "sentence": "with T = 2, α = 0.5, corrected, seed 20.",
        "remark": "", "details": "", "done": 120, "total": 400, "allowed": ALL,
        "kept": [0, 33, 66, 100], "step": 120, "steps": 400, "pins": [], **changes,
    }  # fmt: skip


def logits(words: int, seed: int = 4) -> np.ndarray:
    """``[row, word]`` float32: an oracle with impossible words, and those who learn of it."""
    rng = np.random.default_rng(seed)
    teacher = rng.normal(0, 1.6, words)
    oracle = teacher + rng.normal(0, 0.5, words)
    oracle[-1] = -np.inf
    oracle = np.log(softmax(oracle, 1), where=np.isfinite(oracle), out=np.full(words, -1e30))
    student, baseline = teacher + rng.normal(0, 0.9, words), rng.normal(0, 1, words)
    return np.stack([oracle, teacher, student, baseline]).astype("<f4")


def softmax(row: np.ndarray, temperature: float) -> np.ndarray:
    scaled = row.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max())
    return powers / powers.sum()


def many_words(words: int = 4000) -> dict[str, Any]:
    """An example with a large vocabulary, of which twelve words are drawn."""
    found = logits(words, seed=7)
    shown = [int(i) for i in np.argsort(-found[1])[:12]]
    probe = {
        "title": "a sentence", "text": "Gefitinib [MASK] EGFR .", "label": shown[1],
        "words": [f"word{i}" for i in range(words)], "shown": shown, "rest": "any other word",
        "rows": list(SERIES),
    }  # fmt: skip
    return {"_probe": probe, "_logits": found.tobytes()}


def curves(step: int) -> str:
    steps = np.arange(0, step + 1, 20)
    student = [(int(s), float(8.1 + 12 * np.exp(-s / 40))) for s in steps]
    baseline = [(int(s), float(9.0 + 11 * np.exp(-s / 45))) for s in steps]
    ghost = svg.Ghost("T=10 α=0.1 corrected: 8.03", [(s, v * 1.03) for s, v in student])
    return svg.learning_chart(
        student=student, baseline=baseline, ghosts=[ghost],
        references={"oracle": 7.2, "teacher": 7.6}, steps=400, step=step, running="T=2 α=0.5",
    )  # fmt: skip


def terms() -> str:
    look = "color:#111;padding:6px 10px;"
    bar = "".join(
        f'<div style="{look}width:{share}%;background:{COLOURS[name]}">{name} {share} %</div>'
        for name, share in (("hard", 38), ("soft", 62))
    )
    return f'<div><b>Who is teaching</b><div style="display:flex;margin-top:6px">{bar}</div></div>'
