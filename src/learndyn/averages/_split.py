"""One student unit and one teacher field, any rule, loss and teacher: nested split quadrature."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._numerics.crossings import crossings
from learndyn._types import Scalar
from learndyn.averages._one_unit import (
    AbstractOneUnit,
    HalfPlanes,
    learns_half_plane,
    outside_of,
)
from learndyn.averages._places import Places, places
from learndyn.averages._samples import clean_teacher_output, is_linear_in_error, modulations
from learndyn.averages._split_labels import label_distribution
from learndyn.integrals.half_planes import root
from learndyn.integrals.split_normal import split_rule
from learndyn.problems import Layers, Linear, Problem, is_smooth, is_squared, regularity
from learndyn.rules import AbstractRule, FieldAverages
from learndyn.states import Overlaps

_LAYER = 8.0
"""Half the width, in standard deviations of lambda given rho, of the layer around each kink in
which an average over lambda changes as a function of rho."""

_MOST = 40
"""Nodes in a piece at which no finer averages are tried: the error of 12 is 1e-6 already."""

_TINY = 1e-300
"""Bounds divisors from below: 0/0 then is 0, a place out of reach stays out of reach."""


class Fields(NamedTuple):
    """rho = sqrt(T) x and lambda = slope x + width xi, with x and xi independent N(0, 1)."""

    scale: Scalar
    slope: Scalar
    width: Scalar


def one_unit_averages(
    problem: Problem, k: int, m: int, *, rule: AbstractRule | None, biases: bool
) -> AbstractOneUnit | None:
    """Averages for one student unit and one teacher field; None where others serve better."""
    if (k, m) != (1, 1):
        return None
    if learns_half_plane(problem, rule, biases=biases):
        return HalfPlanes()
    if not _is_for_split_quadrature(problem, rule):
        return None
    found = places(problem, rule)
    return None if found is None else SplitQuadrature(found)


def _is_for_split_quadrature(problem: Problem, rule: AbstractRule | None) -> bool:
    """Whether the problem is not smooth, and not one of additive networks with squared loss."""
    if problem.overrides("label", "teacher_output", "student_output"):
        return False
    if rule is not None and (rule.is_episode or rule.needs_overlaps or rule.draws_of(1)):
        return False
    linear = is_linear_in_error(problem, rule)
    additive = linear and is_squared(problem.loss) and not problem.has_multi_index_teacher
    if additive and not problem.is_classification:
        return not (regularity(problem.student).jumps == () == regularity(problem.teacher).jumps)
    return not (linear and is_smooth(problem, 1))


class SplitQuadrature(AbstractOneUnit):
    """Averages over rho, and over lambda given rho, each in pieces between jumps and kinks.

    places: where the rule's modulation, the label and the clean output jump or bend.
    order: nodes in each piece.
    Around every kink of the modulation the outer integrand has a layer as wide as lambda given rho,
    which has its own pieces: so averages keep their digits as student and teacher align. Nodes move
    with the pieces, so derivatives are right also where the modulation jumps.
    """

    places: Places = eqx.field(static=True)
    order: int = eqx.field(static=True, default=12)

    @property
    def holds_at_singular(self) -> bool:
        return False  # at S = 0 the layer of lambda given rho has no width to differentiate

    def averages_at(
        self, problem: Problem, rule: AbstractRule, state: Overlaps, outside: Scalar
    ) -> FieldAverages:
        fields, layers = _fields(state, outside), state.layers
        hard, soft = self._student_breaks(problem, layers)
        x, w = _outer(fields, (hard, soft), self.places.of_labels(problem, layers), self.order)
        exact = is_linear_in_error(problem, rule)
        rho, order = fields.scale * x, self.order
        labels = label_distribution(problem, rho, layers, self.places, exact, order)

        def given(one: tuple[Array, Array]) -> Array:
            p, y = one
            breaks = jnp.concatenate([hard, soft]) + jnp.zeros((len(y), 1))
            breaks = jnp.concatenate([breaks, self._residual_breaks(problem, layers, y)], axis=1)
            xi, w_xi = _inner(fields, breaks, x, self.order)
            return _moments(problem, rule, fields, y, layers, x, xi, (w * p)[:, None] * w_xi)

        return _from_moments(jnp.sum(jax.lax.map(given, labels), axis=0), fields)

    def error_at(self, problem: Problem, state: Overlaps, outside: Scalar) -> Scalar:
        fields, layers = _fields(state, outside), state.layers
        breaks = self._student_breaks(problem, layers)
        x, w = _outer(fields, breaks, self.places.of_clean_output(layers), self.order)
        xi, w_xi = _inner(fields, jnp.concatenate(breaks), x, self.order)
        lam = (fields.slope * x[:, None] + fields.width * xi).reshape(-1, 1)
        phi = jax.vmap(problem.student_output, (0, None))(lam, layers).reshape(xi.shape)
        clean = clean_teacher_output(problem, (fields.scale * x)[:, None], layers)[:, None]
        if problem.is_classification:
            wrong = ((phi >= 0) != (clean >= 0)).astype(phi.dtype)
        else:
            wrong = 0.5 * (phi - clean) ** 2
        return jnp.sum(w[:, None] * w_xi * wrong)

    def field_averages(
        self, problem: Problem, rule: AbstractRule, state: Overlaps
    ) -> FieldAverages:
        return self.averages_at(problem, rule, state, outside_of(state))

    def generalisation_error(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        return self.error_at(problem, state, outside_of(state))

    def neighbours(self) -> tuple["SplitQuadrature", "SplitQuadrature"]:
        """3/4 and 4/3 of the nodes in each piece."""
        fewer, more = 3 * self.order // 4, -(-4 * self.order // 3)
        return SplitQuadrature(self.places, fewer), SplitQuadrature(self.places, more)

    def finer(self, k: int, m: int) -> "SplitQuadrature | None":
        """Twice the nodes in each piece, and four times the work."""
        return SplitQuadrature(self.places, 2 * self.order) if self.order < _MOST else None

    def _student_breaks(
        self, problem: Problem, layers: Layers
    ) -> tuple[Float[Array, " hard"], Float[Array, " soft"]]:
        """Places in lambda where the modulation or the output's sign jumps or bends, and others
        between which smooth functions of order 1 are polynomials, also where Q is large."""
        hard = [jnp.asarray(self.places.in_student, float) - _bias(layers)]
        hard.append(jnp.asarray(self.places.in_field, float))
        outputs = jnp.asarray(self.places.in_output, float)
        hard.append(_fields_of_outputs(problem, layers, outputs).ravel())
        soft = jnp.asarray(self.places.soft, float)
        if isinstance(problem.student, Linear):
            soft = _quotient(soft, layers.v[0])
        return jnp.concatenate(hard), soft - _bias(layers)

    def _residual_breaks(
        self, problem: Problem, layers: Layers, y: Float[Array, " outer"]
    ) -> Float[Array, "outer places"]:
        """Places in lambda where the loss jumps or bends, for each label."""
        outputs = y[:, None] + jnp.asarray(self.places.in_residual, float)
        return _fields_of_outputs(problem, layers, outputs).reshape(len(y), -1)


def _fields_of_outputs(
    problem: Problem, layers: Layers, outputs: Float[Array, "*shape"]
) -> Float[Array, "*shape most"]:
    """The fields lambda at which the student gives these outputs."""
    v = layers.v[0]
    if isinstance(problem.student, Linear):
        return _quotient(outputs, v)[..., None] - _bias(layers)

    def of(output: Scalar) -> Array:
        return crossings(lambda x: v * problem.student(x), output)

    return jnp.vectorize(of, signature="()->(n)")(outputs) - _bias(layers)


def _bias(layers: Layers) -> Array | float:
    return 0.0 if layers.b is None else layers.b[0]


def _fields(state: Overlaps, outside: Scalar) -> Fields:
    scale = root(state.T[0, 0])
    return Fields(scale, _ratio(state.R[0, 0], scale), root(outside))


def _outer(
    fields: Fields,
    lam_breaks: tuple[Float[Array, " hard"], Float[Array, " soft"]],
    rho_breaks: Float[Array, " places"],
    order: int,
) -> tuple[Float[Array, " outer"], Float[Array, " outer"]]:
    """Nodes and weights of x."""
    hard, soft = lam_breaks
    # Where the mean of lambda given rho crosses a kink of the modulation
    centre, aside = _quotient(hard, fields.slope), _LAYER * _quotient(fields.width, fields.slope)
    breaks = [_quotient(rho_breaks, fields.scale), centre, centre - aside, centre + aside]
    return split_rule(jnp.concatenate([*breaks, _quotient(soft, fields.slope)]), order)


def _inner(
    fields: Fields, lam_breaks: Float[Array, "*outer breaks"], x: Float[Array, " outer"], order: int
) -> tuple[Float[Array, "outer inner"], Float[Array, "outer inner"]]:
    """Nodes and weights of xi, for each x."""
    return split_rule(_quotient(lam_breaks - fields.slope * x[:, None], fields.width), order)


def _moments(
    problem: Problem,
    rule: AbstractRule,
    fields: Fields,
    y: Float[Array, " outer"],
    layers: Layers,
    x: Float[Array, " outer"],
    xi: Float[Array, "outer inner"],
    weight: Float[Array, "outer inner"],
) -> Float[Array, "5"]:
    """<F>, <F x>, <F xi>, <F F> and <H>, of samples with labels y."""
    lam = fields.slope * x[:, None] + fields.width * xi
    labels = jnp.broadcast_to(y[:, None], lam.shape).ravel()
    found = modulations(problem, rule, lam.reshape(-1, 1), labels, layers)
    c, dv = found.c.reshape(lam.shape), found.dv.reshape(lam.shape)
    pull = weight * c
    sums = [pull, pull * x[:, None], pull * xi, pull * c, weight * dv]
    return jnp.stack([jnp.sum(one) for one in sums])


def _from_moments(found: Float[Array, "5"], fields: Fields) -> FieldAverages:
    """G from <F xi> = G_lambda width and <F x> = G_lambda slope + G_rho sqrt(T)."""
    mean, with_x, with_xi, square, h = found
    student = _ratio(with_xi, fields.width)
    teacher = _ratio(with_x - student * fields.slope, fields.scale)
    with_lam = fields.slope * with_x + fields.width * with_xi
    return FieldAverages(
        G=jnp.stack([student, teacher])[None],
        Phi=square[None, None],
        h=h[None],
        f=mean[None],
        fields=jnp.stack([with_lam, fields.scale * with_x])[None],
    )


def _ratio(top: Array, bottom: Array) -> Array:
    """top / bottom, and 0 where bottom is 0."""
    some = bottom > _TINY
    return jnp.where(some, top / jnp.where(some, bottom, 1.0), 0.0)


def _quotient(top: Array, bottom: Array) -> Array:
    """top / bottom, and a number with the sign of top, out of all reach, where bottom is 0; 0/0 is
    0."""
    small = jnp.abs(bottom) < _TINY
    return jnp.where(small, jnp.sign(top) / _TINY, top / jnp.where(small, 1.0, bottom))
