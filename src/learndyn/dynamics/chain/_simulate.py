"""The overlap chain: SGD with Gaussian inputs at finite n, at a cost that does not depend on n."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key

from learndyn._checks import as_float, as_key, checked_times, is_concrete, require_x64
from learndyn._numerics.forward_only import reverse_refused
from learndyn._outcome import warn_if_failed
from learndyn._types import KeyLike, RealLike, Times
from learndyn.averages import AbstractAverages, choose_averages, has_biases
from learndyn.dynamics._ode import AveragesOption
from learndyn.dynamics._prepare import (
    Number,
    are_finite,
    groups_hold,
    numbers_hold,
    overlaps_hold,
    require_countable,
    require_finite_batch,
    require_local,
    require_run,
    require_sizes,
    require_without_input_noise,
    run_numbers,
    sizes_hold,
    sphere_holds,
    times_hold,
)
from learndyn.dynamics._record import Rows, Run, ending, record, record_groups
from learndyn.dynamics._trajectory import Trajectory
from learndyn.dynamics.chain._draws import steps_per_block
from learndyn.dynamics.chain._lanes import by_lanes, lane_count
from learndyn.dynamics.chain._loop import Row, run_chain
from learndyn.dynamics.chain._random import lane_seeds
from learndyn.dynamics.chain._step import ChainSetting, ChainState
from learndyn.problems import Problem
from learndyn.rules import AbstractRule, reads_size
from learndyn.states import (
    GroupedOverlaps,
    Overlaps,
    ProblemLike,
    RuleLike,
    StateLike,
    as_state,
    require_arguments,
)


def simulate_chain(
    problem: ProblemLike,
    rule: RuleLike,
    start: StateLike,
    ts: RealLike,
    *,
    n: RealLike,
    key: KeyLike,
    averages: AveragesOption = None,
) -> Trajectory:
    """One run of SGD on fresh Gaussian inputs in n dimensions, through its overlaps alone.

    The joint law of a batch's fields and inner products depends on the weights only through Q, R,
    T, so (Q, R, v, b) is a Markov chain: exactly that of SGD on weights, at any n >= k + m (2 k + m
    with momentum). For structured inputs, `GroupedOverlaps`, the same holds in each group of
    directions, which may be as few as one.

    Under vmap all runs go side by side, some hundred at a time being fastest on a CPU.

    Args:
        problem: the teacher-student problem.
        rule: the learning rule.
        start: the state at ts[0], overlaps or weights that have them; with momentum, at rest.
            `GroupedOverlaps`: each group has share * n directions.
        ts: (times,) increasing times alpha = steps / n, dimensionless; a time is met at step
            round(alpha n), and the trajectory's `alpha` is that step / n.
        n: input dimension, data: a whole number, at least the number of weight vectors in play, k +
            m, or 2 k + m with momentum. For groups: share * n is whole for each.
        key: random key. The numbers of a step depend on the key and the step's index alone.
        averages: how to take the Gaussian averages in eg; see `learndyn.averages`.

    Raises:
        ValueError: as `solve_ode`, for an n that is too small or not whole, or a key that is none;
            for groups without a whole number of directions, or whose overlaps no vectors in so few
            directions have, and for `InputNoise` with groups.

    Source:
        Goldt et al. (2020), Eqs. (2)-(3), for the steps; `chain_step` has the equations.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> problem, rule, key = ld.Problem(noise=0.1), ld.SGD(lr=0.5), jax.random.key(0)
        >>> run = ld.simulate_chain(problem, rule, start, [0.0, 1.0, 2.0], n=500, key=key)
        >>> run.level, int(run.n), bool(run.eg[-1] < 0.1)
        ('chain', 500, True)
    """
    require_arguments("simulate_chain", problem=problem, rule=rule, start=start, ts=ts)
    ts, key, start = checked_times(ts), as_key(key), as_state(start)
    require_x64("the chain", problem, rule, start)
    require_finite_batch(rule, "simulate_chain")
    require_local(rule, "simulate_chain")
    n = as_float(n, "n")
    require_run(problem, rule, start, _numbers(problem, rule, start, n), "simulate_chain")
    require_countable(ts, n, _most_steps(rule, start))
    if isinstance(start, GroupedOverlaps):
        require_without_input_noise(rule, start)
        require_sizes(start, n)
    ready = choose_averages(
        problem, start.k, start.m, biases=has_biases(start, rule), averages=averages
    )
    with reverse_refused("simulate_chain"):
        run = _simulate(problem, rule, start, ready, ts, n, key, hidden=_is_hidden(start))
    return warn_if_failed(run)


@eqx.filter_jit
def _simulate(
    problem: Problem,
    rule: AbstractRule,
    start: Overlaps | GroupedOverlaps,
    averages: AbstractAverages,
    ts: Times,
    n: Float[Array, ""],
    key: Key[Array, ""],
    *,
    hidden: bool,
) -> Trajectory:
    valid = _is_valid(problem, rule, start, ts, n)
    n_safe = jnp.where(valid, n, float(_vectors(rule, start)))
    steps = jnp.round(jnp.where(valid, ts, 0.0) * n_safe).astype(int)
    setting, state = _prepared(problem, rule, start, n_safe, valid)
    setting = setting if hidden else dataclasses.replace(setting, unseen=None)
    arrays, static = eqx.partition(setting, eqx.is_array)

    def run(tree: tuple) -> Row:
        arrays, state, keys, steps = tree
        # Runs that differ in a rate alone may share their key.
        keys = jnp.broadcast_to(keys, (lane_count(tree),))
        return run_chain(eqx.combine(arrays, static), state, lane_seeds(keys), steps)

    q, r, v, b = by_lanes(run)((arrays, state, key, steps))
    alpha = jnp.where(valid, steps / n_safe, ts)
    if isinstance(start, GroupedOverlaps):
        own = start, jnp.moveaxis(q, -1, 1), jnp.moveaxis(r, -1, 1)
        asked = Run("chain", problem, rule, start.euclidean.T, start.layers, averages, ts, n, key)
        stopped, result = ending(Rows(q, r, v, b), valid)
        return record_groups(asked, own, (v, b), stopped, result, alpha=alpha)
    rows = Rows(q[..., 0], r[..., 0], v, b)
    stopped, result = ending(rows, valid)
    asked = Run("chain", problem, rule, start.T, start.layers, averages, ts, n, key)
    return record(asked, rows, stopped, result, alpha=alpha)


def _prepared(
    problem: Problem,
    rule: AbstractRule,
    start: Overlaps | GroupedOverlaps,
    n: Float[Array, ""],
    valid: Bool[Array, ""],
) -> tuple[ChainSetting, ChainState]:
    """The start in its orthonormal frame, or in those of all groups."""
    k, m = start.k, start.m
    order = jnp.concatenate([jnp.arange(k, k + m), jnp.arange(k)])  # the teacher first
    if isinstance(start, GroupedOverlaps):
        c, spectrum = start.covariances[:, order][:, :, order], start.spectrum
        sizes = jnp.round(jnp.where(valid, spectrum.shares, 1.0) * n)
        root = jax.vmap(_root_of_group)(jnp.where(valid, c, 0.0), sizes)
        scale = jnp.sqrt(jnp.where(valid, spectrum.eigenvalues, 1.0))
        hidden = _triangular_root(jnp.where(valid, start.T_unseen, 0.0))
        others = {"scale": scale, "unseen": hidden, "groups": start.groups}
    else:
        c = start.covariance[order][:, order]
        root, sizes, others = _triangular_root(jnp.where(valid, c, 0.0))[None], n[None], {}
    # Groups last, in front of the lanes
    root = jnp.moveaxis(root, 0, -1)
    given = root[:m, :m], start.v_teacher, start.b_teacher, n, sizes
    reads = reads_size(problem, rule, k, m)
    setting = ChainSetting(problem, rule, *given, **others, reads_size=reads)
    moving = rule.momentum is not None
    rows, groups = 2 * k if moving else k, (root.shape[-1],)
    rows_t = jnp.zeros((rows, m, *groups)).at[:k].set(root[m:, :m])
    # Velocities start at rest: their rows are 0.
    beyond = jnp.swapaxes(root[m:, m:], 0, 1)
    columns = list(jnp.zeros((rows, rows, *groups)).at[:k, :k].set(beyond))
    u_v = jnp.zeros(k) if moving and rule.trains_second else None
    u_b = jnp.zeros(k) if moving and rule.trains_biases else None
    return setting, ChainState(rows_t, columns, start.v, start.b, u_v, u_b)


def _triangular_root(c: Float[Array, "d d"]) -> Float[Array, "d d"]:
    """Lower-triangular L >= 0 on its diagonal with L L^T = c to rounding, whatever its rank."""
    # A root by eigenvalues exists at any rank; QR turns its transpose into a triangular factor.
    values, vectors = jnp.linalg.eigh(c)
    root = jnp.linalg.qr((vectors * jnp.sqrt(jnp.maximum(values, 0.0))).T, mode="r").T
    # The sign of every column is free; with this one a run that goes on finds its own frame.
    return root * jnp.where(jnp.diagonal(root) < 0, -1.0, 1.0)


def _is_hidden(start: Overlaps | GroupedOverlaps) -> bool:
    """Whether a teacher's fields may have a part that the inputs do not show."""
    unseen = start.T_unseen if isinstance(start, GroupedOverlaps) else np.zeros(())
    return not is_concrete(unseen) or bool(np.any(np.asarray(unseen)))


def _root_of_group(c: Float[Array, "d d"], size: Float[Array, ""]) -> Float[Array, "d d"]:
    """`_triangular_root` of vectors in `size` directions, with exact zeros beyond that column."""
    # The largest eigenvalues are those of real directions; what the others have is rounding.
    values, vectors = (x[..., ::-1] for x in jnp.linalg.eigh(c))
    real = jnp.arange(len(values)) < size
    root = jnp.where(real, vectors * jnp.sqrt(jnp.maximum(values, 0.0)), 0.0)
    # Householder reflections keep exact zeros, and each row takes up one direction.
    root = jnp.linalg.qr(root.T, mode="r").T
    root = root * jnp.where(jnp.diagonal(root) < 0, -1.0, 1.0)
    return jnp.where(real, root, 0.0)


def _numbers(
    problem: Problem,
    rule: AbstractRule,
    start: Overlaps | GroupedOverlaps,
    n: Float[Array, "..."],
) -> list[Number]:
    """All numbers of a run, with their bounds."""
    if isinstance(start, GroupedOverlaps):
        why = "an input dimension, with at least one direction in each group"
        return [
            Number("n", n, why, least=float(start.groups), whole=True),
            *run_numbers(problem, rule, n),
        ]
    least = _vectors(rule, start)
    sizes = "k + m" if rule.momentum is None else "2 k + m, units and velocities,"
    why = f"{sizes} = {least} weight vectors are followed; below that use simulate_sgd"
    dimension = Number("n", n, why, least=float(least), whole=True)
    return [dimension, *run_numbers(problem, rule, n)]


def _vectors(rule: AbstractRule, start: Overlaps | GroupedOverlaps) -> int:
    """Weight vectors in play: units, and the velocities of the student's."""
    return start.m + start.k * (1 if rule.momentum is None else 2)


def _is_valid(
    problem: Problem,
    rule: AbstractRule,
    start: Overlaps | GroupedOverlaps,
    ts: Times,
    n: Float[Array, ""],
) -> Bool[Array, ""]:
    """Whether input, which may be traced, is that of a run."""
    if isinstance(start, GroupedOverlaps):
        own = groups_hold(start) & sizes_hold(start, n)
    else:
        own = overlaps_hold(start)
    return (
        are_finite(start, ts, rule)
        & own
        & sphere_holds(rule, start)
        & numbers_hold(_numbers(problem, rule, start, n))
        & times_hold(ts)
        & (n * ts[-1] < _most_steps(rule, start))
    )


def _most_steps(rule: AbstractRule, start: Overlaps | GroupedOverlaps) -> float:
    """Blocks of steps are counted in 32 bits."""
    groups = start.groups if isinstance(start, GroupedOverlaps) else 1
    return 2.0**32 * steps_per_block(rule, _vectors(rule, start), start.k, groups)
