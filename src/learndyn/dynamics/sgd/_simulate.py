"""SGD on weights: the experiment."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, DTypeLike, Int, PRNGKeyArray

from learndyn._checks import as_key, checked_times, in_default_float
from learndyn._numerics.forward_only import forward_only
from learndyn._outcome import warn_if_failed
from learndyn._types import KeyLike, RealLike, Times
from learndyn.averages import AbstractAverages, AbstractNodes, choose_averages, has_biases
from learndyn.dynamics._record import Rows, Run, ending, record
from learndyn.dynamics._trajectory import Trajectory
from learndyn.dynamics.sgd._checks import (
    are_valid_times,
    are_valid_values,
    checked_dtype,
    require_valid,
)
from learndyn.dynamics.sgd._directions import Directions, directions_of
from learndyn.dynamics.sgd._loop import Carry, first_carry, run_steps
from learndyn.dynamics.sgd._measure import Measurement
from learndyn.dynamics.sgd._step import (
    Gradient,
    LearningState,
    Parameters,
    initial_state,
    sgd_step,
    with_velocity,
)
from learndyn.dynamics.sgd._stream import AbstractStream, make_stream, with_draws
from learndyn.inputs import (
    AbstractInputs,
    Gaussian,
    InputsLike,
    TrainingSet,
    as_distribution,
    base_of,
)
from learndyn.problems import Problem
from learndyn.rules import AbstractRule
from learndyn.states import (
    GroupedOverlaps,
    ProblemLike,
    RuleLike,
    Weights,
    WeightsLike,
    overlaps,
    require_arguments,
)


def simulate_sgd(
    problem: ProblemLike,
    rule: RuleLike,
    weights: WeightsLike,
    ts: RealLike,
    *,
    key: KeyLike,
    inputs: InputsLike = None,
    input_dtype: DTypeLike | None = None,
    averages: AbstractNodes | AbstractAverages | str | None = None,
    velocity: Gradient | None = None,
    keep_weights: bool = True,
    groups: GroupedOverlaps | Any = None,
) -> Trajectory:
    """SGD on weights in n dimensions: fresh samples, fresh batches or a finite training set.

    Args:
        problem: the teacher-student problem.
        rule: the learning rule.
        weights: the state at ts[0].
        ts: (times,) increasing times alpha = steps / n, dimensionless; a time is met at step
            round(alpha n), and the trajectory's `alpha` is that step / n.
        key: random key. The samples of a step depend on the key and the step's index alone.
        inputs: a distribution of inputs, or a `TrainingSet`; None: `Gaussian()`.
        input_dtype: float type in which inputs are drawn; None: that of the weights. float32 draws
            are faster (each is an exact float64 number; their law is N(0, 1) to 1e-7).
        averages: how to take the Gaussian averages in eg; see `learndyn.averages`.
        velocity: the trajectory's `velocity` of an earlier run with momentum; None: at rest.
        keep_weights: whether the trajectory has the last `weights` (and, with momentum, the last
            `velocity`), from which `continue_run` goes on; False saves their memory in large
            batches.
        groups: the theory's start, a `GroupedOverlaps`; its groups of directions are those in
            which overlaps are recorded; None: none are.

    Returns:
        A `Trajectory` with eg for the distribution of `inputs`: by Gaussian averages at the
        measured overlaps where the inputs are Gaussian, else over all images (or test inputs).
        Inputs that are not white add Q_field, R_field, T_field, `groups` adds Q_groups, R_groups,
        T_groups, and a training set adds `stats["train_error"]`, the mean loss over it. Forward
        derivatives only.

    Raises:
        ValueError: for bad values, shapes, times or options.

    Source:
        Goldt et al. 2020, Eqs. (2)-(3); `sgd_step` has the equations.

    Example:
        >>> weights = ld.init_weights(jax.random.key(0), n=50, k=1, m=1)
        >>> problem, rule, key = ld.Problem(), ld.SGD(lr=0.5), jax.random.key(1)
        >>> run = ld.simulate_sgd(problem, rule, weights, [0.0, 4.0], key=key)
        >>> run.level, run.weights.w.shape, bool(run.eg[-1] < run.eg[0])
        ('sgd', (1, 50), True)
    """
    run = _checked(problem, rule, weights, ts, key, inputs, input_dtype, averages, groups)
    done = _simulate(_moving(run, velocity))
    return warn_if_failed(done if keep_weights else replace(done, weights=None, velocity=None))


def simulate_sgd_in_parts(
    problem: ProblemLike,
    rule: RuleLike,
    weights: WeightsLike,
    ts: RealLike,
    report: Callable[[float], None],
    *,
    parts: int,
    key: KeyLike,
    inputs: InputsLike = None,
    input_dtype: DTypeLike | None = None,
    averages: AbstractNodes | AbstractAverages | str | None = None,
) -> Trajectory:
    """`simulate_sgd`, for a progress bar: report(fraction of the steps made) is called `parts`
    times. The result is the same; several programs are compiled instead of one."""
    run = _checked(problem, rule, weights, ts, key, inputs, input_dtype, averages)
    carry, (first, last) = _begin(run)
    for part in range(1, parts):
        carry = _continue(run, carry, first + (last - first) * part // parts)
        jax.block_until_ready(carry.step)
        report(part / parts)
    # Without a last step: the run ends with its last row.
    carry = _continue(run, carry, jnp.asarray(jnp.iinfo(last.dtype).max, last.dtype))
    report(1.0)
    return warn_if_failed(_finish(run, carry))


class _Run(eqx.Module):
    """All that decides a run."""

    problem: Problem
    rule: AbstractRule
    weights: Weights
    ts: Times
    key: PRNGKeyArray
    inputs: AbstractInputs | TrainingSet
    averages: AbstractAverages
    dtype: jnp.dtype = eqx.field(static=True)
    velocity: Gradient | None = None
    directions: Directions | None = None

    @property
    def times_valid(self) -> Bool[Array, ""]:
        return are_valid_times(self.ts, self.steps_per_time, self.rule.batch_size)

    @property
    def steps_per_time(self) -> float:
        return float(self.rule.steps_per_time(self.weights.n))

    @property
    def steps(self) -> Int[Array, " times"]:
        """Steps at which to save."""
        return jnp.round(jnp.where(self.times_valid, self.ts, 0.0) * self.steps_per_time).astype(
            int
        )

    def measured_stream(self) -> tuple[Measurement, AbstractStream]:
        stream = make_stream(
            self.problem, self.weights, self.inputs, self.key, self.rule.batch_size, self.dtype
        )
        given = self.problem, self.rule, self.weights, base_of(self.inputs), stream
        measure = Measurement(*given, self.directions)
        k, n = self.weights.w.shape
        return measure, with_draws(stream, self.rule, self.key, k, n)

    def advance(self, state: LearningState, batch: tuple[Array, ...], step: Array) -> LearningState:
        alpha, teacher = step / self.steps_per_time, self.weights.w_teacher
        return sgd_step(self.problem, self.rule, state, batch, alpha, teacher)


@eqx.filter_jit
def _simulate(run: _Run) -> Trajectory:
    measure, stream = run.measured_stream()
    carry = first_carry(measure, stream, _start(run), run.steps)
    return _result(run, run_steps(run.advance, measure, stream, carry, run.steps))


@eqx.filter_jit
def _begin(run: _Run) -> tuple[Carry, tuple[Array, Array]]:
    """The run before its first step, and the first and last step to save."""
    measure, stream = run.measured_stream()
    carry = first_carry(measure, stream, _start(run), run.steps)
    return carry, (run.steps[0], run.steps[-1])


@eqx.filter_jit
def _continue(run: _Run, carry: Carry, stop: Int[Array, ""]) -> Carry:
    measure, stream = run.measured_stream()
    return run_steps(run.advance, measure, stream, carry, run.steps, stop)


@eqx.filter_jit
def _finish(run: _Run, carry: Carry) -> Trajectory:
    return _result(run, carry)


def _start(run: _Run) -> LearningState:
    weights = run.weights
    at_rest = initial_state(run.rule, Parameters(weights.w, weights.v, weights.b))
    return at_rest if run.velocity is None else at_rest._replace(velocity=run.velocity)


def _moving(run: _Run, velocity: Gradient | None) -> _Run:
    """The run with this velocity at its start. Raises: ValueError where it does not fit."""
    if velocity is None:
        return run
    with_velocity(jax.eval_shape(_start, run), velocity)
    return eqx.tree_at(lambda run: run.velocity, run, velocity, is_leaf=lambda x: x is None)


def _result(run: _Run, carry: Carry) -> Trajectory:
    """The trajectory that the saved rows make, with the state at its end."""
    carry = forward_only(carry, "simulate_sgd")
    saved = carry.rows
    valid = run.times_valid & are_valid_values(run.problem, run.rule, run.weights, run.inputs)
    weights, k = run.weights, run.weights.k
    q, r = saved.overlaps[:, :k, :k], saved.overlaps[:, :k, k:]
    rows = Rows(q, r, saved.v, saved.b, saved.fields)
    stopped, result = ending(rows, valid)
    n = jnp.asarray(weights.n)
    t = overlaps(weights).T
    inputs = "" if isinstance(run.inputs, Gaussian) else type(run.inputs).__name__
    given = (run.problem, run.rule, t, weights.layers, run.averages, run.ts, n)
    asked = Run("sgd", *given, run.key, inputs, str(run.dtype))
    alpha = jnp.where(run.times_valid, run.steps / run.steps_per_time, run.ts)
    stats = {} if saved.train_error is None else {"train_error": saved.train_error}
    done = record(asked, rows, stopped, result, alpha=alpha, stats=stats, eg=saved.eg)
    # As all that a failed run leaves, its last state is NaN.
    end = jax.tree.map(lambda x: jnp.where(stopped[-1], jnp.nan, x), carry.state)
    moved = (end.parameters.w, weights.w_teacher, end.parameters.v, weights.v_teacher)
    last = Weights(*moved, end.parameters.b, weights.b_teacher, weights.latent_teacher)
    done = replace(done, weights=last, velocity=end.velocity)
    if run.directions is None or saved.groups is None:
        return done
    there = jnp.where(stopped[:, None, None, None], jnp.nan, saved.groups)
    start = run.directions.start
    return replace(
        done,
        Q_groups=there[:, :, :k, :k],
        R_groups=there[:, :, :k, k:],
        T_groups=saved.groups[0, :, k:, k:],
        spectrum=start.spectrum,
        T_unseen=start.T_unseen,
    )


def _checked(
    problem: ProblemLike,
    rule: RuleLike,
    weights: WeightsLike,
    ts: RealLike,
    key: KeyLike,
    inputs: InputsLike,
    input_dtype: DTypeLike | None,
    averages: AbstractNodes | AbstractAverages | str | None,
    groups: GroupedOverlaps | Any = None,
) -> _Run:
    """The run that these arguments of `simulate_sgd` describe."""
    require_arguments("simulate_sgd", problem=problem, rule=rule, weights=weights, ts=ts)
    inputs = as_distribution(inputs)
    ts, key = checked_times(ts), as_key(key)
    require_valid(problem, rule, weights, ts, inputs)
    ready = choose_averages(
        problem, weights.k, weights.m, biases=has_biases(weights, rule), averages=averages
    )
    dtype = checked_dtype(input_dtype, weights)
    # What was made in another precision is of the default one from here on.
    problem, rule, weights, inputs = in_default_float((problem, rule, weights, inputs))
    directions = directions_of(groups, weights, base_of(inputs))
    return _Run(problem, rule, weights, ts, key, inputs, ready, dtype, directions=directions)
