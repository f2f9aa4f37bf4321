"""Bootstrap intervals of figures that are means over tokens: rows are drawn, not tokens.

Tokens of one sequence depend on each other; drawn singly they would make every interval too
narrow. So whole held-out rows (a sequence, or a block of a long one) are drawn with replacement,
and each figure is computed from the sums of the rows drawn (Efron & Tibshirani, "An Introduction
to the Bootstrap", 1993, chapters 6 and 13: the percentile interval).
"""

from __future__ import annotations

import numpy as np

RESAMPLES, LEVEL = 1000, 0.95
#: Most numbers of resampled rows held at once, 8 bytes each.
_CHUNK = 2**20


class RowSums:
    """What a model's answers add up to, row by row.

    Args:
        rows: how many there are.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        self._sums = {"tokens": np.zeros(rows)}

    def add(self, members: np.ndarray, **values: np.ndarray) -> None:
        """Add some tokens.

        Args:
            members: ``[tokens]``, the row of each.
            values: ``[tokens]`` each, by name: "negative_log_likelihood", in nats, and others.
        """
        self._sums["tokens"] += np.bincount(members, minlength=self._rows)
        for name, value in values.items():
            own = self._sums.setdefault(name, np.zeros(self._rows))
            own += np.bincount(members, weights=value, minlength=self._rows)

    def intervals(
        self, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0
    ) -> dict[str, list[float]] | None:
        """Percentile intervals, ``[low, high]`` of each figure that was added.

        Perplexity is the exponential of the mean negative log-likelihood; the others are means.

        Args:
            resamples: drawings of as many rows as there are.
            level: share of drawings inside.
            seed: of the drawings; the same for every model, so that models are judged on the
                same drawings.

        Returns:
            None with fewer than two rows.
        """
        sums = np.stack(list(self._sums.values()), axis=1)
        sums = sums[sums[:, 0] > 0]
        count = len(sums)
        if count < 2:
            return None
        rng = np.random.default_rng([seed, 0x726F7773])
        drawn = []
        at_once = max(1, _CHUNK // count)
        for start in range(0, resamples, at_once):
            now = min(at_once, resamples - start)
            places = rng.integers(count, size=(now, count)) + count * np.arange(now)[:, None]
            times = np.bincount(places.ravel(), minlength=now * count).reshape(now, count)
            drawn.append(times @ sums)
        totals = np.concatenate(drawn)
        means = totals[:, 1:] / totals[:, :1]
        tail = 50 * (1 - level)
        ends = np.percentile(means, [tail, 100 - tail], axis=0)
        names = list(self._sums)[1:]
        found = {name: [float(v) for v in ends[:, i]] for i, name in enumerate(names)}
        likelihood = found.pop("negative_log_likelihood")
        # Held where float64 and JSON end, as the perplexity itself is.
        return {"perplexity": [float(np.exp(min(v, 700.0))) for v in likelihood], **found}
