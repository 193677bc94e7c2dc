"""Why a run stopped: a number in every trajectory, so that one bad run spoils no sweep."""

from enum import IntEnum


class Result(IntEnum):
    """Outcome of a run. Whatever is not `SUCCESS` comes with NaN after the time it happened.

    Attributes:
        SUCCESS: 0, the run reached its last time.
        DIVERGED: 1, the state grew beyond bounds or became NaN.
        MAX_STEPS: 2, the solver used up its steps.
        INVALID_INPUT: 3, a traced input was invalid.
        SOLVER_FAILED: 4, the solver gave up for another reason.
        ERROR: 5, the run raised an error, whose message a sweep keeps.
        NOT_RUN: 6, a sweep was interrupted before this run.
        BAD_RATE: 7, a schedule gave a learning rate that was negative or NaN.
        STALLED: 8, the gradient at the start is exactly zero.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> ld.Result(int(run.result)).name, ld.Result.DIVERGED.value
        ('SUCCESS', 1)
        >>> print(ld.Result.NOT_RUN.meaning)
        the sweep was interrupted before this run
    """

    SUCCESS = 0
    DIVERGED = 1
    MAX_STEPS = 2
    INVALID_INPUT = 3
    SOLVER_FAILED = 4
    ERROR = 5
    NOT_RUN = 6
    BAD_RATE = 7
    STALLED = 8

    @property
    def meaning(self) -> str:
        """A sentence for a person."""
        return _MEANINGS[self]


_MEANINGS = {
    Result.SUCCESS: "the run reached its last time",
    Result.DIVERGED: "the state grew beyond bounds or became NaN, or time could not resolve how "
    "fast it moved: the learning rate is too large",
    Result.MAX_STEPS: "the solver used up max_steps: raise it, loosen rtol, or, where the problem "
    "is stiff (small steps though little happens), choose a solver for stiff problems, such as "
    "solver=diffrax.Kvaerno5()",
    Result.INVALID_INPUT: "a traced input was invalid: NaN, a negative noise or rate, times not "
    "increasing, or overlaps that are not symmetric and positive semi-definite",
    Result.SOLVER_FAILED: "the solver gave up for another reason",
    Result.ERROR: "the run raised an error; a sweep keeps its message in the attribute errors",
    Result.NOT_RUN: "the sweep was interrupted before this run",
    Result.BAD_RATE: "a schedule gave a learning rate that was negative or NaN",
    Result.STALLED: "the start is a critical point with a loss: its gradient is exactly zero, so "
    "gradient flow and descent would stay there for ever",
}

DIVERGENCE_LIMIT = 1e10
"""A squared norm per input dimension beyond which no learning run ever returns."""
