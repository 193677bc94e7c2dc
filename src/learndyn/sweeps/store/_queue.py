"""Blocks that wait for a process, the dearest first."""

from learndyn.sweeps._outlook import Outlook

_PATIENCE = 1 / 16
"""Share of the waiting blocks after which they are put in order again, with what was learned since:
sorting a million blocks is then done some 200 times."""


class Queue:
    """Blocks in the order of what they are thought to take, which finished ones correct."""

    def __init__(self, outlook: Outlook, blocks: list[int]):
        self.outlook = outlook
        self._cheapest_first: list[int] = []
        self._sort(blocks)

    def __bool__(self) -> bool:
        return bool(self._cheapest_first)

    def take(self) -> int:
        """The dearest block."""
        if self._taken > _PATIENCE * len(self._cheapest_first):
            self._sort(self._cheapest_first[::-1])
        self._taken += 1
        return self._cheapest_first.pop()

    def again(self, block: int) -> None:
        """Put a block back whose process died; it comes last."""
        self._cheapest_first.insert(0, block)

    def _sort(self, blocks: list[int]) -> None:
        self._cheapest_first = self.outlook.dearest_first(blocks)[::-1]
        self._taken = 0
