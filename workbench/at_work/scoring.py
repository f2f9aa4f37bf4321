"""Functions that answer a list of sequences, as a service would: from letters to scores."""

from __future__ import annotations

import sys
from collections.abc import Callable

from workbench.lazily import functional, torch

#: From a list of sequences to whatever is answered; what it returns is not looked at.
Score = Callable[[list[str]], object]


def likelihoods(model, tokenizer) -> Score:
    """Scores sequences by a causal language model: from letters to log-likelihoods, in nats.

    Everything from the text on is part of the answer: cutting it into tokens, too. Sequences longer
    than the model reads are cut off. Scores are sums over all tokens and the end of the sequence.

    Args:
        model: in eval mode.
        tokenizer: its tokenizer.
    """
    from workbench import corpora, models
    from workbench.foreign import dialects

    form = corpora.format_of(model.config, tokenizer)
    begin, end = dialects.first_token(tokenizer), tokenizer.eos_token_id
    longest = models.context(model, sys.maxsize)
    device = next(model.parameters()).device

    @torch.no_grad()
    def score(sequences: list[str]) -> list[float]:
        texts = [corpora.write_sequence(sequence, form) for sequence in sequences]
        encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        rows = [torch.tensor([begin, *ids, end][:longest]) for ids in encoded]
        ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100).to(device)
        labels = ids[:, 1:]
        # No mask: padding stands on the right, where no real token of a causal model looks.
        logits = model(input_ids=ids.clamp(min=0), use_cache=False).logits[:, :-1]
        losses = functional.cross_entropy(
            logits.transpose(1, 2).float(), labels, ignore_index=-100, reduction="none"
        )
        return (-losses.sum(1)).tolist()

    return score
