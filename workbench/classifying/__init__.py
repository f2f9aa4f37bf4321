"""Classifiers of whole sequences: models, pairs of peptide and HLA, quality."""
