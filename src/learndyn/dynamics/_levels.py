"""The levels of description in one table, which the command line, plots, sweeps and tests share."""

from collections.abc import Callable
from typing import Any, NamedTuple

from learndyn._titles import TITLES
from learndyn.dynamics._langevin import simulate_langevin
from learndyn.dynamics._ode import solve_ode
from learndyn.dynamics.chain import simulate_chain
from learndyn.dynamics.sgd import simulate_sgd, simulate_sgd_in_parts


class Level(NamedTuple):
    """One level of description.

    name: in datasets and on the command line.
    function: (problem, rule, start, ts, ...) -> `Trajectory`.
    weights: whether it starts from weights, else from overlaps.
    random: whether it takes a key, so that runs differ.
    exact: whether its law is that of SGD on weights with Gaussian inputs at finite n.
    in_parts: the same function for a progress bar; it also takes `report` and `parts`.
    """

    name: str
    function: Callable[..., Any]
    weights: bool = False
    random: bool = True
    exact: bool = False
    in_parts: Callable[..., Any] | None = None

    @property
    def title(self) -> str:
        """The name for people."""
        return TITLES[self.name]


LEVELS = {
    level.name: level
    for level in (
        Level("ode", solve_ode, random=False),
        Level("sgd", simulate_sgd, weights=True, exact=True, in_parts=simulate_sgd_in_parts),
        Level("chain", simulate_chain, exact=True),
        Level("langevin", simulate_langevin),
    )
}
"""The levels by name, in the order of the command line."""


def level_of(function: Callable[..., Any]) -> Level | None:
    """The level whose function this is, also under `functools.partial`; None for any other."""
    function = getattr(function, "func", function)
    return next((level for level in LEVELS.values() if level.function is function), None)
