"""The Jacobian of grouped overlaps as something to divide by: each group alone, and what all groups
do to each other through the fields."""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._types import Scalar
from learndyn.averages import FieldAverages
from learndyn.dynamics._grouped_flow import GroupedFlow, Matrices, Vectors
from learndyn.dynamics._overlap_flow import OverlapFlow


class SplitJacobian(eqx.Module):
    """J = df/dy of a `GroupedFlow` at one state, in two parts.

    Equation: the drift of a group is linear in its own overlaps, given the averages G and Phi, and
    these depend on the covariances of the fields alone, z = W y. So J = B + U W, where
      B takes dR_l to -lr (s_l A + kappa) dR_l,  A = G_lambda, and
        dQ_l to -lr ((s_l A + kappa) dQ_l + s_l G_rho dR_l^T + transpose);
      U = df/dz has as many columns as the fields have covariances, however many groups there are.
    Where A is symmetric, as for gradients, its eigenbasis makes B triangular, for all groups at
    once. Derived here.

    Attributes:
        flow: the vector field, with one learning rate for all units.
        values, basis: eigenvalues and eigenvectors of lr A.
        pull: lr G_rho.
        decay: lr kappa.
        columns: U, one row for each of its columns.
    """

    flow: GroupedFlow
    values: Float[Array, " k"]
    basis: Float[Array, "k k"]
    pull: Float[Array, "k m"]
    decay: Scalar
    columns: Float[Array, "z p"]

    def __init__(self, flow: GroupedFlow, t: Scalar, y: Float[Array, " p"]):
        fields, rate, k = flow.unpack(y), flow.rule.effective_rates(t).w, flow.groups.k
        z = flow.coordinates(fields.Q, fields.R, fields.v, fields.b)

        def averages_at(z: Float[Array, " z"]) -> FieldAverages:
            return flow.averages_of(flow.averages, OverlapFlow.unpack(flow, z))

        push = rate * averages_at(z).G
        self.flow, self.pull = flow, push[:, k:]
        self.values, self.basis = jnp.linalg.eigh(0.5 * (push[:, :k] + push[:, :k].T))
        self.decay = rate * flow.rule.weight_decay
        _, along = jax.linearize(lambda z: flow.drift(t, y, averages_at(z)), z)
        self.columns = jax.vmap(along)(jnp.eye(len(z)))

    def divider(self, c: Scalar) -> Callable[[Array], Array]:
        """The function that solves (c - J) x = b for x."""
        # Woodbury's identity
        solved = jax.vmap(lambda column: self._within_groups(c, column))(self.columns)
        small = jnp.eye(len(solved)) - jax.vmap(self._fields)(solved).T
        inverse = jnp.linalg.inv(small)

        def divide(b: Float[Array, " p"]) -> Float[Array, " p"]:
            x = self._within_groups(c, b)
            return x + (inverse @ self._fields(x)) @ solved

        return divide

    def _fields(self, x: Float[Array, " p"]) -> Float[Array, " z"]:
        """W x, the change of the fields' covariances where the overlaps change by x."""
        matrices, vectors = self.flow.parts(x)
        of = lambda x: jnp.tensordot(self.flow.groups.spectrum.eigenvalues, x, 1)
        return self.flow.coordinates(of(matrices.Q), of(matrices.R), vectors.v, vectors.b)

    def _within_groups(self, c: Scalar, b: Float[Array, " p"]) -> Float[Array, " p"]:
        """The solution x of (c - B) x = b."""
        matrices, vectors = self.flow.parts(b)
        s, turn = self.flow.groups.spectrum.eigenvalues[:, None, None], self.basis
        rate = s * self.values[:, None] + self.decay
        # B is triangular: R first, whose solution then pulls at Q.
        r = (turn.T @ matrices.R) / (c + rate)
        pulled = s * (r @ (turn.T @ self.pull).T)
        q = turn.T @ matrices.Q @ turn - (pulled + jnp.swapaxes(pulled, -1, -2))
        q = q / (c + rate + jnp.swapaxes(rate, -1, -2))
        shared = Vectors(*(None if x is None else x / c for x in vectors))
        return self.flow.flat(Matrices(turn @ q @ turn.T, turn @ r), shared)
