"""Named-entity recognition, by which distilled biomedical BERTs are judged."""
