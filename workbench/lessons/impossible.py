"""Models that cannot be distilled, for notebook 13: everything but their weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from workbench.teaching import strangers

#: What stands in the place of weights; nobody gets as far as reading it.
NO_WEIGHTS = "These are no weights.\n"


def make(directory: Path | str) -> dict[str, Path]:
    """Write a directory for each; by name: t5, other-vocabulary, own-code, pickle."""
    from transformers import LlamaConfig, T5Config

    tokenizer = strangers.decoder_tokenizer()
    tokens = len(tokenizer)
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    llama = LlamaConfig(**small, vocab_size=tokens, architectures=["LlamaForCausalLM"])
    larger = LlamaConfig(**small, vocab_size=32_000, architectures=["LlamaForCausalLM"])
    t5 = T5Config(vocab_size=tokens, architectures=["T5ForConditionalGeneration"])
    own = {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}}
    wanted: dict[str, tuple[Any, dict[str, Any], str]] = {
        "t5": (t5, {}, "model.safetensors"),
        "other-vocabulary": (larger, {}, "model.safetensors"),
        "own-code": (llama, own, "model.safetensors"),
        "pickle": (llama, {}, "pytorch_model.bin"),
    }
    made = {}
    for name, (config, changed, weights) in wanted.items():
        place = Path(directory) / name
        config.save_pretrained(place)
        tokenizer.save_pretrained(place)
        stated = json.loads((place / "config.json").read_text(encoding="utf-8"))
        (place / "config.json").write_text(json.dumps({**stated, **changed}), encoding="utf-8")
        (place / weights).write_text(NO_WEIGHTS, encoding="utf-8")
        made[name] = place
    return made
