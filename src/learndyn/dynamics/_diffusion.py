"""The noise of learning: how the increments of the overlaps scatter from sample to sample."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn.averages import (
    AbstractNodes,
    GaussHermite,
    NodeAverages,
    QuasiMonteCarlo,
    choose_averages,
)
from learndyn.dynamics._overlap_flow import OverlapFlow
from learndyn.problems import FieldGradient, Linear, Problem, Squared
from learndyn.rules import SGD
from learndyn.states import Overlaps

_MAX_EXACT_DIMS = 9
"""Up to here 3**dims nodes integrate a linear network's increments exactly and cheaply."""


def noise_averages(
    problem: Problem,
    start: Overlaps,
    nodes: AbstractNodes | None = None,
    *,
    default: AbstractNodes | None = None,
) -> NodeAverages:
    """Nodes for the diffusion matrix: it has products of up to four gradients, beyond the
    closed forms. Linear networks need only polynomials of degree 4: three nodes a direction.
    """
    biases, dims = start.b is not None, start.k + start.m
    linear = isinstance(problem.student, Linear) and isinstance(problem.teacher, Linear)
    if nodes is None and linear and isinstance(problem.loss, Squared) and dims <= _MAX_EXACT_DIMS:
        nodes = GaussHermite(3)
    if nodes is None and default is None:
        chosen = choose_averages(problem, start.k, start.m, biases=biases)
        if isinstance(chosen, NodeAverages):
            return chosen
    if nodes is None:
        nodes = default or QuasiMonteCarlo()
    chosen = choose_averages(problem, start.k, start.m, biases=biases, averages=nodes)
    if not isinstance(chosen, NodeAverages):
        raise ValueError(f"noise averages need a set of nodes, not {nodes!r}.")
    return chosen


@eqx.filter_jit  # traced once, like the flow
def diffusion(
    flow: OverlapFlow, nodes: NodeAverages, t: Float[Array, ""], y: Float[Array, " p"]
) -> Float[Array, "p p"]:
    """D(m) = Cov(xi) / B in the independent coordinates.

    Equation: xi_R = -lr c rho, xi_Q_ik = -lr (c_i lambda_k + c_k lambda_i) + lr^2 c_i c_k / B,
    xi_v = -lr_second dloss/dv, xi_b = -lr_bias c: the increment of one sample, times n.
    """
    rule, problem = flow.rule, flow.problem
    rates, state = rule.effective_rates(t), flow.unpack(y)

    def increment(lam: Array, rho: Array, gradient: FieldGradient) -> Array:
        c = gradient.c
        pull = -rates.w * jnp.outer(c, lam)
        dq = pull + pull.T + rates.w**2 / rule.batch_size * jnp.outer(c, c)
        dv = None if rates.v is None else -rates.v * gradient.dv
        db = None if rates.b is None else -rates.b * c
        return flow.coordinates(dq, -rates.w * jnp.outer(c, rho), dv, db)

    return nodes.covariance_of(problem, state, increment) / rule.batch_size


def require_no_slow_momentum(rule: SGD, function: str) -> None:
    """The velocity's own order parameters fluctuate too; that theory is not written here."""
    if rule.has_slow_momentum:
        raise ValueError(
            f"{function} needs plain SGD or constant momentum (a number beta); got SlowMomentum. "
            "For its spread at finite n use an ensemble of simulate_chain."
        )
