"""Fluctuations at large n: the covariance of sqrt(n) (m - m_ode), solved with the ODE."""

import math
from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._checks import checked_times
from learndyn._numerics.linear_algebra import symmetric_from_triu, triu
from learndyn._outcome import warn_if_failed
from learndyn._readable import ReadableResult
from learndyn._results import Result
from learndyn._types import Absent, CountLike, RealLike, Times
from learndyn.averages import AbstractNodes, NodeAverages
from learndyn.dynamics._averages_errors import warn_of_averages
from learndyn.dynamics._diffusion import (
    diffusion,
    noise_averages,
    noise_error,
    require_no_slow_momentum,
    warn_of_noise,
)
from learndyn.dynamics._grouped_flow import GroupedFlow
from learndyn.dynamics._integrate import integrate, trajectory_from
from learndyn.dynamics._ode import (
    MAX_STEPS,
    AveragesOption,
    checked_max_steps,
    checked_tolerances,
    overlap_flow,
)
from learndyn.dynamics._overlap_flow import OverlapFlow
from learndyn.dynamics._trajectory import Trajectory
from learndyn.states import ProblemLike, RuleLike, StateLike, as_state, require_arguments


class Spread(ReadableResult):
    """Standard deviations of sqrt(n) times each quantity about the ODE, shaped like it.

    Q_groups, R_groups: (times, groups, k, k), (times, groups, k, m), where the start has groups of
    directions, of which Q and R are then the sums; else None.
    """

    Q: Float[Array, "*batch times k k"]
    R: Float[Array, "*batch times k m"]
    v: Float[Array, "*batch times k"]
    b: Float[Array, "*batch times k"] | Absent
    eg: Float[Array, "*batch times"]
    Q_groups: Float[Array, "*batch times groups k k"] | Absent = None
    R_groups: Float[Array, "*batch times groups k m"] | Absent = None


class Fluctuations(ReadableResult):
    """The Gaussian process that sqrt(n) (m - m_ode) tends to.

    Attributes:
        alpha: (times,).
        std: standard deviations; divide by sqrt(n) for one run's error bar.
        covariance: (times, p, p) in the independent coordinates: upper triangle of Q row by row, R,
            then v and b where trained. Of `GroupedOverlaps`: first the triangles of all groups,
            then the R of all groups.
        mean_norm: (times,) E||N(0, covariance)||, the Frobenius norm over the full matrices Q and R
            and the vectors v and b; of groups, over the sums Q and R.
        constant: its maximum over the times, the C(T) of the concentration theorem.
        mean: the ODE's `Trajectory`.
        noise_error: the error of D from its nodes over its largest entry, the larger one of the
            first and the last time; 0 where it is exact, NaN where one set of random nodes tells
            none or the run failed. Above 0.5 there is a RuntimeWarning, but not inside jit.
        result: the ODE's code.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> spread = ld.fluctuations(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> spread.covariance.shape, np.round(spread.constant, 2)
        ((3, 2, 2), Array(0.2, dtype=float64))
    """

    alpha: Float[Array, "*batch times"]
    std: Spread
    covariance: Float[Array, "*batch times p p"]
    mean_norm: Float[Array, "*batch times"]
    constant: Float[Array, "*batch"]
    mean: Trajectory
    noise_error: Float[Array, "*batch"] | Absent = None

    @property
    def result(self) -> Array:
        return self.mean.result


def fluctuations(
    problem: ProblemLike,
    rule: RuleLike,
    start: StateLike,
    ts: RealLike,
    *,
    averages: AveragesOption = None,
    noise_nodes: AbstractNodes | None = None,
    rtol: RealLike = 1e-7,
    atol: RealLike = 1e-12,
    max_steps: CountLike = MAX_STEPS,
) -> Fluctuations:
    """Covariance of sqrt(n) (m - m_ode) from a fixed start, along the ODE.

    Equation: dSigma/dalpha = J Sigma + Sigma J^T + D(m), Sigma = 0 at ts[0], with J the Jacobian of
    the ODE and D the covariance of one sample's increment.

    Args:
        problem: the teacher-student problem.
        rule: the learning rule.
        start, ts, averages: as for `solve_ode`.
        noise_nodes: nodes for D; None chooses.
        rtol: relative tolerance of the solver. Where student and teacher nearly agree the variance
            of eg is a small difference of large covariances: at the default its standard deviation
            is right to 1e-3 where eg has fallen to 1e-4, at ten times the default to a half. Where
            averages are over nodes of what jumps, it is raised to a five-hundredth of the bound on
            their relative error, of what bends to 2e-6 at most: finer, the solver would follow
            single nodes. Where eg is not small, 1e-4 is as good and takes a fifth of the steps.
        atol: absolute tolerance of the solver.
        max_steps: steps after which a run stops with `Result.MAX_STEPS`.

    Raises:
        ValueError: as `solve_ode`; for `SlowMomentum`, whose velocities fluctuate too.

    Source:
        The central limit behind Theorem 1 of Goldt et al. (2020); constant momentum enters as lr /
        (1 - beta).

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> spread = ld.fluctuations(ld.Problem(noise=0.1), ld.SGD(lr=0.5), start, [0.0, 1.0, 2.0])
        >>> np.round(spread.std.Q[:, 0, 0] / jnp.sqrt(784.0), 3)
        Array([0.   , 0.004, 0.005], dtype=float64)
    """
    require_arguments("fluctuations", problem=problem, rule=rule, start=start, ts=ts)
    require_no_slow_momentum(rule, "fluctuations")
    ts, start = checked_times(ts), as_state(start)
    rtol, atol = checked_tolerances(rtol, atol)
    max_steps = checked_max_steps(max_steps)
    flow = overlap_flow(problem, rule, start, averages=averages)
    nodes = noise_averages(problem, rule, flow.start, noise_nodes)
    found = _fluctuations(flow, nodes, ts, (rtol, atol), max_steps)
    warn_of_averages(found.mean)
    warn_of_noise(found.noise_error)
    warn_if_failed(found.mean)
    return found


class _WithCovariance(eqx.Module):
    """The vector field of (y, upper triangle of Sigma)."""

    flow: OverlapFlow
    nodes: NodeAverages

    @eqx.filter_jit  # traced once, like the flow
    def __call__(self, t: Any, y: Any, args: Any) -> Array:
        y, sigma = self.split(y)
        drift = self.flow(t, y, None)
        stretched = self.flow.jacobian(t, y) @ sigma
        # Lyapunov's equation for the covariance
        growth = stretched + stretched.T + diffusion(self.flow, self.nodes, t, y)
        return jnp.concatenate([drift, triu(growth)])

    def join(self, y: Array) -> Array:
        """The packed state with no fluctuations."""
        return jnp.concatenate([y, jnp.zeros(len(y) * (len(y) + 1) // 2, y.dtype)])

    def split(self, state: Array) -> tuple[Array, Array]:
        # p + p (p + 1) / 2 entries in all
        p = (math.isqrt(9 + 8 * len(state)) - 3) // 2
        return state[:p], symmetric_from_triu(state[p:], p)


@eqx.filter_jit
def _fluctuations(
    flow: OverlapFlow,
    nodes: NodeAverages,
    ts: Times,
    tolerances: tuple[Array, Array],
    max_steps: int,
) -> Fluctuations:
    field = _WithCovariance(flow, nodes)
    solved = integrate(
        diffrax.ODETerm(field),
        flow,
        field.join(flow.pack(flow.start)),
        ts,
        tolerances,
        max_steps=max_steps,
        slopes=True,
    )
    ys, sigma = jax.vmap(field.split)(solved.ys)
    mean = trajectory_from(flow, ts, solved, ys=ys)
    # Of groups: the covariance of the Euclidean overlaps
    sums = sums_of_groups(flow) if isinstance(flow, GroupedFlow) else jnp.eye(ys.shape[1])
    total = sums @ sigma @ sums.T
    mean_norm = jax.vmap(lambda s: gaussian_norm(_full_weights(flow, s)))(total)
    finished = mean.result == Result.SUCCESS.value
    constant = jnp.where(finished, jnp.max(mean_norm), jnp.nan)
    ends = jnp.array([0, -1])
    of_noise = noise_error(flow, nodes, ts[ends], ys[ends])
    spread = _spread(flow, ys, sigma, total)
    return Fluctuations(ts, spread, sigma, mean_norm, constant, mean, of_noise)


def sums_of_groups(flow: GroupedFlow) -> Float[Array, "p_sums p"]:
    """The matrix that makes of the coordinates of all groups those of their sums."""

    def summed(y: Array) -> Array:
        matrices, (v, b, _, _) = flow.parts(y)
        return flow.coordinates(matrices.Q.sum(axis=0), matrices.R.sum(axis=0), v, b)

    return jax.jacfwd(summed)(flow.pack(flow.groups))


def _deviations(sigma: Array) -> Array:
    return jnp.sqrt(jnp.maximum(jax.vmap(jnp.diagonal)(sigma), 0.0))


def _spread(flow: OverlapFlow, ys: Array, sigma: Array, total: Array) -> Spread:
    """sigma: the covariance in the flow's coordinates; total: that of the Euclidean overlaps."""
    shaped, own = jax.vmap(lambda y: OverlapFlow.unpack(flow, y))(_deviations(total)), None
    if isinstance(flow, GroupedFlow):
        own = jax.vmap(flow.matrices)(_deviations(sigma))
    still = jnp.zeros_like(shaped.v)
    # Delta method: the variance of eg is that of its linearisation.
    gradient = jax.vmap(jax.grad(lambda y: _eg(flow, y)))(ys)
    eg_variance = jnp.einsum("tp,tpq,tq->t", gradient, sigma, gradient)
    return Spread(
        Q=shaped.Q,
        R=shaped.R,
        v=shaped.v if flow.rule.trains_second else still,
        b=None if flow.start.b is None else (shaped.b if flow.rule.trains_biases else still),
        eg=jnp.sqrt(jnp.maximum(eg_variance, 0.0)),
        Q_groups=None if own is None else own.Q,
        R_groups=None if own is None else own.R,
    )


def _eg(flow: OverlapFlow, y: Array) -> Array:
    return flow.error_by(flow.averages, flow.unpack(y))


def _full_weights(flow: OverlapFlow, sigma: Float[Array, "p p"]) -> Float[Array, "p p"]:
    """Sigma scaled so that its trace counts off-diagonal entries of Q twice."""
    k, m = flow.start.k, flow.start.m
    # sqrt 2 off the diagonal, 1 on it: variances are counted twice and once.
    twice = jnp.full((k, k), math.sqrt(2.0)) - (math.sqrt(2.0) - 1) * jnp.eye(k)
    scale = flow.coordinates(twice, jnp.ones((k, m)), jnp.ones(k), jnp.ones(k))
    return sigma * scale[:, None] * scale[None, :]


def gaussian_norm(covariance: Float[Array, "p p"]) -> Float[Array, ""]:
    """E||z|| for z ~ N(0, covariance), to about 1e-10 relative.

    Equation: E sqrt X = (1 / (2 sqrt pi)) int_0^inf (1 - E exp(-t X)) t^(-3/2) dt with
    X = |z|^2 and E exp(-t X) = det(1 + 2 t covariance)^(-1/2); trapezoidal in log t, where
    the integrand is analytic and decays on both sides.
    """
    eigenvalues = jnp.maximum(jnp.linalg.eigvalsh(covariance), 0.0)
    total = jnp.sum(eigenvalues)
    # Only the shares of the trace matter; the scale comes back at the end.
    shares = eigenvalues / jnp.where(total > 0, total, 1.0)
    # At both ends the integrand has fallen to exp(-25), 1e-11.
    log_t = jnp.linspace(-50.0, 50.0, 401)
    log_det = jnp.sum(jnp.log1p(2 * jnp.exp(log_t)[:, None] * shares), axis=1)
    integrand = -jnp.expm1(-0.5 * log_det) * jnp.exp(-0.5 * log_t)
    # Trapezoidal rule, which converges exponentially for analytic integrands that decay
    integral = jnp.sum(integrand) * (log_t[1] - log_t[0]) / (2 * math.sqrt(math.pi))
    return jnp.sqrt(jnp.where(total > 0, total, 1.0)) * integral * (total > 0)
