"""The student where it is used: steady load, and ensembles."""
