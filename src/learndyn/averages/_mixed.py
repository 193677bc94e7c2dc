"""Averages of additive networks with squared loss, of units with kinks that are not linear between
them, or are so in the student or the teacher alone."""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn.averages._closed import rule_averages, takes_error_signal
from learndyn.averages._fallback import node_averages
from learndyn.averages._places import places
from learndyn.averages._smooth_students import smooth_student_products
from learndyn.averages._split import SplitQuadrature
from learndyn.averages._types import AbstractAverages, half_square
from learndyn.integrals import mixed
from learndyn.integrals.piecewise_linear import Network, PiecewiseLinear, network
from learndyn.integrals.smooth import Series, Units, series, stacked_series
from learndyn.problems import (
    Problem,
    are_same,
    derivative,
    kinked_part,
    piecewise_linear,
    regularity,
)
from learndyn.rules import AbstractRule, FieldAverages
from learndyn.states import Overlaps

_SERIES, _COARSER, _FINER = (256, 2000), (128, 700), (512, 5600)
"""Orders of the series for what is left of a unit without its kinks, and nodes for its
coefficients; and those of the next coarser and finer series, whose differences tell the error.
Where a second derivative jumps between two nodes the error falls like 1/nodes**2, times a number
that depends on where: with eight times the error, a difference rarely is the smaller one by
chance."""


_SMOOTH_REST = (128, 480), (64, 240), (256, 960)
"""The same where a smooth student learns a teacher that jumps and no second derivative does: for
tanh at variances up to 3.5 all averages are then those of (512, 5600) to 1e-13."""

_FALLS = 20.0
"""The largest factor by which errors are taken to fall from the coarser series where a second
derivative jumps; it is 8 on average. An agreement with the finer series by chance is not believed.
Errors of units that are smooth between their kinks fall faster."""


class MixedAverages(AbstractAverages):
    """Averages of a network with squared loss, some of whose units have kinks, or whose teacher
    jumps.

    G, h, f and eg come from averages over two fields, see `learndyn.integrals.mixed`; products
    <F F> from `products`, averages of another kind, which also tell their error; None for eg alone.

    student, teacher: the piecewise linear parts of the units, with all their kinks and jumps.
    exact: whether student and teacher are piecewise linear themselves. curved: whether the student
    has a continuous second derivative but for its kinks. bends: whether that of any unit jumps.
    biases: whether there are any; if not, those of a state are taken for 0.
    """

    student: PiecewiseLinear = eqx.field(static=True)
    teacher: PiecewiseLinear = eqx.field(static=True)
    exact: tuple[bool, bool] = eqx.field(static=True)
    curved: bool = eqx.field(static=True)
    bends: bool = eqx.field(static=True)
    biases: bool = eqx.field(static=True)
    series: Series
    coarser: Series
    finer_series: Series
    products: AbstractAverages | None

    def field_averages(
        self, problem: Problem, rule: AbstractRule, state: Overlaps
    ) -> FieldAverages:
        assert self.products is not None, "made for the generalisation error alone"
        units, k = self._units(problem, state), state.k
        found = mixed.error_averages(*units, state.covariance, state.output_weights, self.series)
        signal = FieldAverages(found.G, jnp.zeros((k, k)), found.h, found.f)
        products = self.products.field_averages(problem, rule, state).Phi
        found = rule_averages(problem, rule, lambda state: signal, state)
        return found._replace(Phi=products)

    def generalisation_error(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        u = state.output_weights
        units = self._units(problem, state)
        return half_square(u, mixed.second_moments(*units, state.covariance, self.series))

    def misfit(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        return jnp.zeros(()) if self.products is None else self.products.misfit(problem, state)

    @property
    def replicates(self) -> int:
        return 0 if self.products is None else self.products.replicates

    def replicate(self, index: Array) -> "MixedAverages":
        """One replicate of the nodes, with the coarser series, whose error is then seen as well."""
        assert self.products is not None, "without nodes there are no replicates"
        return self._with(self.coarser, self.products.replicate(index))

    def neighbours(self) -> "tuple[MixedAverages, MixedAverages] | None":
        both = None if self.products is None else self.products.neighbours()
        if both is None:
            return None
        return self._with(self.coarser, both[0]), self._with(self.finer_series, both[1])

    def levels(self) -> "MixedAverages | None":
        products = None if self.products is None else self.products.levels()
        if products is None:
            return None
        at, coarser, finer = _sizes(self.teacher, bends=self.bends)
        terms = jax.tree.map(jnp.asarray, stacked_series(coarser, at, finer))
        # All arrays have the leading axis; those of other levels are not used.
        return eqx.tree_at(
            lambda a: (a.series, a.coarser, a.finer_series, a.products),
            self,
            (terms, terms, terms, products),
        )

    def finer(self, k: int, m: int) -> "MixedAverages | None":
        finer = None if self.products is None else self.products.finer(k, m)
        return None if finer is None else self._with(self.series, finer)

    @property
    def rtol(self) -> float:
        return 0.0 if self.products is None else self.products.rtol

    @property
    def falls(self) -> float:
        return _FALLS if self.bends else math.inf

    @property
    def holds_at_singular(self) -> bool:
        return self.products is None or self.products.holds_at_singular

    @property
    def is_stepwise(self) -> bool:
        return self.products is not None and self.products.is_stepwise

    @property
    def has_stepwise_slopes(self) -> bool:
        return self.products is not None and self.products.has_stepwise_slopes

    def _with(self, terms: Series, products: AbstractAverages) -> "MixedAverages":
        return MixedAverages(
            self.student,
            self.teacher,
            self.exact,
            self.curved,
            self.bends,
            self.biases,
            terms,
            self.coarser,
            self.finer_series,
            products,
        )

    def _units(self, problem: Problem, state: Overlaps) -> tuple[Network, Units]:
        """The piecewise linear parts of all units, and the rest of each."""
        net = network(self.student, self.teacher, state.k, state.m)
        own, own_slope = _rest(problem.student, self.student, self.exact[0])
        other, other_slope = _rest(problem.teacher, self.teacher, self.exact[1])
        alike, b = are_same(problem.student, problem.teacher), None
        if self.biases and state.b is not None and state.b_teacher is not None:
            b = jnp.concatenate([state.b, state.b_teacher])
        functions = own, other, own_slope, other_slope
        return net, Units(*functions, state.k, alike, self.curved, b)


def mixed_averages(
    problem: Problem,
    k: int,
    m: int,
    *,
    rule: AbstractRule | None = None,
    biases: bool,
    reach: float | None = None,
) -> MixedAverages | None:
    """Averages for `problem` and `rule` where some unit has kinks or the teacher jumps, and the
    loss is squared; None where there are no kinks, or the student jumps, or for a rule without
    closed form.

    rule: None: for the generalisation error alone. reach: the largest standard deviation of a
    field, for the nodes; None: 1.
    """
    if not takes_error_signal(problem, rule) or (rule is not None and rule.needs_other_layers):
        return None
    student = kinked_part(problem.student)
    teacher = None if student is None else kinked_part(problem.teacher, jumps=True)
    if student is None or teacher is None or not (student.knots or teacher.knots):
        return None
    exact = (
        piecewise_linear(problem.student) is not None,
        piecewise_linear(problem.teacher, jumps=True) is not None,
    )
    curved = exact[0] or not regularity(problem.student).bends
    bends = not curved or bool(not exact[1] and regularity(problem.teacher).bends)
    products = None
    if rule is not None:
        sizes = {"biases": biases, "reach": reach}
        products = _one_unit_products(problem, k, m, rule)
        products = products or smooth_student_products(problem, k, m, **sizes)
        products = products or node_averages(problem, k, m, rule=rule, **sizes)
    terms, coarser, finer = (
        jax.tree.map(jnp.asarray, series(*x)) for x in _sizes(teacher, bends=bends)
    )
    return MixedAverages(
        student=student,
        teacher=teacher,
        exact=exact,
        curved=curved,
        bends=bends,
        biases=biases,
        series=terms,
        coarser=coarser,
        finer_series=finer,
        products=products,
    )


def _sizes(teacher: PiecewiseLinear, *, bends: bool) -> tuple[tuple[int, int], ...]:
    """Orders and nodes of the series, of the next coarser and of the next finer one."""
    usual = _SERIES, _COARSER, _FINER
    return usual if bends or teacher.is_continuous else _SMOOTH_REST


def _one_unit_products(
    problem: Problem, k: int, m: int, rule: AbstractRule
) -> SplitQuadrature | None:
    """The rule for products of one student and one teacher unit; None for others.

    For two fields an integral over both, in pieces, is better than nodes.
    """
    found = places(problem, rule) if (k, m) == (1, 1) else None
    return None if found is None else SplitQuadrature(found)


def _rest(g: Any, part: PiecewiseLinear, exact: bool) -> tuple[Any, Any]:
    """g - L and its derivative, for the piecewise linear part L of g."""
    if exact:
        return jnp.zeros_like, jnp.zeros_like
    return eqx.Partial(_value_left, g, part), eqx.Partial(_slope_left, g, part)


def _value_left(g: Any, part: PiecewiseLinear, x: Array) -> Array:
    ramps = [bend * jnp.maximum(x - t, 0.0) for t, bend in zip(part.knots, part.bends, strict=True)]
    return g(x) - part.constant - part.slope * x - sum(ramps, part.stepped(x))


def _slope_left(g: Any, part: PiecewiseLinear, x: Array) -> Array:
    steps = [jnp.where(x > t, bend, 0.0) for t, bend in zip(part.knots, part.bends, strict=True)]
    return derivative(g, x) - part.slope - sum(steps, jnp.zeros_like(x))
