"""Accuracies with 95 % intervals: streams and checkpoints are resampled as wholes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy import stats

Row = dict[str, Any]


def interval(correct: np.ndarray, asked: np.ndarray) -> tuple[float, float] | None:
    """95 % interval of the accuracy sum(correct) / sum(asked), counts of shape [checkpoints, streams].

    Questions of one stream are not independent, and every checkpoint meets the same streams: so streams and
    checkpoints are resampled as wholes, independently of each other, 10,000 times. The quantiles are those of
    the expanded percentile interval (Hesterberg 2015), since plain ones are too narrow for few streams. With
    two or three checkpoints the part of the interval that comes from training is still too narrow: read the
    accuracies by checkpoint, too. Where every answer is right, or none, resampling shows no spread: then the
    exact binomial bound for as many streams is given. None with fewer than two streams.

    >>> interval(np.array([[8, 0, 4, 4]]), np.array([[8, 8, 8, 8]])) == (0.0, 1.0)   # four streams say little
    True
    """
    checkpoints, streams = correct.shape
    if streams < 2:
        return None
    if correct.sum() in (0, asked.sum()):
        bound = 0.025 ** (1 / streams)
        return (bound, 1.0) if correct.any() else (0.0, 1 - bound)
    by_stream, by_checkpoint = _resamples(streams, 0), _resamples(checkpoints, 1)
    right, total = (((by_checkpoint @ counts) * by_stream).sum(axis=1) for counts in (correct, asked))
    tail = stats.norm.cdf(-np.sqrt(streams / (streams - 1)) * stats.t.ppf(0.975, streams - 1))
    low, high = np.quantile(right / total, [tail, 1 - tail])
    return float(low), float(high)


@cache  # every cell of a table resamples the same numbers of streams and checkpoints
def _resamples(size: int, seed: int) -> np.ndarray:
    """How often each of ``size`` things is drawn, [10000, size]."""
    return np.random.default_rng(seed).multinomial(size, np.full(size, 1 / size), 10_000)


def accuracy_of(cell: Sequence[Row]) -> Row:
    """Accuracy with its interval and what it is made of, over some rows of one agent at one horizon.

    Rows with ``correct`` None could not be scored: they are left out, and counted as ``unscored`` where there are any.
    """
    unscored = sum(row["correct"] is None for row in cell)
    cell = [row for row in cell if row["correct"] is not None]
    if not cell:
        return {
            "accuracy": None, "low": None, "high": None, "by_checkpoint": [], "streams": 0, "questions": 0,
            "checkpoints": 0, "unscored": unscored,
        }  # fmt: skip
    checkpoints, streams = (list(dict.fromkeys(row[name] for row in cell)) for name in ("seed", "stream"))
    correct, asked = np.zeros((2, len(checkpoints), len(streams)))
    for row in cell:
        place = checkpoints.index(row["seed"]), streams.index(row["stream"])
        correct[place] += row["correct"]
        asked[place] += 1
    low, high = interval(correct, asked) or (None, None)
    return {
        "accuracy": float(correct.sum() / asked.sum()),
        "low": low,
        "high": high,
        "by_checkpoint": (correct.sum(axis=1) / asked.sum(axis=1)).tolist(),
        "streams": len(streams),
        "questions": int(asked[0].sum()),
        "checkpoints": len(checkpoints),
    } | ({"unscored": unscored} if unscored else {})


def difference_of(values: Sequence[float], streams: Sequence[str]) -> Row:
    """The mean of paired differences, one a question, whose streams are resampled as wholes.

    ``p`` is two-sided, by swapping the two agents in whole streams at random (10,000 times, or every way where there
    are fewer); None with fewer than two streams, and so are low and high.
    """
    names = list(dict.fromkeys(streams))
    sums, counts = np.zeros((2, len(names)))
    for value, stream in zip(values, streams, strict=True):
        sums[names.index(stream)] += value
        counts[names.index(stream)] += 1
    mean = float(sums.sum() / counts.sum())
    found = {"difference": mean, "low": None, "high": None, "p": None, "streams": len(names), "questions": len(values)}
    if len(names) < 2:
        return found
    weights = _resamples(len(names), 0)
    tail = stats.norm.cdf(-np.sqrt(len(names) / (len(names) - 1)) * stats.t.ppf(0.975, len(names) - 1))
    low, high = np.quantile((weights @ sums) / (weights @ counts), [tail, 1 - tail])
    signs = _signs(len(names))
    extreme = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9
    p = float(extreme.mean()) if 2 ** len(names) <= len(signs) else float((extreme.sum() + 1) / (len(signs) + 1))
    return found | {"low": float(low), "high": float(high), "p": p}


@cache
def _signs(size: int) -> np.ndarray:
    """Ways to swap two agents in streams, [ways, streams] of 1 and -1: all of them, or 10,000 at random."""
    if size <= 13:
        return 1 - 2 * ((np.arange(2**size)[:, None] >> np.arange(size)) & 1).astype(float)
    return np.random.default_rng(2).choice([-1.0, 1.0], (10_000, size))


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number (Holm 1979); None stays None.

    >>> holm([0.01, 0.04, None, 0.03])
    [0.03, 0.06, None, 0.06]
    """
    known = sorted((p, place) for place, p in enumerate(ps) if p is not None)
    found: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        found[place] = largest
    return found
