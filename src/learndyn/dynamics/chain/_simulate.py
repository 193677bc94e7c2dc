"""The overlap chain: SGD with Gaussian inputs at finite n, at a cost that does not depend on n."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray

from learndyn._checks import as_float, checked_times, is_concrete
from learndyn._results import DIVERGENCE_LIMIT, Result
from learndyn._types import RealLike, Times
from learndyn.dynamics._integrate import Solved, is_valid, trajectory_from
from learndyn.dynamics._ode import AveragesOption, overlap_flow
from learndyn.dynamics._overlap_flow import OverlapFlow
from learndyn.dynamics._trajectory import Trajectory
from learndyn.dynamics.chain._draws import steps_per_block
from learndyn.dynamics.chain._lanes import by_lanes, lane_count
from learndyn.dynamics.chain._loop import Row, run_chain
from learndyn.dynamics.chain._random import lane_seeds
from learndyn.dynamics.chain._step import ChainSetting, ChainState
from learndyn.problems import Problem
from learndyn.rules import SGD, SlowMomentum
from learndyn.states import Overlaps


def simulate_chain(
    problem: Problem,
    rule: SGD,
    start: Overlaps,
    ts: RealLike,
    *,
    n: RealLike,
    key: PRNGKeyArray,
    averages: AveragesOption = None,
) -> Trajectory:
    """One run of SGD on fresh Gaussian inputs in n dimensions, through its overlaps alone.

    The joint law of a batch's fields and inner products depends on the weights only through
    Q, R, T, so (Q, R, v, b) is a Markov chain: exactly that of SGD on weights, at any n.

    start: the state at ts[0]; with momentum, at rest. ts: (times,) increasing times
        alpha = steps / n, dimensionless; a time is met at step round(alpha n), and the
        trajectory's `alpha` is that step / n.
    n: input dimension, data: a whole number, at least the number of weight vectors in play,
        k + m, or 2 k + m with momentum.
    key: random key. The numbers of a step depend on the key and the step's index alone.
    averages: how to take the Gaussian averages in eg; see `learndyn.averages`.

    Under vmap all runs go side by side, some hundred at a time being fastest on a CPU.
    Raises: ValueError as `solve_ode`, or for an n that is too small or not whole.
    Source: Goldt et al. (2020), Eqs. (2)-(3), for the steps; `chain_step` has the equations.
    """
    ts = checked_times(ts)
    flow = overlap_flow(problem, rule, start, averages=averages)
    n = as_float(n, "n")
    _require_dimension(n, rule, start)
    _require_countable(ts, n, rule, start)
    return _simulate(flow, ts, n, as_typed_key(key))


def as_typed_key(key: PRNGKeyArray) -> Key[Array, ""]:
    """Keys of both of JAX's styles, as the newer one."""
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    return jax.random.wrap_key_data(key)


@eqx.filter_jit
def _simulate(flow: OverlapFlow, ts: Times, n: Float[Array, ""], key: Key[Array, ""]) -> Trajectory:
    valid = _is_valid(flow, ts, n)
    n_safe = jnp.where(valid, n, float(_vectors(flow.rule, flow.start)))
    steps = jnp.round(jnp.where(valid, ts, 0.0) * n_safe).astype(int)
    setting, state = _prepared(flow, n_safe, valid)
    arrays, static = eqx.partition(setting, eqx.is_array)

    def run(tree: tuple) -> Row:
        arrays, state, keys, steps = tree
        # Runs that differ in a rate alone may share their key.
        keys = jnp.broadcast_to(keys, (lane_count(tree),))
        return run_chain(eqx.combine(arrays, static), state, lane_seeds(keys), steps)

    rows = by_lanes(run)((arrays, state, key, steps))
    good = jnp.cumprod(_are_bounded(rows)) > 0
    result = jnp.where(jnp.all(good), Result.SUCCESS.value, Result.DIVERGED.value)
    result = jnp.where(valid, result, Result.INVALID_INPUT.value)
    ys = jnp.where((good & valid)[:, None], _packed(flow, rows), jnp.nan)
    alpha = jnp.where(valid, steps / n_safe, ts)
    return trajectory_from(flow, alpha, ys, Solved(ys, result, {}))


def _prepared(
    flow: OverlapFlow, n: Float[Array, ""], valid: Bool[Array, ""]
) -> tuple[ChainSetting, ChainState]:
    """The start in its orthonormal frame."""
    start, rule = flow.start, flow.rule
    k, m = start.k, start.m
    order = jnp.concatenate([jnp.arange(k, k + m), jnp.arange(k)])  # the teacher first
    c = start.covariance[order][:, order]
    root = _triangular_root(jnp.where(valid, c, 0.0))
    setting = ChainSetting(flow.problem, rule, root[:m, :m], start.v_teacher, start.b_teacher, n)
    rows = k if rule.momentum is None else 2 * k
    rows_t = jnp.zeros((rows, m)).at[:k].set(root[m:, :m])
    columns = list(jnp.zeros((rows, rows)).at[:k, :k].set(root[m:, m:].T))
    moving = rule.momentum is not None
    u_v = jnp.zeros(k) if moving and rule.lr_second is not None else None
    u_b = jnp.zeros(k) if moving and rule.lr_bias is not None else None
    return setting, ChainState(rows_t, columns, start.v, start.b, u_v, u_b)


def _triangular_root(c: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Lower-triangular L with L L^T = c to rounding, whatever its rank."""
    values, vectors = jnp.linalg.eigh(c)
    return jnp.linalg.qr((vectors * jnp.sqrt(jnp.maximum(values, 0.0))).T, mode="r").T


def _packed(flow: OverlapFlow, rows: Row) -> Float[Array, "times p"]:
    """The rows in the coordinates of the flow."""
    start = flow.start

    def packed(row: Row) -> Array:
        state = (row.Q, row.R, start.T, row.v, start.v_teacher, row.b, start.b_teacher)
        return flow.pack(Overlaps(*state))

    return jax.vmap(packed)(rows)


def _are_bounded(rows: Row) -> Bool[Array, " times"]:
    """Whether everything is finite and no squared norm per dimension is beyond the limit."""
    leaves = [leaf.reshape(leaf.shape[0], -1) for leaf in jax.tree.leaves(rows)]
    return jnp.all(jnp.abs(jnp.concatenate(leaves, axis=1)) < DIVERGENCE_LIMIT, axis=1)


def _vectors(rule: SGD, start: Overlaps) -> int:
    """Weight vectors in play: units, and the velocities of the student's."""
    return start.m + start.k * (1 if rule.momentum is None else 2)


def _is_valid(flow: OverlapFlow, ts: Times, n: Float[Array, ""]) -> Bool[Array, ""]:
    gamma = _gamma(flow.rule)
    return (
        is_valid(flow, ts)
        & (n >= _vectors(flow.rule, flow.start))
        & (n == jnp.round(n))
        & (n * ts[-1] < _most_steps(flow.rule, flow.start))
        & (True if gamma is None else gamma <= n)
    )


def _require_dimension(n: Float[Array, "..."], rule: SGD, start: Overlaps) -> None:
    if n.ndim:
        raise ValueError(
            f"simulate_chain takes one run at a time: n must be a number; got shape {n.shape}. "
            "For a batch use jax.vmap or filter_vmap, or learndyn.sweep."
        )
    if not is_concrete(n):
        return
    least, value = _vectors(rule, start), float(n)
    if not (np.isfinite(value) and value == round(value) and value >= least):
        of = "k + m" if rule.momentum is None else "2 k + m (units and velocities)"
        raise ValueError(
            f"n must be a whole number >= {of} = {least}, the weight vectors whose overlaps are "
            f"followed; got n={value:g}. Below that use simulate_sgd."
        )
    gamma = _gamma(rule)
    if gamma is not None and is_concrete(gamma) and float(gamma) > value:
        raise ValueError(
            "SlowMomentum means beta = 1 - gamma/n >= 0, so gamma must be at most n; got "
            f"gamma={float(gamma):g}, n={value:g}."
        )


def _require_countable(ts: Times, n: Float[Array, ""], rule: SGD, start: Overlaps) -> None:
    most = _most_steps(rule, start)
    if is_concrete(ts, n) and float(ts[-1]) * float(n) >= most:
        raise ValueError(
            f"a run can have fewer than {most:.3g} steps; got ts[-1] * n = "
            f"{float(ts[-1]) * float(n):.3g}."
        )


def _most_steps(rule: SGD, start: Overlaps) -> float:
    """Blocks of steps are counted in 32 bits."""
    return 2.0**32 * steps_per_block(rule.batch_size, _vectors(rule, start))


def _gamma(rule: SGD) -> Array | None:
    return rule.momentum.gamma if isinstance(rule.momentum, SlowMomentum) else None
