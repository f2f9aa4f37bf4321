"""The workbench's own step, paced as its peers are.

own.py FOLDER            the teacher's answers from the cache
own.py FOLDER live       the teacher runs at every step
"""

from __future__ import annotations

import sys
from itertools import cycle

import paced

from workbench import models, workshop
from workbench.config import RunConfig
from workbench.progress import Silent


def main() -> None:
    """Train until the driver says stop."""
    live = sys.argv[2:] == ["live"]
    job = paced.start("workbench, teacher live" if live else "workbench")
    shop = workshop.prepare(RunConfig.from_json(job.config | {"cached": not live}), Silent())
    _, start = job.models()
    if models.fingerprint(start) != models.fingerprint(shop.student.student):
        raise ValueError("the workbench's student does not start as the job's does")
    order = cycle(job.order)
    for _ in job.ticks():
        job.note_loss(shop.student.step(shop.train_batches[next(order)]).values["total"])


if __name__ == "__main__":
    main()
