"""The README of an export: how to run it with onnxruntime and tokenizers alone."""

from __future__ import annotations

from typing import Any

from workbench import corpora
from workbench.cards import card_usage
from workbench.cards.card_text import plain
from workbench.cards.model_card import named
from workbench.classifying import classifiers
from workbench.foreign import dialects

#: Texts that the built-in models, and the published ones, understand.
PROTEIN = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVV"
#: The groove of HLA-A*02:01 and a peptide of HIV-1 that it presents.
PAIR = classifiers.write("YFAMYGEKVAHTHVDTLYVRYHYYTWAVLAYTWY" + "SLYNTVATL")

_BEGIN = """\
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")
model = onnxruntime.InferenceSession("{file}")
"""
_GENERATION = """\
begin, end = (tokenizer.token_to_id(mark) for mark in {marks!r})
ids = np.array([[begin, *tokenizer.encode({text!r}, add_special_tokens=False).ids, end]])
{feed}
(logits,) = model.run(["logits"], feed)  # [batch, length, vocabulary]
scores = logits[0, :-1].astype(np.float64)
scores -= np.logaddexp.reduce(scores, axis=-1, keepdims=True)
likelihoods = scores[np.arange(len(scores)), ids[0, 1:]]
print("perplexity", np.exp(-likelihoods.mean()))
"""
_CLASSIFICATION = """\
ids = np.array([tokenizer.encode({text!r}).ids])
{feed}
(logits,) = model.run(["logits"], feed)  # [batch, classes]
odds = np.exp(logits[0] - logits[0].max())
print(dict(zip({classes!r}, odds / odds.sum())))
"""
_FILL_MASK = """\
ids = np.array([tokenizer.encode({text!r}).ids])
{feed}
(logits,) = model.run(["logits"], feed)  # [batch, length, vocabulary]
place = list(ids[0]).index(tokenizer.token_to_id({mask!r}))
best = np.argsort(-logits[0, place])[:5]
print([tokenizer.id_to_token(int(i)) for i in best])
"""


def program(task: str, model: Any, tokenizer: Any, *, masked: bool, file: str) -> str:
    """A program that asks the exported model something, with numpy beside the two packages.

    Args:
        task: its name, as the hub has it.
        model: that was exported.
        tokenizer: its own.
        masked: whether the file wants a mask of real tokens.
        file: name of the ONNX file.
    """
    mask = ', "attention_mask": np.ones_like(ids)' if masked else ""
    feed = f'feed = {{"input_ids": ids{mask}}}'
    if task == "text-generation":
        text = corpora.write_sequence(PROTEIN, corpora.format_of(model.config, tokenizer))
        marks = tokenizer.convert_ids_to_tokens(
            [dialects.first_token(tokenizer), tokenizer.eos_token_id]
        )
        body = _GENERATION.format(marks=marks, text=text, feed=feed)
    elif task == "fill-mask":
        text = dialects.hidden_example(tokenizer)
        body = _FILL_MASK.format(mask=tokenizer.mask_token, text=text, feed=feed)
    else:
        names = [model.config.id2label[i] for i in range(model.config.num_labels)]
        text = PAIR if tuple(names) == classifiers.CLASSES else card_usage.example(tokenizer)
        body = _CLASSIFICATION.format(text=text, classes=names, feed=feed)
    return _BEGIN.format(file=file) + body


def text(found: dict[str, Any], code: str, *, pad: int, own_tokenizer: bool) -> str:
    """The whole README.

    Args:
        found: figures of `exporting.export`.
        code: of `program`.
        pad: token that rows of a batch are filled up with.
        own_tokenizer: whether there is a tokenizer.json.
    """
    from workbench.portable import table

    masked = "attention_mask" in found["inputs"]
    hidden = "and their `attention_mask` is 0 there" if masked else "no real token sees them"
    lines = [
        f"# {plain(named(found['model']))} as ONNX",
        "",
        f"Task: {found['task']}. Input: {' and '.join(f'`{i}`' for i in found['inputs'])}, int64 "
        f"`[batch, length]`, any batch, up to {found['longest']} tokens. Output: `logits`. Rows "
        f"of a batch are filled up on the right with token {pad}; {hidden}.",
        "",
        "To run it, no PyTorch is needed: `pip install onnxruntime tokenizers`.",
        "",
    ]
    if not own_tokenizer:
        lines += [
            "This model's tokenizer has no tokenizer.json: make the tokens with `transformers` "
            "(`AutoTokenizer.from_pretrained`) instead of the `tokenizers` of this program.",
            "",
        ]
    lines += ["```python", code.rstrip("\n"), "```", ""]
    if found["files"]["int8"]:
        lines += [
            "`model_int8.onnx` is the same with weights in int8; give its name instead. It rounds "
            "what flows through it by the range of the whole batch, so an answer depends a "
            "little on what else is in the batch.",
            "",
        ]
    lines += ["Measured when it was exported:", "", "```", table.text(found), "```", ""]
    return "\n".join(lines)
