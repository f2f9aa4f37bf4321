"""Processes, shards, precision and memory: what a run has under it."""
