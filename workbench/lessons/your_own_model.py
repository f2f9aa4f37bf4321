"""Exercises of notebook 13: what a copy keeps, what can be a teacher, tokens and residues."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from workbench.lessons.question import (
    Exercise,
    Outcome,
    Prediction,
    Wrong,
    call,
    judge_number,
    number,
)

__all__ = ["QUESTIONS", "q1", "q2", "q3"]

#: Below this a KL is rounding: two models with the same weights add in the same order.
_ROUNDING = 1e-6


def _divergence(given: Any) -> tuple[str, str]:
    value = number(given, "The KL to the teacher")
    if value < -_ROUNDING:
        raise Wrong(f"The KL is {value:g}; it should not be below 0.")
    sentence = f"KL to the teacher before the first step: {abs(value):.6f} nats."
    return ("0" if value < _ROUNDING else "above 0"), sentence


q1 = Prediction(
    "13.q1",
    prompt="A student is given all six layers of the Llama, by the map `first:6`, and is not "
    "trained. What is its KL to the teacher?",
    choices=("0", "above 0"),
    right="0",
    verdict=_divergence,
    explanation="Everything was copied: tables, layers, norms and head. A KL above 0 would mean "
    "that a part of the architecture was forgotten, so this is the first thing to try with a "
    "model of your own.",
    hints=(
        "What is left that could differ?",
        "Two models of the same shape with the same numbers in them.",
    ),
)

_LLAMA = {"architectures": ["LlamaForCausalLM"], "num_hidden_layers": 6}
_CASES: tuple[tuple[dict[str, Any], tuple[int, ...], bool, str], ...] = (
    (_LLAMA, (0, 2, 4), True, "a causal language model that has these layers"),
    (_LLAMA, (0, 2, 6), False, "six layers are numbered 0 to 5"),
    (_LLAMA, (5, 5, 5), True, "a layer may be copied several times"),
    (_LLAMA, tuple(range(7)), False, "a map with a layer 6"),
    ({**_LLAMA, "architectures": ["EsmForMaskedLM"]}, (0, 2), False, "a model of another task"),
    ({**_LLAMA, "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
     (0, 2), False, "an encoder and a decoder"),
    ({**_LLAMA, "architectures": ["BartForCausalLM"], "is_encoder_decoder": True}, (0,), False,
     "the name ends well, and still it is an encoder and a decoder"),
)  # fmt: skip


def _judge_suits(function: Callable) -> Outcome:
    for config, layers, expected, why in _CASES:
        given = call(function, dict(config), list(layers))
        if not isinstance(given, bool):
            raise Wrong(f"It should return True or False; it returned {given!r}.")
        if given != expected:
            raise Wrong(f"For {config} and the map {list(layers)} it says {given}: {why}.")
    return Outcome("correct", "A few lines of config.json say all of that: no weight is read.")


q3 = Exercise(
    "13.q3",
    prompt="Write what the workbench asks first: can a model with this `config.json` (a dictionary)"
    " be the teacher of a recipe for causal language models, with this layer map (a list of "
    "numbers)?",
    starter='''\
def suits(config, layer_map):
    """Whether the teacher is a causal language model that has these layers."""
    ...


q3.check(suits)''',
    answer='''\
def suits(config, layer_map):
    """Whether the teacher is a causal language model that has these layers."""
    causal = any(name.endswith("ForCausalLM") for name in config["architectures"])
    single = not config.get("is_encoder_decoder", False)
    has = all(0 <= layer < config["num_hidden_layers"] for layer in layer_map)
    return causal and single and has


q3.check(suits)''',
    judge=_judge_suits,
    explanation="The name of the architecture ends in what it does, `is_encoder_decoder` tells a "
    "sequence-to-sequence model, and layers are numbered from 0 to `num_hidden_layers` − 1.",
    hints=(
        "Three questions: what does it do, is it one model or two, and are the layers there?",
        '`name.endswith("ForCausalLM")`, `config.get("is_encoder_decoder", False)`, and '
        '`0 <= layer < config["num_hidden_layers"]`.',
    ),
)

_PER_TOKEN, _RESIDUES = 900.0, 2.5
_PER_RESIDUE = _PER_TOKEN ** (1 / _RESIDUES)

q2 = Exercise(
    "13.q2",
    prompt="A teacher has tokens of 2.5 residues on average and a perplexity of 900 per token. "
    "Which perplexity per residue is that?",
    starter="per_residue = ...\nq2.check(per_residue)",
    answer="per_residue = 900 ** (1 / 2.5)\nq2.check(per_residue)",
    judge=judge_number(
        "per_residue",
        _PER_RESIDUE,
        right="15.2: now it can stand beside a model with one token a residue.",
        near=(
            (_PER_TOKEN / _RESIDUES, "A perplexity is a product of chances: take a root."),
            (_PER_TOKEN**_RESIDUES, "That is the other way round: a residue is easier to tell."),
        ),
        otherwise="The log-likelihood of a token is shared by 2.5 residues.",
    ),
    explanation="ln 900 nats a token are ln 900 / 2.5 = 2.72 nats a residue, and e^2.72 = 15.2.",
    hints=(
        "Perplexity is exp of the mean negative log-likelihood.",
        "Divide ln 900 by 2.5, and take exp.",
    ),
)  # fmt: skip

QUESTIONS = (q1, q2, q3)
