"""The limit n -> infinity for structured inputs: the drift of the overlaps of each group."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._numerics.linear_algebra import triu
from learndyn.averages import AbstractAverages, FieldAverages, seen_averages
from learndyn.dynamics._overlap_flow import OverlapFlow, Velocity, growth, triu_positions
from learndyn.rules import AbstractRule, Rates
from learndyn.states import GroupedOverlaps, Overlaps, of_fields


class Matrices(NamedTuple):
    """What each group has: its overlaps, and S, U and V where momentum is slow."""

    Q: Float[Array, "groups k k"]
    R: Float[Array, "groups k m"]
    S: Float[Array, "groups k k"] | None = None
    U: Float[Array, "groups k k"] | None = None
    V: Float[Array, "groups k m"] | None = None


class Vectors(NamedTuple):
    """What all groups share: v and b, and their velocities; None where they do not move."""

    v: Float[Array, " k"] | None
    b: Float[Array, " k"] | None
    velocity_v: Float[Array, " k"] | None = None
    velocity_b: Float[Array, " k"] | None = None


class GroupedFlow(OverlapFlow):
    """dy/dalpha = f(alpha, y), with y the independent coordinates of the overlaps of all groups.

    y holds the upper triangles of all Q_l, all R_l (then S_l, U_l and V_l where momentum is slow),
    then v and b where they are trained (and their velocities). `start` are the covariances of the
    fields, at which averages are taken; `unpack` returns these as well.

    Equation: with s_l the eigenvalue and f_l the share of group l, and G, Phi at the fields,
      dR_l = -lr s_l (G_lambda R_l + G_rho T_l) - lr kappa R_l,
      dQ_l = -lr s_l (G_lambda Q_l + G_rho R_l^T + transpose) - 2 lr kappa Q_l
             + lr^2 s_l f_l Phi / B:
    each group moves as white inputs do, by averages G and Phi that are s_l and s_l f_l times the
    common ones. v and b see the fields alone. Derived here; one group is `OverlapFlow`.
    """

    groups: GroupedOverlaps
    averaged: AbstractRule
    """The rule, which meets |x|**2/n = the mean eigenvalue where it reads that."""

    def averages_of(self, averages: AbstractAverages, state: Overlaps) -> FieldAverages:
        return seen_averages(averages, self.problem, self.averaged, state)

    @property
    def euclidean(self) -> Overlaps:
        """Overlaps of the weights at the start: the sums over groups."""
        return self.groups.euclidean

    def drift(self, t: Array, y: Any, averages: FieldAverages) -> Float[Array, " p"]:
        rates = self.rule.effective_rates(t)
        matrices, vectors = self.parts(y)
        spectrum = self.groups.spectrum

        def of_group(own: Matrices, t: Array, eigenvalue: Array, share: Array) -> Matrices:
            state = Overlaps(own.Q, own.R, t, *self.start.layers)
            mine = averages.of_group(eigenvalue, share, state.covariance)
            return self._group_drift(rates, own, state, mine)

        groups = (matrices, self.groups.T, spectrum.eigenvalues, spectrum.shares)
        change = jax.vmap(of_group)(*groups)
        if self.rule.spherical:
            change = _on_sphere(matrices, change)
        return self.flat(change, self._vector_drift(rates, vectors, averages))

    def _group_drift(
        self, rates: Rates, own: Matrices, state: Overlaps, averages: FieldAverages
    ) -> Matrices:
        """The drift of one group, as if it were all there is."""
        if own.S is None or own.U is None or own.V is None:
            return Matrices(*self.free_drift(rates, state, averages))
        still = jnp.zeros_like(self.start.v)
        velocity = Velocity(own.S, own.U, own.V, still, still)
        return Matrices(*self.velocity_drift(rates, state, velocity, averages))

    def _vector_drift(self, rates: Rates, at: Vectors, averages: FieldAverages) -> Vectors:
        """The drift of v and b."""
        changes = (
            self._change(rates.v, averages.h, at.velocity_v),
            self._change(rates.b, averages.f, at.velocity_b),
        )
        (dv, push_v), (db, push_b) = changes
        return Vectors(dv, db, push_v, push_b)

    def _change(
        self, rate: Array | None, mean: Array, velocity: Array | None
    ) -> tuple[Array | None, Array | None]:
        """The change of v or b, and that of its velocity; None where it is not trained."""
        if rate is None:
            return None, None
        if velocity is None:
            return -rate * mean, None
        return -rate * velocity, self.rule.momentum.gamma * (mean - velocity)

    def pack(self, state: GroupedOverlaps | Overlaps | Any) -> Float[Array, " p"]:
        """The coordinates y of grouped overlaps, with velocities at rest; those of the start for
        anything else."""
        own = state if isinstance(state, GroupedOverlaps) else self.groups
        v, b = (own.v if self._trains_v else None), (own.b if self._trains_b else None)
        if not self.rule.has_slow_momentum:
            return self.flat(Matrices(own.Q, own.R), Vectors(v, b))
        q, r = jnp.zeros_like(own.Q), jnp.zeros_like(own.R)
        still = [None if x is None else jnp.zeros_like(x) for x in (v, b)]
        return self.flat(Matrices(own.Q, own.R, q, q, r), Vectors(v, b, *still))

    def flat(self, matrices: Matrices, vectors: Vectors) -> Float[Array, " p"]:
        """All of these as one vector."""
        corner = lambda x: None if x is None else jax.vmap(triu)(x)
        q, r, s, u, v = matrices
        parts = [corner(q), r, s, corner(u), v, *vectors]
        return jnp.concatenate([x.ravel() for x in parts if x is not None])

    def matrices(self, y: Float[Array, " p"]) -> Matrices:
        """The overlaps of all groups at coordinates y."""
        return self.parts(y)[0]

    def on_sphere(self, at: Matrices, change: Matrices) -> Matrices:
        """What is left of a small change where each w_i is then brought back to its length."""
        return _on_sphere(at, change) if self.rule.spherical else change

    def of_vectors(self, v: Array | None, b: Array | None) -> Vectors:
        """v and b, or their changes, where they are trained."""
        return Vectors(v if self._trains_v else None, b if self._trains_b else None)

    def parts(self, y: Float[Array, " p"]) -> tuple[Matrices, Vectors]:
        """What `flat` put together."""
        k, m, groups = self.groups.k, self.groups.m, self.groups.groups
        place = 0

        def take(*shape: int) -> Array:
            nonlocal place
            size = math.prod(shape)
            place += size
            return y[place - size : place].reshape(shape)

        def symmetric() -> Array:
            return take(groups, k * (k + 1) // 2)[:, triu_positions(k)]

        slow = self.rule.has_slow_momentum
        matrices = Matrices(symmetric(), take(groups, k, m))
        if slow:
            matrices = matrices._replace(S=take(groups, k, k), U=symmetric(), V=take(groups, k, m))
        v, b = (take(k) if trained else None for trained in (self._trains_v, self._trains_b))
        if not slow:
            return matrices, Vectors(v, b)
        velocities = (take(k) if trained else None for trained in (self._trains_v, self._trains_b))
        return matrices, Vectors(v, b, *velocities)

    def unpack(self, y: Float[Array, " p"]) -> Overlaps:
        """The covariances of the fields at coordinates y."""
        matrices, vectors = self.parts(y)
        start = self.start.layers
        layers = start._replace(
            v=start.v if vectors.v is None else vectors.v,
            b=start.b if vectors.b is None else vectors.b,
        )
        return of_fields(self.groups, matrices.Q, matrices.R, layers)


def _on_sphere(at: Matrices, change: Matrices) -> Matrices:
    """What is left of a change where each w_i is then brought back to its length."""
    h = growth(at.Q.sum(axis=0), change.Q.sum(axis=0))
    change = change._replace(Q=change.Q - at.Q * (h[:, None] + h), R=change.R - h[:, None] * at.R)
    if at.S is None or change.S is None:
        return change
    # Normalising shortens w alone, and so S = w.u/n.
    return change._replace(S=change.S - h[:, None] * at.S)
