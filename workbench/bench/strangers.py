"""What a teacher's own training is worth to its students: notebook 13's Llama and ESM.

Each teacher is trained for two lengths of time. From each, students of two seeds learn as in the
notebook, on proteins that the teacher has not seen.
"""

from __future__ import annotations

import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Recipe and options of each teacher's students, as in the notebook.
STUDENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("protgpt2-tiny", {"init": "2i", "temperature": 2, "alpha": 0.1}),
    "esm": ("compactbiobert", {"init": "2i+1"}),
}
#: Steps of the teacher: those of the notebook, and more.
TEACHER_STEPS: dict[str, tuple[int, ...]] = {"llama": (200, 400), "esm": (200, 800)}
STEPS, SEEDS = 100, (0, 1)
#: Proteins, of the seed that the teachers learn from and of that of the students' data.
PROTEINS, TEACHERS_SEED, SEED = 1500, 12, 13


def measure(
    teacher_steps: Mapping[str, Sequence[int]] = TEACHER_STEPS, *, steps: int = STEPS,
    count: int = PROTEINS, **sizes: int,
) -> dict[str, Any]:  # fmt: skip
    """Train the teachers and their students.

    Args:
        teacher_steps: of each of `STUDENTS` that is wanted.
        steps: of a student.
        count: of proteins for a teacher, and as many others for its students.
        sizes: of the teachers, see `strangers.llama`.

    Returns:
        ``steps``, ``seeds``, ``frequencies`` (held-out perplexity of who knows nothing but how
        frequent each residue is) and a list ``teachers``: ``name``, ``teacher_steps``,
        ``seconds`` of its training, ``perplexity``, and ``students`` with ``seed``, ``student``,
        ``baseline`` and ``kl_to_teacher`` of either, in this order.
    """
    import time

    from workbench import runs
    from workbench.progress import Silent
    from workbench.teaching import strangers
    from workbench.worlds import proteins

    theirs, others = (proteins.sample(count, seed=seed) for seed in (TEACHERS_SEED, SEED))
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "proteins.fasta"
        data.write_text("".join(f">protein {i}\n{s}\n" for i, s in enumerate(others)))
        for name, lengths in teacher_steps.items():
            recipe, options = STUDENTS[name]
            for length in lengths:
                place = Path(scratch) / f"{name}-{length}"
                begun = time.perf_counter()
                getattr(strangers, name)(place, theirs, steps=length, **sizes)
                row = {
                    "name": name, "teacher_steps": length, "seconds": time.perf_counter() - begun,
                    "students": [],
                }  # fmt: skip
                for seed in SEEDS:
                    results = runs.distill(
                        recipe, Path(scratch) / f"{name}-{length}-{seed}", progress=Silent(),
                        brief=True, teacher=str(place), data=str(data), steps=steps, seed=seed,
                        **options,
                    )  # fmt: skip
                    row["perplexity"] = results["teacher"]["perplexity"]
                    roles = [results[role] for role in ("student", "baseline")]
                    row["students"].append(
                        {
                            "seed": seed,
                            "student": roles[0]["perplexity"],
                            "baseline": roles[1]["perplexity"],
                            "kl_to_teacher": [role["kl_to_teacher"] for role in roles],
                        }
                    )
                found.append(row)
    return {
        "steps": steps,
        "seeds": list(SEEDS),
        "frequencies": frequencies(theirs, others),
        "teachers": found,
    }


def frequencies(known: Sequence[str], asked: Sequence[str]) -> float:
    """Perplexity a residue of some proteins for who knows the frequencies in others only."""
    counts, letters = Counter("".join(known)), Counter("".join(asked))
    whole = counts.total()
    surprise = sum(n * -math.log(counts[letter] / whole) for letter, n in letters.items())
    return math.exp(surprise / letters.total())


def text(measured: dict[str, Any]) -> str:
    """The teachers and their students, a line each."""
    lines = [f"{'teacher':<8}{'steps':>6}{'s':>6}{'perplexity':>12}   student, baseline by seed"]
    for row in measured["teachers"]:
        pairs = ";  ".join(f"{s['student']:.2f}, {s['baseline']:.2f}" for s in row["students"])
        lines.append(
            f"{row['name']:<8}{row['teacher_steps']:>6}{row['seconds']:>6.0f}"
            f"{row['perplexity']:>12.2f}   {pairs}"
        )
    return "\n".join(
        [*lines, f"who knows the residues' frequencies alone: {measured['frequencies']:.2f}"]
    )
