"""The dynamics near a state, to first order in the independent coordinates."""

from typing import ClassVar, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from learndyn._readable import ReadableResult
from learndyn.asymptotics.fixed_points._flow import (
    AveragesOption,
    drift,
    fixed_flow,
    jacobian,
    require_regular_relu,
)
from learndyn.averages import AbstractAverages, estimated
from learndyn.dynamics import OverlapFlow
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import Overlaps


class Direction(NamedTuple):
    """A change of the overlaps; v and b are 0 where they are not trained, b None without.

    Args:
        Q, R: (k, k) and (k, m) changes of the overlaps.
        v, b: (k,) changes of second layer and biases.

    Example:
        >>> asymptotics.Direction(Q=jnp.zeros((1, 1)), R=jnp.ones((1, 1)), v=jnp.zeros(1), b=None).R
        Array([[1.]], dtype=float64)
    """

    Q: Float[Array, "k k"]
    R: Float[Array, "k m"]
    v: Float[Array, " k"]
    b: Float[Array, " k"] | None


class Linearisation(ReadableResult):
    """dy/dalpha = drift + jacobian (y - y0), y the upper triangle of Q row by row, R, then v and
    b where trained, then the velocities' order parameters where momentum is slow.

    Attributes:
        state: the overlaps y0.
        drift: (p,) per unit alpha.
        jacobian: (p, p) per unit alpha.
        eigenvalues: (p,) complex, the largest real part first.
        eigenvectors: (p, p), column i belongs to eigenvalue i.
        coordinates: p names.
        flow: the vector field, an `OverlapFlow`.

    Example:
        >>> point = asymptotics.plateau(2, 0.4)
        >>> near = asymptotics.linearise(ld.Problem(), ld.SGD(lr=0.4), point.state)
        >>> near.coordinates
        ('Q[0,0]', 'Q[0,1]', 'Q[1,1]', 'R[0,0]', 'R[0,1]', 'R[1,0]', 'R[1,1]')
        >>> near.jacobian.shape
        (7, 7)
    """

    state: Overlaps
    drift: Float[Array, " p"]
    jacobian: Float[Array, "p p"]
    eigenvalues: Complex[Array, " p"]
    eigenvectors: Complex[Array, "p p"]
    coordinates: tuple[str, ...] = eqx.field(static=True)
    flow: OverlapFlow

    unshown: ClassVar[tuple[str, ...]] = ("eigenvectors", "flow")

    def direction(self, change: Float[Array, " p"]) -> Direction:
        """A vector in the coordinates as changes of Q, R, v and b (momenta are left out)."""
        return as_direction(self.flow, change)

    def jacobian_error(self) -> Float[Array, ""]:
        """Error of the Jacobian's entries, the largest over all: from finer and coarser averages or
        from the scatter of replicates of nodes; 0 for closed forms."""
        return _jacobian_error(self.flow, self.flow.pack(self.state))


def linearise(
    problem: Problem, rule: AbstractRule, state: Overlaps, *, averages: AveragesOption = None
) -> Linearisation:
    """Drift, Jacobian, eigenvalues and eigenvectors of the ODE at `state`, fixed point or not.

    The Jacobian comes from the averages' own derivatives: exact for closed forms, also where
    student and teacher coincide; for averages over nodes as exact as they are (singular overlaps
    take second derivatives of the sample, so kinks are refused there).

    Args:
        problem: the teacher-student problem.
        rule: the learning rule.
        state: where the ODE is expanded; any overlaps.
        averages: how to average over the fields, as for `solve_ode`; None chooses.

    Raises:
        ValueError: for learning rates that are schedules, a ReLU unit without weights, node
            averages of a kinked problem at singular overlaps, or anything `solve_ode` refuses.

    Source:
        Saad & Solla, PRE 52, 4225 (1995), sections IV and V, for any problem.

    Example:
        >>> point = asymptotics.plateau(2, 0.4)
        >>> near = asymptotics.linearise(ld.Problem(), ld.SGD(lr=0.4), point.state)
        >>> round(float(near.eigenvalues[0].real), 4), round(float(point.rate), 4)
        (0.0255, 0.0255)
    """
    require_regular_relu(problem, state, "linearise")
    setting = {"function": "linearise", "averages": averages, "per_unit": True}
    flow = fixed_flow(problem, rule, state, **setting)
    return _linearise(flow, flow.pack(state))


@eqx.filter_jit
def _linearise(flow: OverlapFlow, y: Float[Array, " p"]) -> Linearisation:
    matrix = jacobian(flow, y)
    # LAPACK's order is arbitrary: what grows fastest comes first.
    eigenvalues, eigenvectors = jnp.linalg.eig(matrix)
    order = jnp.argsort(-eigenvalues.real)
    return Linearisation(
        state=flow.unpack(y),
        drift=drift(flow, y),
        jacobian=matrix,
        eigenvalues=eigenvalues[order],
        eigenvectors=eigenvectors[:, order],
        coordinates=coordinate_names(flow),
        flow=flow,
    )


@eqx.filter_jit
def _jacobian_error(flow: OverlapFlow, y: Float[Array, " p"]) -> Float[Array, ""]:
    def of(averages: AbstractAverages) -> list[Array]:
        with_these = eqx.tree_at(lambda flow: flow.averages, flow, averages)
        return [jacobian(with_these, y)]

    return estimated(flow.averages, of).errors[0]


def as_direction(flow: OverlapFlow, change: Float[Array, " p"]) -> Direction:
    """`change`, given in the coordinates of `flow`, as changes of the overlaps."""
    shaped = flow.unpack(change)
    still = jnp.zeros_like(shaped.v)
    v = still if flow.rule.lr_second is None else shaped.v
    if flow.start.b is None:
        return Direction(shaped.Q, shaped.R, v, None)
    return Direction(shaped.Q, shaped.R, v, still if flow.rule.lr_bias is None else shaped.b)


def coordinate_names(flow: OverlapFlow) -> tuple[str, ...]:
    """A name for each coordinate, as one would index the arrays: Q[0,1], R[2,0], v[1]."""
    k, m, rule = flow.start.k, flow.start.m, flow.rule

    def group(q: str, r: str, v: str, b: str) -> list[str]:
        names = [f"{q}[{i},{j}]" for i in range(k) for j in range(i, k)]
        names += [f"{r}[{i},{n}]" for i in range(k) for n in range(m)]
        names += [f"{v}[{i}]" for i in range(k)] if rule.lr_second is not None else []
        return names + ([f"{b}[{i}]" for i in range(k)] if rule.lr_bias is not None else [])

    names = group("Q", "R", "v", "b")
    if rule.has_slow_momentum:
        names += [f"S[{i},{j}]" for i in range(k) for j in range(k)]
        names += group("U", "V", "velocity_v", "velocity_b")
    return tuple(names)
