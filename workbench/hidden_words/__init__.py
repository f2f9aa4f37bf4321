"""Masked language models: sentences, masks, heads, and what is said of hidden words."""
