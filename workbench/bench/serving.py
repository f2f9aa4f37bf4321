"""A student at work: latency under load, and k students in the time of one teacher."""

from __future__ import annotations

from typing import Any

#: Most sequences in a call.
MAX_BATCHES = (1, 16)
#: Seconds during which sequences arrive, at each rate; seed of their arrivals.
SECONDS, SEED = 10.0, 3
SEQUENCES = 200


def stream(seconds: float = SECONDS) -> dict[str, Any]:
    """Teacher and stored student of protgpt2-tiny under load, one at a time and in batches.

    Args:
        seconds: during which sequences arrive, at each rate.

    Returns:
        ``models``: names; ``streams``: of `open_load.measure` for each of `MAX_BATCHES`,
        without the queue over time.
    """
    from workbench import models
    from workbench.at_work import open_load
    from workbench.worlds import proteins

    names = {"teacher": "protgpt2", "student": "protgpt2-tiny"}
    scorers = {
        role: open_load.likelihoods(*models.load_causal_lm(name)[:2])
        for role, name in names.items()
    }
    items = proteins.sample(SEQUENCES, seed=SEED)
    found = []
    for max_batch in MAX_BATCHES:
        measured = open_load.measure(
            scorers, items, seconds=seconds, max_batch=max_batch, seed=SEED
        )
        for entry in measured["models"].values():
            for run in entry["runs"]:
                del run["queue"]
        found.append(measured)
    return {"models": names, "streams": found}


def ensemble() -> dict[str, Any]:
    """The stored students of protgpt2-tiny, see `ensembles.compare`."""
    from workbench.at_work import ensemble_students, ensembles

    return ensembles.compare("protgpt2-tiny", ensemble_students.stored(), rounds=25)


def text(measured: dict[str, Any]) -> str:
    """What one of the two found, for people."""
    from workbench.at_work import ensembles, open_load

    if "streams" not in measured:
        return ensembles.table(measured)
    return "\n\n".join(
        f"at most {one['max_batch']} in a call\n{open_load.table(one)}"
        for one in measured["streams"]
    )
