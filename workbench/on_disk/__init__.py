"""Corpora that are not held in memory: tokens, rows and batches in files."""
