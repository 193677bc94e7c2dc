"""Where the numbers of a claim stand next to each other, for the drawing on its page."""

import math
from typing import NamedTuple

from learndyn.claims._claim import Verdict

_MARGIN = 0.06
"""Share of the width that stays free on either side, so that no mark is cut."""

_LEAST = 0.1
"""Width of the drawing, over the largest number, where all numbers are the same."""


class Marks(NamedTuple):
    """Places between 0 and 1; low and high: of the measured number less and plus its error.

    control: None where the verdict has no such number, or it is infinite.
    """

    predicted: float
    measured: float
    low: float
    high: float
    control: float | None


def marks_of(verdict: Verdict) -> Marks | None:
    """Where to draw a verdict; None where prediction or measurement is no finite number."""
    error = verdict.error if math.isfinite(verdict.error) else 0.0
    measured = verdict.measured
    numbers = [verdict.predicted, measured, measured - error, measured + error]
    if not all(map(math.isfinite, numbers)):
        return None
    numbers += [verdict.control] if math.isfinite(verdict.control) else []
    lowest, highest = min(numbers), max(numbers)
    width = highest - lowest or _LEAST * max(1.0, abs(highest))
    start = lowest - (0.5 * width if lowest == highest else 0.0)
    inner = 1.0 - 2.0 * _MARGIN
    places = [_MARGIN + inner * (x - start) / width for x in numbers]
    predicted, middle, low, high, *control = places
    return Marks(predicted, middle, low, high, control[0] if control else None)
