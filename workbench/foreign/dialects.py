"""How a tokenizer wants to be spoken to: marks around a text, residues, line breaks.

Every model comes with a tokenizer of its own. What a recipe has to know about it is found by
trying it on a few letters, not by its class.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.worlds.proteins import AMINO_ACIDS

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def reads_residues(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a token is a residue: its only words are single letters, the twenty among them."""
    words = {token for token in tokenizer.get_vocab() if token.isalpha()}
    return words.issuperset(AMINO_ACIDS) and all(len(word) == 1 for word in words)


def write_residues(sequence: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """A sequence as a tokenizer of residues reads it: with spaces, where it needs them.

    ESM's tokenizer takes the bare letters; ProtBert's reads what has no spaces as one unknown word.
    """
    bare = tokenizer("ACD", add_special_tokens=False)["input_ids"]
    return sequence if len(bare) == 3 else " ".join(sequence)


def marks(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Tokens that stand before and after every text: ``[CLS]`` and ``[SEP]`` of a BERT, say."""
    inner = tokenizer("A", add_special_tokens=False)["input_ids"]
    full = tokenizer("A")["input_ids"]
    for start in range(len(full) - len(inner) + 1):
        if full[start : start + len(inner)] == inner and len(full) > len(inner):
            return full[:start], full[start + len(inner) :]
    ends = tokenizer.cls_token_id, tokenizer.sep_token_id
    return ([ends[0]], [ends[1]]) if None not in ends else ([], [])


def first_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """What a sequence begins with: the token for it; where there is none, the one that ends it."""
    begins = tokenizer.bos_token_id
    return tokenizer.eos_token_id if begins is None else begins


def hidden_example(tokenizer: PreTrainedTokenizerBase) -> str:
    """A text with one word hidden, or one residue, that says something to a masked model."""
    if reads_residues(tokenizer):
        before, after = (write_residues(part, tokenizer) for part in ("MKTAYIAK", "QISFVKSH"))
        return f"{before} {tokenizer.mask_token} {after}"
    return f"Gefitinib inhibits {tokenizer.mask_token} ."


def breaks_lines(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether a line break is a token: it comes back when a text is decoded."""
    ids = tokenizer("A\nA", add_special_tokens=False)["input_ids"]
    return "\n" in tokenizer.decode(ids)
