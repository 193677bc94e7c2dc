"""Which averages to take: closed forms where they exist, else the cheapest rule that is right."""

from typing import Any

import numpy as np

from learndyn._checks import is_concrete
from learndyn.averages._beyond_constant import beyond_constant
from learndyn.averages._closed import ClosedForm, closed_form, has_closed_form
from learndyn.averages._fallback import node_averages
from learndyn.averages._mixed import mixed_averages
from learndyn.averages._nodes import NodeAverages
from learndyn.averages._piecewise_linear import piecewise_linear_averages
from learndyn.averages._quadrature import AbstractNodes
from learndyn.averages._rare import Teacher
from learndyn.averages._series import series_averages
from learndyn.averages._split import one_unit_averages
from learndyn.averages._types import AbstractAverages
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import GroupedOverlaps, Overlaps, Weights


def choose_averages(
    problem: Problem,
    k: int,
    m: int,
    *,
    rule: AbstractRule | None = None,
    biases: bool,
    averages: AbstractNodes | AbstractAverages | str | Any = None,
    reach: float | None = None,
    teacher: Teacher | None = None,
) -> AbstractAverages:
    """Averages ready for `problem` and `rule` with k student and m teacher units.

    Args:
        problem: the teacher-student problem.
        k, m: numbers of student and teacher units.
        rule: None: for the generalisation error alone.
        biases: whether there are biases.
        averages: None chooses (closed form; what piecewise linear units have; series for smooth
            units with squared loss; nodes); "closed" insists on a closed form; `Trapezoid`,
            `GaussHermite`, `QuasiMonteCarlo` and `MonteCarlo` objects are used as given, with a
            `SymmetryWarning` where they do not keep the problem's symmetries.
        reach: the largest standard deviation of a field to expect (see `reach_of`); None: 1.
        teacher: near which state rare events of a label are looked for (see `teacher_of`).

    Raises:
        ValueError: for an unknown option, or "closed" where there is no closed form.

    Example:
        >>> rule = ld.SGD(lr=0.5)
        >>> averages.choose_averages(ld.Problem(), 1, 1, rule=rule, biases=False)
        ClosedForm()
        >>> tanh = ld.Problem(ld.Tanh(), ld.Tanh())
        >>> type(averages.choose_averages(tanh, 1, 1, rule=rule, biases=False)).__name__
        'SeriesAverages'
    """
    if isinstance(averages, AbstractAverages):
        return averages
    if averages == "closed":
        return closed_form(problem, rule, biases=biases)
    if averages is None and has_closed_form(problem, rule, biases=biases):
        return ClosedForm()
    found = None
    if averages is None:
        sizes = {"k": k, "m": m, "rule": rule, "biases": biases}
        found = piecewise_linear_averages(problem, **sizes)
        found = found or one_unit_averages(problem, **sizes)
        found = found or series_averages(problem, **sizes, reach=reach)
        found = found or mixed_averages(problem, **sizes, reach=reach)
    if found is not None:
        return found
    nodes = choose_nodes(problem, k, m, rule=rule, biases=biases, nodes=averages, reach=reach)
    if averages is not None:
        return nodes
    return beyond_constant(problem, k, m, nodes, rule=rule, biases=biases, teacher=teacher) or nodes


def choose_nodes(
    problem: Problem,
    k: int,
    m: int,
    *,
    rule: AbstractRule | None = None,
    biases: bool,
    nodes: AbstractNodes | str | Any = None,
    reach: float | None = None,
    more: int = 0,
) -> NodeAverages:
    """Averages over nodes, which are there for every problem.

    Args:
        problem: the teacher-student problem.
        k, m: numbers of student and teacher units.
        rule: as for `choose_averages`.
        biases: whether there are biases.
        nodes: None: a lattice for smooth problems of at most five dimensions, else quasi-Monte
            Carlo, both closed under the problem's symmetries.
        reach: as for `choose_averages`.
        more: further dimensions of nodes.

    Raises:
        ValueError: for anything else than nodes.

    Example:
        >>> problem, start = ld.Problem(), ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> gauss = averages.GaussHermite(20)
        >>> ready = averages.choose_nodes(problem, 1, 1, biases=False, nodes=gauss)
        >>> round(float(ready.generalisation_error(problem, start)), 4)
        0.1788
    """
    if nodes is not None and not isinstance(nodes, AbstractNodes):
        raise ValueError(
            'averages must be None, "closed", Trapezoid(...), GaussHermite(...), '
            f"QuasiMonteCarlo(...) or MonteCarlo(...); got {nodes!r}."
        )
    exact_error = nodes is None and has_closed_form(problem, biases=biases)
    keywords = {"biases": biases, "exact_error": exact_error, "reach": reach, "more": more}
    return node_averages(problem, k, m, rule=rule, nodes=nodes, **keywords)


def has_biases(
    state: Overlaps | Weights | GroupedOverlaps, rule: AbstractRule | None = None
) -> bool:
    """Whether biases matter: not where all are known to be 0 and `rule` does not train them."""
    given = [b for b in (state.b, state.b_teacher) if b is not None]
    trained = rule is not None and rule.trains_biases
    known_zero = is_concrete(given) and not any(np.any(np.asarray(b)) for b in given)
    return bool(given) and (trained or not known_zero)
