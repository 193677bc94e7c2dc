"""The Langevin level: the ODE's drift with the noise of finite n, at a cost independent of n."""

from collections.abc import Callable
from typing import Any, ClassVar

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._checks import as_float, as_key, checked_times, require_unbatched
from learndyn._numerics.forward_only import forward_only
from learndyn._numerics.linear_algebra import psd_cholesky, psd_solve_lower
from learndyn._outcome import warn_if_failed
from learndyn._results import Result
from learndyn._types import KeyLike, PRNGKey, RealLike, Times
from learndyn.averages import AbstractNodes, NodeAverages, QuasiMonteCarlo
from learndyn.dynamics._diffusion import (
    diffusion,
    noise_averages,
    noise_error,
    require_no_slow_momentum,
    warn_of_noise,
)
from learndyn.dynamics._grouped_flow import GroupedFlow
from learndyn.dynamics._integrate import (
    Solved,
    has_diverged,
    is_valid,
    reached_rows,
    result_code,
    trajectory_from,
)
from learndyn.dynamics._ode import AveragesOption, overlap_flow
from learndyn.dynamics._overlap_flow import OverlapFlow
from learndyn.dynamics._prepare import Number, require_number
from learndyn.dynamics._step_errors import chosen_step, relative_errors, step_errors, warn_of_step
from learndyn.dynamics._trajectory import Trajectory
from learndyn.states import ProblemLike, RuleLike, StateLike, as_state, require_arguments

_NODES = QuasiMonteCarlo(points=256, replicates=2, symmetric=True)
"""Enough for the noise's strength: C(T) of an erf committee is off by 0.2 % with these."""

_ON_GRID = 1e-6
"""Steps by which rounding may move a time that lies on the grid of steps."""


def simulate_langevin(
    problem: ProblemLike,
    rule: RuleLike,
    start: StateLike,
    ts: RealLike,
    *,
    n: RealLike,
    key: KeyLike,
    dt: RealLike | None = None,
    averages: AveragesOption = None,
    noise_nodes: AbstractNodes | None = None,
) -> Trajectory:
    """One run of dm = f(m) dalpha + n^(-1/2) B(m) dW (Ito), B B^T = D(m), by Euler-Maruyama.

    Times between steps are interpolated linearly. After each step the overlaps are kept positive
    semi-definite: negative eigenvalues of the student's part outside the teacher's span, Q - R T^-1
    R^T, are set to 0, and `stats["corrections"]` counts the steps at which. Of `GroupedOverlaps`
    that is so in each group.

    Args:
        problem: the teacher-student problem.
        rule: the learning rule.
        start, ts, averages: as for `solve_ode`.
        n: input dimension, any number >= 1, data.
        key: random key.
        dt: fixed step in alpha; None: the longest of a series of halved ones that changes eg by
            less than 1 %, where the first and the last time are what counts. The numbers of a step
            depend on key and its index alone.
        noise_nodes: nodes for D; None chooses.

    Returns:
        A `Trajectory` whose `stats` also hold `dt`, the step used; `step_error`, the error of eg at
        every saved time that comes from the step, measured without noise by half steps; and
        `step_error_relative`, over eg (or over 1/1000 of its largest value). Where that is above 2
        % there is a RuntimeWarning, but not inside jit. `noise_error` is the error of D at the
        start from its nodes, over its largest entry; above 0.5 there is such a warning, too.

    Raises:
        ValueError: as `solve_ode`, for n < 1, dt <= 0, a key that is none, or `SlowMomentum`.

    Source:
        Exact to first order in n^(-1/2); f and D as in `solve_ode` and `fluctuations`.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> problem, rule, key = ld.Problem(noise=0.1), ld.SGD(lr=0.5), jax.random.key(0)
        >>> run = ld.simulate_langevin(problem, rule, start, [0.0, 4.0], n=500, key=key, dt=0.05)
        >>> run.level, bool(run.eg[-1] < 0.1)
        ('langevin', True)
    """
    require_arguments("simulate_langevin", problem=problem, rule=rule, start=start, ts=ts)
    require_no_slow_momentum(rule, "simulate_langevin")
    ts, key, start = checked_times(ts), as_key(key), as_state(start)
    n, dt = as_float(n, "n"), None if dt is None else as_float(dt, "dt")
    require_unbatched([("n", n, 0), ("dt", dt, 0)], "simulate_langevin")
    for number in _numbers(n, dt):
        require_number(number)
    flow = overlap_flow(problem, rule, start, averages=averages)
    nodes = noise_averages(problem, rule, flow.start, noise_nodes, default=_NODES)
    # The usual nodes are too few to tell their own error.
    finer = noise_averages(problem, rule, flow.start) if noise_nodes is None else None
    run = _simulate(flow, nodes, finer, ts, n, key, dt)
    warn_of_step(run)
    warn_of_noise(run.stats["noise_error"])
    return warn_if_failed(run)


def _numbers(n: Array, dt: Array | None) -> list[Number]:
    step = [] if dt is None else [Number("dt", dt, "a step in alpha", strict=True)]
    return [Number("n", n, "an input dimension", least=1.0), *step]


class _StepNoise(diffrax.AbstractPath):
    """Brownian increments of fixed steps, each from the key and the step's index alone."""

    t0: Float[Array, ""]
    t1: Float[Array, ""]
    dt: Float[Array, ""]
    key: PRNGKey
    size: int = eqx.field(static=True)

    @property
    def first(self) -> Float[Array, ""]:
        """The index of the first step, counted from alpha = 0, so that a run that goes on takes
        the numbers of one that never stopped. A shortened last step has used up its own."""
        return jnp.ceil(self.t0 / self.dt - _ON_GRID)

    def evaluate(self, t0: Any, t1: Any = None, left: bool = True, **kwargs: Any) -> Array:
        # The step's index, not its time, decides: rounding of t0 cannot change the numbers.
        index = (jnp.round((t0 - self.t0) / self.dt) + self.first).astype(jnp.uint32)
        normal = jax.random.normal(jax.random.fold_in(self.key, index), (self.size,))
        return normal * jnp.sqrt(t1 - t0)


class _ProjectedEuler(diffrax.AbstractItoSolver):
    """Euler-Maruyama that keeps the overlaps positive semi-definite and counts corrections."""

    flow: OverlapFlow

    term_structure: ClassVar = diffrax.AbstractTerm
    interpolation_cls: ClassVar[Callable] = diffrax.LocalLinearInterpolation

    def order(self, terms: Any) -> int:
        return 1

    def strong_order(self, terms: Any) -> float:
        return 0.5

    def init(self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any) -> Array:
        return jnp.zeros((), int)

    def step(
        self, terms: Any, t0: Any, t1: Any, y0: Any, args: Any, solver_state: Any, made_jump: Any
    ) -> tuple[Array, None, dict, Array, diffrax.RESULTS]:
        # Euler-Maruyama
        y1 = y0 + terms.vf_prod(t0, y0, args, terms.contr(t0, t1))
        y1, corrected = _projected(self.flow, y1)
        dense = {"y0": y0, "y1": y1}
        return y1, None, dense, solver_state + corrected, diffrax.RESULTS.successful

    def func(self, terms: Any, t0: Any, y0: Any, args: Any) -> Array:
        return terms.vf(t0, y0, args)


def _projected(flow: OverlapFlow, y: Float[Array, " p"]) -> tuple[Array, Array]:
    """y with the smallest change of Q that makes C positive semi-definite, and whether any."""
    if isinstance(flow, GroupedFlow):
        return _projected_groups(flow, y)
    state = flow.unpack(y)
    repaired, needed = _repaired(state.Q, state.R, state.T)
    r = state.R
    if flow.rule.spherical:
        # A repair lengthens; each w_i is brought back to the sphere.
        length = jnp.sqrt(jnp.diagonal(repaired))
        repaired, r = repaired / (length[:, None] * length), r / length[:, None]
    needed = needed & jnp.all(jnp.isfinite(y))
    still = jnp.zeros_like(state.v)
    change = flow.coordinates(repaired - state.Q, r - state.R, still, still)
    return jnp.where(needed, y + change, y), needed.astype(int)


def _projected_groups(flow: GroupedFlow, y: Float[Array, " p"]) -> tuple[Array, Array]:
    """The same for the overlaps of each group."""
    matrices, vectors = flow.parts(y)
    repaired, needed = jax.vmap(_repaired)(matrices.Q, matrices.R, flow.groups.T)
    # A group that needs no repair keeps its numbers.
    q, r = jnp.where(needed[:, None, None], repaired, matrices.Q), matrices.R
    if flow.rule.spherical:
        length = jnp.sqrt(jnp.diagonal(q.sum(axis=0)))
        q, r = q / (length[:, None] * length), r / length[:, None]
    corrected = jnp.any(needed) & jnp.all(jnp.isfinite(y))
    y = jnp.where(corrected, flow.flat(matrices._replace(Q=q, R=r), vectors), y)
    return y, corrected.astype(int)


def _repaired(
    q: Float[Array, "k k"], r: Float[Array, "k m"], t: Float[Array, "m m"]
) -> tuple[Float[Array, "k k"], Array]:
    """The nearest Q that makes [[Q, R], [R^T, T]] positive semi-definite, and whether it is
    another one."""
    # Schur complement: what the teacher's span leaves of the student's overlaps
    half = psd_solve_lower(psd_cholesky(t), r.T)
    spanned = half.T @ half  # R T^-1 R^T
    finite = jnp.all(jnp.isfinite(q)) & jnp.all(jnp.isfinite(spanned))
    outside = jnp.where(finite, q - spanned, 0.0)
    eigenvalues, vectors = jnp.linalg.eigh(outside)
    # Rounding at student = teacher is no correction.
    negative = eigenvalues[0] < -1e-12 * (1.0 + jnp.trace(spanned))
    # The nearest positive semi-definite matrix, in the Frobenius norm (Higham 1988)
    repaired = spanned + (vectors * jnp.maximum(eigenvalues, 0.0)) @ vectors.T
    return repaired, finite & negative


@eqx.filter_jit
def _simulate(
    flow: OverlapFlow,
    nodes: NodeAverages,
    finer: NodeAverages | None,
    ts: Times,
    n: Array,
    key: PRNGKey,
    dt: Array | None,
) -> Trajectory:
    valid = is_valid(flow, ts, _numbers(n, dt))
    y0 = jnp.where(valid, flow.pack(flow.start), 0.0)
    ts_safe = jnp.where(valid, ts, jnp.arange(len(ts), dtype=ts.dtype))
    # Bad input must reach no solver, which would not end; nor a step of a run without time.
    safe = jax.tree.map(lambda x: jnp.where(valid, x, jnp.ones_like(x)), flow)
    if len(ts) == 1:
        dt = jnp.ones(()) if dt is None else dt
    dt = chosen_step(safe, ts_safe) if dt is None else jnp.where(valid, dt, 1.0)

    def noise(t: Any, y: Any, args: Any) -> Array:
        # Any B with B B^T = D gives the same law.
        return psd_cholesky(diffusion(flow, nodes, t, y)) / jnp.sqrt(n)

    path = _StepNoise(ts_safe[0], ts_safe[-1], dt, key, len(y0))
    terms = diffrax.MultiTerm(diffrax.ODETerm(flow), diffrax.ControlTerm(noise, path))
    told = noise_error(safe, nodes, ts_safe[:1], y0[None], finer)
    stats = {"corrections": jnp.zeros((), int), "dt": dt, "noise_error": told}
    if len(ts) == 1:
        stats |= {"step_error": jnp.zeros(1), "step_error_relative": jnp.zeros(1)}
        result = jnp.where(valid, Result.SUCCESS.value, Result.INVALID_INPUT.value)
        solved = Solved(jnp.where(valid, y0, jnp.nan)[None], result, stats)
        return trajectory_from(flow, ts, solved, level="langevin", n=n, key=key)
    solution = diffrax.diffeqsolve(
        terms,
        _ProjectedEuler(flow),
        t0=ts_safe[0],
        t1=ts_safe[-1],
        dt0=dt,
        y0=y0,
        saveat=diffrax.SaveAt(ts=ts_safe, solver_state=True),
        max_steps=None,
        event=diffrax.Event(has_diverged),
        throw=False,
    )
    ys = forward_only(reached_rows(solution, y0, valid), "simulate_langevin")
    result = result_code(solution.result, valid)
    eg, error = step_errors(safe, ts_safe, dt)
    stats |= {"step_error": error, "step_error_relative": relative_errors(eg, error)}
    stats["corrections"] = jnp.asarray(solution.solver_state)
    solved = Solved(ys, result, stats)
    return trajectory_from(flow, ts, solved, level="langevin", n=n, key=key)
