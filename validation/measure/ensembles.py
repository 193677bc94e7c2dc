"""Ensembles through the overlap chain, and their distance from the ODE."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from validation.lab.compiling import FOR_CHAINS, FOR_ODES, compiled, ensemble, wide

import learndyn as ld

FIELDS = ("Q", "R", "v", "b", "eg")

LENGTHS = (16, 128, 512)
"""Of the times of a program: shorter lists are filled up, so that programs are shared."""

LANES = wide(256, 4096)
"""Runs side by side in one call: fastest on a CPU core, and one program for every ensemble. On an
accelerator more of them take the same time, so ensembles are larger there."""

SLOW = 1e-6
"""Of a rate: its square is then nothing beside it."""


def filled(ts: Any, length: int | None = None) -> jax.Array:
    """`ts`, followed by times a hair after the last one until they are as many as in `LENGTHS`.

    They belong to the same step, and cost next to nothing. length: another number of times.
    """
    ts = np.asarray(ts, float)
    if length is None:
        length = min((one for one in LENGTHS if one >= len(ts)), default=len(ts))
    missing = length - len(ts)
    return jnp.asarray(np.append(ts, ts[-1] * (1 + 1e-12 * np.arange(1, missing + 1))))


def with_silent_units(start: ld.Overlaps, k: int) -> ld.Overlaps:
    """The same network with units of no weights and v = 0 added, k in all: they stay that way.

    So networks of different sizes share a program. For units that are silent at zero, as erf.
    """
    more = k - start.k
    q = jnp.pad(start.Q, ((0, more), (0, more)))
    r = jnp.pad(start.R, ((0, more), (0, 0)))
    return ld.Overlaps(q, r, start.T, jnp.pad(start.v, (0, more)), start.v_teacher)


def solve_ode(
    problem: ld.Problem,
    rule: ld.SGD,
    start: ld.Overlaps,
    ts: Any,
    *,
    averages: Any = None,
    jump_ts: Any = None,
    **options: float,
) -> ld.Trajectory:
    """`ld.solve_ode`, by a program that is shared with other lists of times."""
    jumps = None if jump_ts is None else jnp.asarray(jump_ts, float)
    data = problem, rule, start, filled(ts), jumps
    closed = averages is None and ld.averages.has_closed_form(problem, biases=start.b is not None)
    solve = _solve_closed if closed else _solve_by_nodes
    return _cut(solve(*data, averages=averages, options=tuple(options.items())), len(ts))


def _solve(
    problem: ld.Problem,
    rule: ld.SGD,
    start: ld.Overlaps,
    ts: jax.Array,
    jump_ts: jax.Array | None,
    averages: Any,
    options: tuple[tuple[str, float], ...],
) -> ld.Trajectory:
    settings = {"averages": averages, "jump_ts": jump_ts} | dict(options)
    return ld.solve_ode(problem, rule, start, ts, **settings)


_solve_closed, _solve_by_nodes = (
    compiled(_solve, options, static_argnames=("averages", "options"))
    for options in (FOR_ODES, FOR_CHAINS)
)
"""With thousands of nodes an ODE takes time to run."""


def fluctuations(problem: ld.Problem, rule: ld.SGD, start: ld.Overlaps, ts: Any) -> ld.Fluctuations:
    """`ld.fluctuations`, by a program that is shared with other lists of times."""
    return _cut(_fluctuations(problem, rule, start, filled(ts)), len(ts))


_fluctuations = compiled(ld.fluctuations)


def gradient_flow(
    problem: ld.Problem, rule: ld.SGD, start: ld.Overlaps, ts: Any, **options: Any
) -> jax.Array:
    """eg of the ODE without the lr^2 term of dQ/dalpha: the limit of small rates, by that limit."""
    rates = (rule.lr, rule.lr_second, rule.lr_bias)
    slow = [None if rate is None else rate * SLOW for rate in rates]
    decay = rule.weight_decay
    rule = ld.SGD(*slow, decay, batch_size=rule.batch_size, momentum=rule.momentum)
    return solve_ode(problem, rule, start, np.asarray(ts) / SLOW, **options).eg


def _cut(found: Any, times: int) -> Any:
    """The first rows of every array that has one for each time."""
    length = len(found.alpha)
    return jax.tree.map(lambda x: x[:times] if x.shape[:1] == (length,) else x, found)


def whole_blocks(runs: int, lanes: int = LANES) -> int:
    """The number of runs that an ensemble of at least so many has."""
    return -(-runs // lanes) * lanes


@functools.partial(ensemble, static_argnames="averages")
def _runs(
    problem: ld.Problem,
    rule: ld.SGD,
    start: ld.Overlaps,
    ts: jax.Array,
    n: jax.Array,
    keys: jax.Array,
    averages: Any = None,
) -> ld.Trajectory:
    def run(key: jax.Array) -> ld.Trajectory:
        return ld.simulate_chain(problem, rule, start, ts, n=n, key=key, averages=averages)

    return jax.vmap(run)(keys)


def chain_ensemble(
    problem: ld.Problem,
    rule: ld.SGD,
    start: ld.Overlaps,
    ts: Any,
    *,
    n: int,
    key: jax.Array,
    runs: int,
    averages: Any = None,
    costly: bool = False,
) -> dict[str, np.ndarray]:
    """Q, R, v, b, eg of shape (runs, times, ...) and alpha (times,), at input dimension n.

    runs: at least so many; there are `whole_blocks` of them. Problems, rules and starts of the
    same structure share a program, and lists of times do, unless averages are `costly`: by nodes,
    so that eg at one more time costs more than compiling.
    """
    times = len(ts)
    ts, n = filled(ts, times if costly else None), jnp.asarray(n, float)
    found = []
    for one in jax.random.split(key, whole_blocks(runs) // LANES):
        keys = jax.random.split(one, LANES)
        found.append(_runs(problem, rule, start, ts, n, keys, averages=averages))
    present = [name for name in FIELDS if getattr(found[0], name) is not None]
    runs_of = {
        name: np.concatenate([np.asarray(getattr(block, name))[:, :times] for block in found])
        for name in present
    }
    return runs_of | {"alpha": np.asarray(found[0].alpha[0])[:times]}


def distances(ensemble: dict[str, np.ndarray], theory: ld.Trajectory) -> np.ndarray:
    """|m - m_ode| of shape (runs, times): Frobenius over full matrices Q and R, and v and b.

    theory: at the times of the ensemble.
    """
    total = 0.0
    for name in FIELDS[:-1]:
        if name in ensemble:
            gap = ensemble[name] - np.asarray(getattr(theory, name))
            total = total + (gap.reshape(*gap.shape[:2], -1) ** 2).sum(axis=-1)
    return np.sqrt(total)


@dataclasses.dataclass(frozen=True)
class ChainCurve:
    """A learning curve at large n: chains and ODE from the same overlaps.

    times: increasing, > 0, where the claim is decided. wrong_*: the control's theory, each
    None where it is the same. costly: see `chain_ensemble`.
    """

    problem: ld.Problem
    rule: ld.SGD
    start: ld.Overlaps
    n: int
    times: tuple[float, ...]
    runs: int = 512
    averages: Any = None
    ode_rule: ld.SGD | None = None
    wrong_rule: ld.SGD | None = None
    wrong_problem: ld.Problem | None = None
    wrong_start: ld.Overlaps | None = None
    jump_ts: Any = None
    costly: bool = False


def measure_chain_curve(curve: ChainCurve, key: jax.Array) -> xr.Dataset:
    """What `judge_curve` and `learning_curve` need, by chains.

    Variables: eg (seed, alpha), theory and wrong (alpha); long_eg, the first run; theory_curve
    and wrong_curve on `alpha_curve`.
    """
    ts = np.array([0.0, *curve.times])
    ensemble = chain_ensemble(
        curve.problem,
        curve.rule,
        curve.start,
        ts,
        n=curve.n,
        key=key,
        runs=curve.runs,
        averages=curve.averages,
        costly=curve.costly,
    )
    alpha = ensemble["alpha"]
    grid = np.union1d(np.linspace(0.0, alpha[-1], 101), alpha)
    solve = functools.partial(solve_ode, ts=grid, averages=curve.averages, jump_ts=curve.jump_ts)
    rule = curve.ode_rule or curve.rule
    right = solve(curve.problem, rule, curve.start)
    wrong = solve(
        curve.wrong_problem or curve.problem,
        curve.wrong_rule or rule,
        curve.wrong_start or curve.start,
    )
    at = np.searchsorted(grid, alpha)
    return xr.Dataset(
        {
            "eg": (("seed", "alpha"), ensemble["eg"][:, 1:]),
            "theory": ("alpha", np.asarray(right.eg)[at][1:]),
            "wrong": ("alpha", np.asarray(wrong.eg)[at][1:]),
            "long_eg": ("alpha_long", ensemble["eg"][0]),
            "theory_curve": ("alpha_curve", np.asarray(right.eg)),
            "wrong_curve": ("alpha_curve", np.asarray(wrong.eg)),
        },
        coords={"alpha": alpha[1:], "alpha_long": alpha, "alpha_curve": grid},
    )


@ensemble
def runs_from(
    problem: ld.Problem,
    rule: ld.SGD,
    starts: ld.Overlaps,
    ts: jax.Array,
    n: jax.Array,
    keys: jax.Array,
) -> jax.Array:
    """eg of one chain from each of many starts, (starts, times)."""

    def run(start: ld.Overlaps, key: jax.Array) -> jax.Array:
        return ld.simulate_chain(problem, rule, start, ts, n=n, key=key).eg

    return jax.vmap(run)(starts, keys)


@functools.partial(compiled, options=FOR_ODES)
def odes_from(problem: ld.Problem, rule: ld.SGD, starts: ld.Overlaps, ts: jax.Array) -> jax.Array:
    """eg of the ODE from each of many starts, (starts, times)."""

    def solve(start: ld.Overlaps) -> jax.Array:
        return ld.solve_ode(problem, rule, start, ts, rtol=1e-7, atol=1e-9).eg

    return jax.vmap(solve)(starts)


@functools.partial(compiled, options=FOR_ODES)
def drift_at(problem: ld.Problem, rule: ld.SGD, start: ld.Overlaps) -> jax.Array:
    """dy/dalpha of the ODE at alpha = 0, in the coordinates of `ld.ode_term`."""
    flow = ld.ode_term(problem, rule, start).vector_field
    return flow(0.0, flow.pack(start), None)
