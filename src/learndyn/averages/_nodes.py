"""Averages of any problem over a set of nodes: f = S z with C = S S^T."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._numerics.linear_algebra import psd_cholesky, psd_solve_lower, psd_solve_upper
from learndyn.averages._closed import ClosedForm
from learndyn.averages._samples import labels, modulations, sum_errors, sum_fields
from learndyn.averages._types import AbstractAverages
from learndyn.problems import Layers, Problem
from learndyn.rules import AbstractRule, FieldAverages, Modulation
from learndyn.states import Overlaps

Observable = Callable[[Array, Array, Modulation], Array]
Sum = Callable[..., Any]
"""(problem, rule, fields, centred fields, zeta, weight, layers) -> a tree of averages."""


class NodeAverages(AbstractAverages):
    """Averages over nodes z (replicates, points, dims) with weights (points,).

    How averages are differentiated with respect to the covariance C and the biases b:
    `smooth`: by d<h>/dC_ab = <d2h / df_a df_b> / 2 (Price 1958), right at singular C too.
    `score`, where h jumps and anything else would be silently wrong: by acting on the measure,
        d<h>/dC = S^-T <h (z z^T - 1)> S^-1 / 2, d<h>/db = S^-T <h z>. First derivatives only;
        with a loss whose slope jumps (hinge, perceptron) derivatives with respect to v miss
        the motion of the jump.
    Neither, where h has kinks: through the nodes; wrong at singular C, where S lacks directions.
    coarse: a second set of nodes and weights, whose difference is the error where there is but
        one replicate.
    exact_error: whether eg is taken in closed form, which it may have where the rule has none.
    """

    z: Float[Array, "replicates points dims"]
    weight: Float[Array, " points"]
    score: bool = eqx.field(static=True)
    smooth: bool = eqx.field(static=True, default=False)
    coarse: tuple[Array, Array] | None = None
    exact_error: bool = eqx.field(static=True, default=False)

    def field_averages(
        self, problem: Problem, rule: AbstractRule, state: Overlaps
    ) -> FieldAverages:
        fields, phi, h, mean = self._sum(sum_fields, problem, rule, state)
        # G = <F f> C^+ by two triangular solves with the factor S of C = S S^T.
        factor = psd_cholesky(state.covariance)
        half = psd_solve_lower(factor, fields.T)
        g = psd_solve_upper(factor, half).T
        return FieldAverages(g, phi, h, mean, fields)

    def generalisation_error(self, problem: Problem, state: Overlaps) -> Float[Array, ""]:
        if self.exact_error:
            return ClosedForm().generalisation_error(problem, state)
        return self._sum(sum_errors, problem, None, state)

    def covariance_of(
        self, problem: Problem, rule: AbstractRule, state: Overlaps, observable: Observable
    ) -> Float[Array, "q q"]:
        """Covariance over samples of observable(lam, rho, modulation), a vector of length q.

        Exact in the label noise for observables up to second degree in the modulation.
        """
        f, zeta, weight, layers = self._sample(state)
        lam, rho = f[:, : state.k], f[:, state.k :]
        mean, second = jnp.zeros(()), jnp.zeros(())
        for probability, y in labels(problem, rule, rho, zeta, layers, points=3):
            found = modulations(problem, rule, lam, y, layers)
            value = jax.vmap(observable)(lam, rho, found)
            weighted = value * (weight * probability)[:, None]
            mean = mean + jnp.sum(weighted, axis=0)
            second = second + weighted.T @ value
        return second - jnp.outer(mean, mean)

    def replicate(self, index: Array) -> "NodeAverages":
        """The same averages over one replicate alone, for error estimates."""
        return eqx.tree_at(lambda a: a.z, self, self.z[index][None])

    def _sum(self, of: Sum, problem: Problem, rule: AbstractRule | None, state: Overlaps) -> Any:
        if self.smooth:
            rest = problem, rule, self._split(state), state.layers
            return _smooth_sum(of, state.covariance, rest)
        f, zeta, weight, layers = self._sample(state)
        return of(problem, rule, f, f - self._shift(state), zeta, weight, layers)

    def _sample(
        self, state: Overlaps
    ) -> tuple[Float[Array, "p d"], Float[Array, " p"], Float[Array, " p"], Layers]:
        """Fields, label noise and weights of all nodes, and the layers to evaluate them with."""
        z, zeta, weight = self._split(state)
        if not self.score:
            return z @ psd_cholesky(state.covariance).T, zeta, weight, state.layers
        frozen = jax.lax.stop_gradient(state)
        factor = psd_cholesky(frozen.covariance)
        weight = weight * (1 + _score(z, factor, state, frozen))
        layers = state.layers._replace(b=frozen.b, b_teacher=frozen.b_teacher)
        return z @ factor.T, zeta, weight, layers

    def _split(
        self, state: Overlaps
    ) -> tuple[Float[Array, "p d"], Float[Array, " p"], Float[Array, " p"]]:
        """White fields, label noise and weights of all nodes."""
        replicates, points, dims = self.z.shape
        d = state.k + state.m
        nodes = self.z.reshape(replicates * points, dims)
        zeta = nodes[:, d] if dims > d else jnp.zeros(len(nodes))
        return nodes[:, :d], zeta, jnp.tile(self.weight / replicates, replicates)

    def _shift(self, state: Overlaps) -> Float[Array, " d"] | float:
        """A number that is 0. With the score the measure moves with b, centred fields do not."""
        if not self.score or state.b is None or state.b_teacher is None:
            return 0.0
        b = jnp.concatenate([state.b, state.b_teacher])
        return b - jax.lax.stop_gradient(b)


@eqx.filter_custom_jvp
def _smooth_sum(of: Sum, c: Float[Array, "d d"], rest: Any) -> Any:
    """The average of a smooth function over fields of covariance c."""
    problem, rule, (z, zeta, weight), layers = rest
    f = z @ psd_cholesky(c).T
    return of(problem, rule, f, f, zeta, weight, layers)


@_smooth_sum.def_jvp
def _smooth_sum_jvp(primals, tangents):
    of, c, rest = primals
    _, dc, d_rest = tangents
    (z, _, _), d = rest[2], len(c)
    f = z @ psd_cholesky(c).T

    def at(shift: Array, rest: Any) -> Any:
        problem, rule, (_, zeta, weight), layers = rest
        return of(problem, rule, f + shift, f + shift, zeta, weight, layers)

    still = jnp.zeros(d, c.dtype)
    value, change = eqx.filter_jvp(lambda rest: at(still, rest), (rest,), (d_rest,))
    if dc is None:
        return value, change

    def second(directions: tuple[Array, Array]) -> Any:
        def first(shift: Array) -> Any:
            return jax.jvp(lambda s: at(s, rest), (shift,), (directions[0],))[1]

        return jax.jvp(first, (still,), (directions[1],))[1]

    # Pair by pair: there are thousands of nodes.
    a, b = np.triu_indices(d)
    curvature = jax.lax.map(second, (jnp.eye(d)[a], jnp.eye(d)[b]))
    half = jnp.where(a == b, 0.5 * dc[a, b], 0.5 * (dc[a, b] + dc[b, a]))

    def add(h: Array, x: Array | None) -> Array:
        through_c = jnp.tensordot(half, h, 1)
        return through_c if x is None else x + through_c  # None: nothing else changes

    return value, jax.tree.map(add, curvature, change, is_leaf=lambda x: x is None)


def _score(
    z: Float[Array, "p d"], factor: Float[Array, "d d"], state: Overlaps, frozen: Overlaps
) -> Float[Array, " p"]:
    """A number that is 0 and whose derivative is that of the log density of f."""
    change = state.covariance - frozen.covariance
    half = psd_solve_lower(factor, change)
    whitened = psd_solve_lower(factor, half.T)
    score = 0.5 * (jnp.sum((z @ whitened) * z, axis=1) - jnp.trace(whitened))
    if state.b is None:
        return score
    shift = jnp.concatenate(jax.tree.leaves((state.b, state.b_teacher)))
    shift = shift - jax.lax.stop_gradient(shift)
    return score + z @ psd_solve_lower(factor, shift[:, None])[:, 0]
