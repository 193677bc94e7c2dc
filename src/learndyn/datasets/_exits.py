"""Where one learning curve rests, and when it falls below a level."""

from typing import NamedTuple

import numpy as np

WIDTH = 0.1
"""A curve rests while it stays within this share of a value: ten times the scatter of eg on a
plateau at n = 1000, and small against the fall to half that ends a plateau."""


class Rest(NamedTuple):
    """The plateau of one curve; NaN where it has none."""

    level: float
    begin: float
    end: float
    exit: float


NO_REST = Rest(np.nan, np.nan, np.nan, np.nan)


def first_below(times: np.ndarray, values: np.ndarray, level: float) -> float:
    """The first time at which the polygon through (times, values) is below `level`, else NaN."""
    below = np.flatnonzero(values < level)
    if not below.size:
        return np.nan
    i = int(below[0])
    if i == 0 or not np.isfinite(values[i - 1]):
        return float(times[i])
    # Linear interpolation between saved times
    part = (values[i - 1] - level) / (values[i - 1] - values[i])
    return float(times[i - 1] + part * (times[i] - times[i - 1]))


def longest_rest(times: np.ndarray, values: np.ndarray, width: float, fraction: float) -> Rest:
    """The longest stretch within `width` of a value, among those after which the curve falls below
    `fraction` of it in less time than the stretch took; exponentials and power laws have none."""
    kept = np.isfinite(values) & (values > 0)
    times, values = times[kept], values[kept]
    if len(values) < 2:
        return NO_REST
    best, longest = NO_REST, 0.0
    for first, last in sorted(_stretches(values, width)):
        stay = times[last] - times[first]
        if stay <= longest:
            continue
        level = float(np.median(values[first : last + 1]))
        out = first_below(times[last:], values[last:], fraction * level)
        if out - times[last] <= stay:
            best, longest = Rest(level, float(times[first]), float(times[last]), out), stay
    return best


def _stretches(values: np.ndarray, width: float) -> set[tuple[int, int]]:
    """First and last index of the stretch about each value that stays within `width` of it."""
    count = len(values)
    index = np.arange(count)
    away = np.abs(values - values[:, None]) > width * values[:, None]
    after = np.where(away & (index > index[:, None]), index, count).min(axis=1)
    before = np.where(away & (index < index[:, None]), index, -1).max(axis=1)
    return set(zip((before + 1).tolist(), (after - 1).tolist(), strict=True))
