"""Where the numbers of a claim stand next to each other, for the drawing on its page."""

import math
from collections.abc import Callable
from typing import NamedTuple

from learndyn.claims._claim import Verdict

_MARGIN = 0.06
"""Share of the width that stays free on either side, so that no mark is cut."""

_LEAST = 0.1
"""Width of the drawing, over the largest number, where all numbers are the same: a tenth shows
them in the middle, whatever their size."""


class Marks(NamedTuple):
    """Places between 0 and 1; low and high: of the measured number less and plus its error.

    control: None where the verdict has no such number, or it is infinite. near, far: the ends of
    the margin around the predicted number, None where the verdict has no margin. With a margin the
    axis is linear inside of it and logarithmic outside: a control may be a million margins away.
    """

    predicted: float
    measured: float
    low: float
    high: float
    control: float | None
    near: float | None
    far: float | None


def marks_of(verdict: Verdict) -> Marks | None:
    """Where to draw a verdict; None where prediction or measurement is no finite number."""
    error = verdict.error if math.isfinite(verdict.error) else 0.0
    measured = verdict.measured
    numbers = [verdict.predicted, measured, measured - error, measured + error]
    if not all(map(math.isfinite, numbers)):
        return None
    has_control = math.isfinite(verdict.control)
    numbers += [verdict.control] if has_control else []
    if has_margin := verdict.margin > 0.0:
        numbers += [verdict.predicted - verdict.margin, verdict.predicted + verdict.margin]
    scale = _scale(verdict) if has_margin else float
    places = _places([scale(x) for x in numbers])
    control = places[4] if has_control else None
    near, far = (places[-2], places[-1]) if has_margin else (None, None)
    predicted, middle, low, high = places[:4]
    return Marks(predicted, middle, low, high, control, near, far)


def _scale(verdict: Verdict) -> Callable[[float], float]:
    """Distances from the prediction in margins: arsinh is linear below one, logarithmic above."""
    return lambda x: math.asinh((x - verdict.predicted) / verdict.margin)


def _places(numbers: list[float]) -> list[float]:
    """Numbers on a line from 0 to 1."""
    lowest, highest = min(numbers), max(numbers)
    width = highest - lowest or _LEAST * max(1.0, abs(highest))
    start = lowest - (0.5 * width if lowest == highest else 0.0)
    inner = 1.0 - 2.0 * _MARGIN
    return [_MARGIN + inner * (x - start) / width for x in numbers]
