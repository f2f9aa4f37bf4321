"""The student leaves with papers: its model card, and the way to the hub."""
