"""What a teacher's own training is worth, measured on a teacher too small to be worth much."""

from __future__ import annotations

import pytest

from workbench.bench import strangers
from workbench.worlds import proteins

SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 4,
         "num_attention_heads": 2, "max_position_embeddings": 96}  # fmt: skip


def test_every_length_of_training_has_its_students_and_a_longer_one_a_better_teacher():
    found = strangers.measure({"llama": (1, 30), "esm": (1,)}, steps=2, count=80, **SMALL)
    rows = found["teachers"]
    assert [(r["name"], r["teacher_steps"]) for r in rows] == [
        ("llama", 1), ("llama", 30), ("esm", 1)
    ]  # fmt: skip
    assert rows[1]["perplexity"] < rows[0]["perplexity"]
    for row in rows:
        assert [s["seed"] for s in row["students"]] == [0, 1]
        # Copied layers: two steps lead no student far from its teacher.
        for student in row["students"]:
            assert 0 < student["kl_to_teacher"][0] < 1 and 5 < student["student"] < 60
    said = strangers.text(found).splitlines()
    assert len(said) == 5 and said[2].split()[:2] == ["llama", "30"]


def test_frequencies_alone_have_the_perplexity_of_their_entropy():
    assert strangers.frequencies(["AC"], ["AACC"]) == pytest.approx(2)
    assert strangers.frequencies(["AAAC"], ["A"]) == pytest.approx(4 / 3)
    drawn = proteins.sample(300, seed=12)
    assert 15 < strangers.frequencies(drawn, drawn) < 20
