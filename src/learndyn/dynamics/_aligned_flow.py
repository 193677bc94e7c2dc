"""The drift of one unit that learns from one field, in coordinates that keep their angle."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from learndyn._types import Scalar
from learndyn.averages import AbstractOneUnit, outside_of
from learndyn.dynamics._grouped_flow import GroupedFlow
from learndyn.dynamics._overlap_flow import OverlapFlow
from learndyn.states import Overlaps, tested


class AlignedFlow(eqx.Module):
    """`flow` for k = m = 1, with S = Q - R**2/T in place of Q as the first coordinate.

    Equation: dS = -2 lr (<dF/dlambda> + kappa) S + lr**2 <F**2> / B, which follows from dQ and dR;
    the teacher's direction has dropped out; spherical rules subtract S dQ/Q. S falls to 0 as
    student and teacher align, while Q T - R**2 cancels; so a solver must hold S to a relative
    tolerance alone.
    """

    flow: OverlapFlow
    averages: AbstractOneUnit

    @eqx.filter_jit  # traced once, like the flow
    def __call__(self, t: Any, y: Any, args: Any) -> Float[Array, " p"]:
        flow, rule = self.flow, self.flow.rule
        state, outside = self.unpack(y)
        rates = rule.effective_rates(jnp.asarray(t, float))
        averages = self.averages.averages_at(flow.problem, rule, state, outside)
        _, dr, dv, db = flow.overlap_drift(rates, state, averages)
        pull = (averages.G[:, :1] + rule.weight_decay) * outside
        ds = flow.second_order(rates, averages) - 2 * rates.w * pull
        if rule.spherical:
            ds = ds - flow.free_drift(rates, state, averages)[0] * outside / state.Q
        return flow.coordinates(ds, dr, dv, db)

    def pack(self, state: Overlaps) -> Float[Array, " p"]:
        """The coordinates y of `state`."""
        return self.flow.pack(state).at[0].set(outside_of(state))

    def unpack(self, y: Float[Array, " p"]) -> tuple[Overlaps, Scalar]:
        """The overlaps at y, and S."""
        state, outside = self.flow.unpack(y), y[0]
        q = outside + state.R**2 / jnp.where(state.T > 0, state.T, 1.0)
        return eqx.tree_at(lambda s: s.Q, state, q), outside

    def overlap_coordinates(self, y: Float[Array, " p"]) -> Float[Array, " p"]:
        """y in the coordinates of `flow`."""
        return self.flow.pack(self.unpack(y)[0])

    def error(self, y: Float[Array, " p"]) -> Float[Array, ""]:
        """eg at y."""
        state, outside = self.unpack(y)
        return self.averages.error_at(self.flow.problem, tested(self.flow.rule, state), outside)

    @property
    def is_relative(self) -> Bool[Array, " p"]:
        """Which coordinates are held to the relative tolerance alone: S."""
        return jnp.arange(len(self.flow.pack(self.flow.start))) == 0


def aligned_flow(flow: OverlapFlow) -> AlignedFlow | None:
    """`flow` in coordinates that keep the angle; None where it has none, or has velocities or
    groups of directions, or the student sees other inputs than the teacher."""
    other = flow.rule.has_slow_momentum or flow.rule.input_noise is not None
    other |= isinstance(flow, GroupedFlow)
    if isinstance(flow.averages, AbstractOneUnit) and not other:
        return AlignedFlow(flow, flow.averages)
    return None
