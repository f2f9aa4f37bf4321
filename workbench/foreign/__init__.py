"""Models that no recipe names: their heads, their tokenizers, whether they can teach."""
