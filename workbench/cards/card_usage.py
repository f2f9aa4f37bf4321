"""How a saved student is asked, with transformers and torch alone: code for its model card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.cards.card_text import plain
from workbench.foreign import dialects

#: A molecule whose peptides are well known, and two peptides for it: one with its anchors
#: (P at the second place, L at the last), one without.
_ALLELE = "HLA-B*07:02"
_PEPTIDES = ("SPRWYFYYL", "SDRWYFYYD")
_PROTEIN = "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQAPILSRVGDGTQDNLSGAEKAVQVKVKALPDAQFEVV"
#: Classes that are named before they are only counted.
NAMED = 20
#: "." is what makes the code work in the directory itself, wherever that was copied.
_HERE = '# "." is this directory; elsewhere give its path, or its id on the hub.'


def code(task: str, tokenizer: Any, *, texts: bool = False) -> str:
    """A program that asks the model in the current directory and prints its answers.

    Args:
        task: of the hub: text-generation, text-classification or fill-mask.
        tokenizer: of the model.
        texts: it classifies single texts, not pairs of peptide and HLA.
    """
    lines = {
        "text-generation": _generation,
        "text-classification": _texts if texts else _classification,
        "fill-mask": _fill_mask,
    }[task](tokenizer)
    return "\n".join(["from transformers import pipeline", "", *lines])


def words(task: str, tokenizer: Any, classes: Sequence[str] = ()) -> str:
    """What goes in and what comes out.

    Args:
        task: of the hub.
        tokenizer: of the model.
        classes: of a classifier of single texts.
    """
    if task == "fill-mask" and dialects.reads_residues(tokenizer):
        return (
            "In goes a protein with one residue hidden; out come residues that may have stood "
            "there, with their probabilities."
        )
    if classes:
        names = ", ".join(plain(name) for name in classes[:NAMED])
        more = f" and {len(classes) - NAMED} more" if len(classes) > NAMED else ""
        return (
            "In goes a text, written as in the table that it was trained on (where a token is a "
            "residue, as its tokenizer needs it: see the code); out comes one of the classes "
            f"{names}{more}, with a probability."
        )
    return {
        "text-generation": "In goes the mark that begins a sequence, or the mark and the first "
        "residues of a protein; out comes what follows, drawn from the model's own distribution.",
        "text-classification": "In go the 34 residues of an HLA molecule's pseudo-sequence (as "
        "NetMHCpan chooses them) and then those of a peptide, with a space between any two "
        "letters; out comes whether the peptide binds, with a probability.",
        "fill-mask": "In goes a sentence with one word hidden; out come words that may have stood "
        "there, with their probabilities.",
    }[task]


def _generation(tokenizer: Any) -> list[str]:
    begin = repr(tokenizer.convert_ids_to_tokens(dialects.first_token(tokenizer)))
    # Some tokenizers write that mark themselves; then there would be two.
    alone = ", add_special_tokens=False" if tokenizer("")["input_ids"] else ""
    return [
        _HERE,
        'write = pipeline("text-generation", model=".")',
        f"for answer in write({begin}, num_return_sequences=3{alone}):",
        f'    print(answer["generated_text"].replace({begin}, "").replace("\\n", ""))',
    ]


def _classification(tokenizer: Any) -> list[str]:
    from workbench.worlds import peptides

    known = {allele.name: allele.pseudo_sequence for allele in peptides.built_in_alleles()}
    return [
        _HERE,
        'judge = pipeline("text-classification", model=".")',
        f'pseudo_sequence = "{known[_ALLELE]}"  # of {_ALLELE}',
        f"for peptide in {_PEPTIDES!r}:",
        '    answer = judge(" ".join(pseudo_sequence + peptide))[0]',
        '    print(peptide, answer["label"], round(answer["score"], 3))',
    ]


def _texts(tokenizer: Any) -> list[str]:
    return [
        _HERE,
        'judge = pipeline("text-classification", model=".", truncation=True)',
        f"answer = judge({example(tokenizer)!r})[0]",
        'print(answer["label"], round(answer["score"], 3))',
    ]


def example(tokenizer: Any) -> str:
    """A text for a classifier of texts: a protein where a token is a residue, a sentence else."""
    if dialects.reads_residues(tokenizer):
        return dialects.write_residues(_PROTEIN, tokenizer)
    return "Gefitinib inhibits EGFR ."


def _fill_mask(tokenizer: Any) -> list[str]:
    return [
        _HERE,
        'fill = pipeline("fill-mask", model=".")',
        f"for answer in fill({dialects.hidden_example(tokenizer)!r}, top_k=3):",
        '    print(answer["token_str"], round(answer["score"], 3))',
    ]
