"""How long what is left of a sweep will take: predicted costs, and what finished parts took."""

from collections.abc import Hashable

import numpy as np

_PATIENCE = 1 / 16
"""Share by which the number of measured parts grows before all is estimated again: estimates of a
million parts then cost a few tens of passes over them."""


_SHORTEST = 1e-9
"""Seconds of a part at least, of which a clock may see none: all ratios stay positive."""


class Outlook:
    """Seconds for each part of a sweep, an item or a block of a store, learned from those finished.

    Parts stand in the order of the plan: those of one kind, which share a compiled program,
    together, and by predicted cost. How far a prediction was off is interpolated between finished
    parts of its kind, so that any function of the predicted cost is learned; kinds that none was
    finished of are as far off as all are together.

    costs: (parts,) predicted, in any unit. kinds: (parts,) numbers of their programs.
    at_once: how many parts are run side by side at present.
    """

    def __init__(self, costs: np.ndarray, kinds: np.ndarray):
        good = np.isfinite(costs) & (costs > 0)
        usual = np.median(costs[good]) if good.any() else 1.0
        self.costs, self.kinds = np.where(good, costs, usual), kinds
        self.at_once = 1
        self.left = np.ones(len(costs), bool)
        self._seconds = np.full(len(costs), np.nan)
        self._met: set[tuple[Hashable, int]] = set()
        self._compiling: dict[int, int] = {}
        self._steady: set[int] = set()
        self._learned, self._measured = self.costs, 0

    def finished(self, part: int, seconds: float, process: Hashable = 0) -> None:
        """Note what a part took in a process.

        The first part of each kind that a process does takes its compilation, too, and counts only
        until there is another one of its kind.
        """
        self.left[part] = False
        kind = int(self.kinds[part])
        if (process, kind) in self._met:
            self._seconds[self._compiling.pop(kind, part)] = np.nan
            self._steady.add(kind)
        else:
            self._met.add((process, kind))
            if kind in self._steady or kind in self._compiling:
                return
            self._compiling[kind] = part
        self._seconds[part] = max(seconds, _SHORTEST)
        self._measured += 1

    def seconds(self) -> np.ndarray | None:
        """(parts,) What each part takes; None where nothing was measured."""
        known = np.flatnonzero(np.isfinite(self._seconds))
        if len(known) and self._measured > 0:
            self._learned, self._measured = self._estimated(known), -int(_PATIENCE * len(known))
        return self._learned if len(known) else None

    def seconds_left(self) -> float | None:
        """Seconds of work that are left, in one process; None where nothing was measured."""
        learned = self.seconds()
        return None if learned is None else float(learned[self.left].sum())

    def dearest_first(self, parts: list[int]) -> list[int]:
        """Parts by what they take, as far as is known; those that take the same as they were.

        Processes that share the work then end at about the same time.
        """
        learned = self.seconds()
        costs = self.costs if learned is None else learned
        return [parts[i] for i in np.argsort(-costs[parts], kind="stable")]

    def _estimated(self, known: np.ndarray) -> np.ndarray:
        ratios = np.full(len(self.costs), self._seconds[known].sum() / self.costs[known].sum())
        for kind in np.unique(self.kinds[known]):
            alike, own = np.flatnonzero(self.kinds == kind), known[self.kinds[known] == kind]
            ratios[alike] = np.interp(alike, own, self._seconds[own] / self.costs[own])
        return ratios * self.costs
