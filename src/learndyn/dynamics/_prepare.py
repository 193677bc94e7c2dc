"""What a run needs of its input: one table of numbers and bounds, read twice.

Concrete values that no run can have raise a ValueError; traced ones, which cannot, make the whole
run NaN with `Result.INVALID_INPUT`. Both answers come from the same table.
"""

import math
from collections.abc import Iterable
from types import ModuleType
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from learndyn._checks import asymmetry, is_concrete, psd_slack, require_unbatched, shown
from learndyn._types import Times
from learndyn.averages import at_rest
from learndyn.problems import Layers, MultiIndex, Problem, Sign, out_of_range, remembered
from learndyn.rules import OWN, AbstractRule, SlowMomentum, blank_sample
from learndyn.states import (
    GroupedOverlaps,
    Overlaps,
    Weights,
    concrete_covariance,
    require_compatible,
)

_WHOLE = 1e-6
"""How far share * n may be from a whole number: what rounding leaves of a billion directions."""


class Number(NamedTuple):
    """A number of a run, and where it must lie: least <= value <= most and value < below.

    strict: the lower bound itself is excluded. whole: it must be an integer.
    per_unit: there may be one for each student unit. why: what it is, for the message.
    """

    name: str
    value: Array
    why: str
    least: float | Array = 0.0
    strict: bool = False
    most: float | Array = math.inf
    below: float = math.inf
    whole: bool = False
    per_unit: bool = False

    def holds(self, xp: ModuleType = jnp) -> Any:
        """Whether it is finite and within its bounds. xp: numpy for concrete values."""
        value, least, most = (xp.asarray(x) for x in (self.value, self.least, self.most))
        lower = value > least if self.strict else value >= least
        # NaN fails every comparison, so it is refused as well.
        good = xp.isfinite(value) & lower & (value <= most) & (value < self.below)
        return xp.all(good & (value == xp.round(value)) if self.whole else good)

    @property
    def must(self) -> str:
        """Its bounds in words."""
        lower = f"{'>' if self.strict else '>='} {_plain(self.least)}"
        words = [f"a whole number {lower}"] if self.whole else ["finite"]
        words += [lower] if not self.whole and _is_bound(self.least) else []
        words += [f"at most {_plain(self.most)}"] if _is_bound(self.most) else []
        words += [f"< {_plain(self.below)}"] if _is_bound(self.below) else []
        *first, last = words
        return f"{', '.join(first)} and {last}" if first else last


def run_numbers(problem: Problem, rule: AbstractRule, n: Any = None) -> list[Number]:
    """The numbers of problem and rule. n: the input dimension, where it is finite.

    Schedules are left out: they are read step by step, and a negative rate is NaN.
    """
    most = 0.0 if problem.has_multi_index_teacher else math.inf
    why = "a MultiIndex teacher makes its own noise" if most == 0 else "a standard deviation"
    numbers = [Number("noise", problem.noise, why, most=most)]
    if isinstance(problem.teacher, Sign):
        why = "a probability" if problem.is_classification else "other labels are not turned"
        most = 1.0 if problem.is_classification else 0.0
        numbers.append(Number("flip", problem.teacher.flip, why, most=most))
    rates = {name: getattr(rule, name) for name in ("lr", "lr_second", "lr_bias")}
    numbers += [
        Number(name, rate, "a learning rate", per_unit=True)
        for name, rate in rates.items()
        if eqx.is_array(rate)
    ]
    numbers.append(Number("weight_decay", rule.weight_decay, "it shrinks the weights"))
    momentum = rule.momentum
    if isinstance(momentum, SlowMomentum):
        why = "SlowMomentum means beta = 1 - gamma/n >= 0"
        most = math.inf if n is None else n
        numbers.append(Number("gamma", momentum.gamma, why, strict=True, most=most))
    elif momentum is not None:
        numbers.append(Number("momentum", momentum, "beta, 0 <= beta < 1", below=1.0))
    return numbers + [
        Number(name, value, own.why, least=own.least, strict=own.strict, most=own.most)
        for name, value, own in rule.own_numbers
    ]


def require_run(
    problem: Problem,
    rule: AbstractRule,
    state: Overlaps | Weights | GroupedOverlaps,
    numbers: Iterable[Number],
    function: str,
    euclidean: Overlaps | None = None,
) -> None:
    """Raises: ValueError for a batch, for concrete numbers out of bounds, for biases, a rule or
    functions of the fields that do not fit the state, and for concrete states that are not finite.

    euclidean: the overlaps whose norms a spherical rule keeps, where `state` are covariances of
    fields; None: those of `state`.
    """
    if isinstance(state, Weights):
        named = [("w", state.w, 2), ("v", state.v, 1)]
    else:  # groups are no batch
        named = [("Q", state.Q, 2 + isinstance(state, GroupedOverlaps)), ("v", state.v, 1)]
    numbers = list(numbers)
    single = [one for one in numbers if not one.per_unit]
    require_unbatched(named + [(one.name, one.value, 0) for one in single], function)
    for one in numbers:
        _require_rate(one, state.k, function)
    require_compatible(problem, rule.trains_biases, state)
    require_fields(problem, state.k, state.m, rule)
    rule.require_units(state.k, state.m)
    for one in numbers:
        require_number(one)
    require_sphere(rule, state if euclidean is None else euclidean)
    if is_concrete(state) and not all(np.isfinite(x).all() for x in jax.tree.leaves(state)):
        raise ValueError("the state must be finite; got NaN or infinity among its numbers.")


def require_fields(problem: Problem, k: int, m: int, rule: AbstractRule | None = None) -> None:
    """Raises: ValueError where a user's teacher, label or rule reads a field that is not there.

    JAX would read another one in silence: the last one, for example.
    """
    if problem.has_multi_index_teacher:
        fault = remembered(_fault_of_teacher, problem.teacher, m)
        _require_none(fault, "the MultiIndex teacher", f"m = {m} fields, those of the teacher")
    if problem.overrides("label", "teacher_output", "student_output", "signals", "gradient"):
        fault = remembered(_fault_of_problem, problem, k, m)
        _require_none(fault, type(problem).__name__, f"k = {k} and m = {m} fields")
    if rule is not None and type(rule) not in OWN:
        fault = remembered(_fault_of_rule, *at_rest(problem, rule), k, m)
        reads = f"k = {k} fields, those of the student, and {rule.draws_of(k)} draws"
        _require_none(fault, "the rule", reads)


def _fault_of_teacher(teacher: MultiIndex, m: int) -> tuple[int, int] | None:
    return out_of_range(teacher, (m,), ())


def _fault_of_problem(problem: Problem, k: int, m: int) -> tuple[int, int] | None:
    def everything(lam: Array, rho: Array, zeta: Array, v: Array, v_teacher: Array) -> Any:
        layers = Layers(v, v_teacher, None, None)
        y = problem.label(rho, zeta, layers)
        own = layers.of_student
        return y, problem.student_output(lam, own), problem.gradient(lam, y, own)

    return out_of_range(everything, (k,), (m,), (), (k,), (m,))


def _fault_of_rule(problem: Problem, rule: AbstractRule, k: int, m: int) -> tuple[int, int] | None:
    shapes, tree = jax.tree.flatten(blank_sample(rule, k, m))

    def modulation(v: Array, b: Array, *sample: Array) -> Any:
        layers = Layers(v, v[:0], b, None)
        return tuple(rule.modulation(problem, jax.tree.unflatten(tree, sample), layers))

    return out_of_range(modulation, (k,), (k,), *(x.shape for x in shapes))


def _require_none(fault: tuple[int, int] | None, who: str, fields: str) -> None:
    if fault is not None:
        index, size = fault
        raise ValueError(
            f"{who} may read {fields}, numbered from 0; got the index {index} for an axis of "
            f"{size}. JAX would take another entry in silence: mend the index, or start from as "
            "many units."
        )


def require_finite_batch(rule: AbstractRule, function: str) -> None:
    """Raises: ValueError for the population gradient, which has no samples and no noise."""
    if rule.has_infinite_batch:
        raise ValueError(
            f"{function} is about samples and their noise, so batch_size must be an integer; got "
            "batch_size=inf, the average over all samples, which has no noise. solve_ode follows "
            "it, as n -> infinity."
        )


def require_local(rule: AbstractRule, function: str) -> None:
    """Raises: ValueError for a rule that moves weights along weights, whose samples alone do not
    say what it does."""
    if rule.moves_along_weights:
        raise ValueError(
            f"{type(rule).__name__} moves weights not only along the inputs, so it has no chain, "
            f"no noise theory and no averages over nodes; got {function}. Use simulate_sgd, or "
            "solve_ode with erf units and squared loss."
        )
    if rule.perturbs_weights:
        raise ValueError(
            f"{type(rule).__name__} moves weights along random directions of all n dimensions, on "
            f"the time steps / n**2, so it has no chain and no noise theory; got {function}. Use "
            "simulate_sgd or solve_ode."
        )


def require_without_input_noise(rule: AbstractRule, start: GroupedOverlaps) -> None:
    """Raises: ValueError for noise on inputs of which directions differ, whose averages are
    others."""
    if rule.input_noise is not None:
        raise ValueError(
            f"{type(rule).__name__} adds white noise to the inputs, of which there is no theory "
            f"for groups of directions; got {start.groups} groups. Simulate it by ld.simulate_sgd."
        )


def require_along_inputs(rule: AbstractRule, start: GroupedOverlaps) -> None:
    """Raises: ValueError for a rule whose noise is as large in directions of all variances."""
    if rule.perturbs_weights:
        raise ValueError(
            f"{type(rule).__name__} has noise in all directions alike, of which there is no theory "
            f"for groups of directions; got {start.groups} groups. Simulate it by ld.simulate_sgd."
        )


def require_of_fields(rule: AbstractRule, start: GroupedOverlaps) -> None:
    """Raises: ValueError for a rule that reads Q and R, which here do not say what the fields
    are."""
    if rule.needs_overlaps:
        raise ValueError(
            f"{type(rule).__name__} reads the overlaps Q and R of the weights, which for groups of "
            f"directions are not the covariances of the fields; got {start.groups} groups. Run it "
            "by ld.simulate_chain or ld.simulate_sgd, which hand it the sums over groups."
        )


def require_whole_sizes(start: GroupedOverlaps, n: Array) -> None:
    """Raises: ValueError for concrete groups that are no whole number of n directions."""
    if not is_concrete(start, n):
        return
    sizes = np.asarray(start.spectrum.shares) * float(n)
    whole = np.round(sizes)
    if not _are_whole(sizes, np):
        wrong = int(np.argmax(np.where(whole < 1, 1.0, np.abs(sizes - whole))))
        raise ValueError(
            "each group must have a whole number share * n >= 1 of directions; got "
            f"{sizes[wrong]:g} in group {wrong + 1}, with the share {start.spectrum.shares[wrong]} "
            f"of n = {float(n):g}. Give shares as counts / n, or another n."
        )


def require_sizes(start: GroupedOverlaps, n: Array) -> None:
    """Raises: ValueError for concrete groups that are no whole number of n directions, or whose
    overlaps need more directions than they have."""
    if not is_concrete(start, n):
        return
    require_whole_sizes(start, n)
    whole = np.round(np.asarray(start.spectrum.shares) * float(n))
    # By NumPy: inside jit JAX would trace the covariances of a concrete start.
    c = concrete_covariance(start.Q, start.R, start.T)
    if not _have_room(c, whole, np):
        d, least = start.k + start.m, int(whole.min())
        raise ValueError(
            "overlaps in a group of few directions must be those of vectors there, of rank at most "
            f"share * n; got k + m = {d} vectors whose overlaps need more directions than a group "
            f"has, the smallest having {least}. Take the start from weights, by "
            "ld.overlaps(weights, inputs), or a larger n."
        )


def sizes_hold(start: GroupedOverlaps, n: Array) -> Bool[Array, ""]:
    """Whether groups, which may be traced, are whole numbers of directions with room for their
    overlaps."""
    sizes = start.spectrum.shares * n
    return _are_whole(sizes, jnp) & _have_room(start.covariances, jnp.round(sizes), jnp)


def _are_whole(sizes: Any, xp: ModuleType) -> Any:
    near = xp.abs(sizes - xp.round(sizes)) <= _WHOLE
    return xp.all(near & (xp.round(sizes) >= 1))


def _have_room(c: Any, sizes: Any, xp: ModuleType) -> Any:
    """Whether the covariance of each group has no more eigenvalues than directions."""
    # LAPACK sorts eigenvalues in ascending order.
    values = xp.linalg.eigvalsh(xp.where(xp.isfinite(c), c, 0.0))
    missing = xp.arange(c.shape[-1])[::-1] >= sizes[:, None]
    slack = psd_slack(c.dtype) * xp.trace(c, axis1=-2, axis2=-1)
    return xp.all(~missing | (values <= slack[:, None]))


def groups_hold(start: GroupedOverlaps) -> Bool[Array, ""]:
    """Whether grouped overlaps, which may be traced, are those of weights and of a spectrum."""
    spectrum = start.spectrum
    groups = jax.vmap(lambda q, r, t: overlaps_hold(Overlaps(q, r, t)))(start.Q, start.R, start.T)
    unseen = jnp.linalg.eigvalsh(jnp.where(jnp.isfinite(start.T_unseen), start.T_unseen, 0.0))[0]
    size = jnp.maximum(jnp.trace(start.T_unseen), 1.0)
    return (
        jnp.all(groups)
        & (unseen >= -psd_slack(start.T_unseen.dtype) * size)
        & jnp.all(spectrum.eigenvalues >= 0)
        & jnp.all(spectrum.shares > 0)
        & (jnp.abs(jnp.sum(spectrum.shares) - 1.0) <= _WHOLE)
    )


def sphere_holds(
    rule: AbstractRule, state: Overlaps | Weights | GroupedOverlaps
) -> Bool[Array, ""]:
    """Whether a start, which may be traced, has Q_ii = 1 where the rule is spherical."""
    if not rule.spherical:
        return jnp.asarray(True)
    return _are_one(_norms(state, jnp), jnp)


def require_sphere(rule: AbstractRule, state: Overlaps | Weights | GroupedOverlaps) -> None:
    """Raises: ValueError for a concrete start off the sphere on which a spherical rule runs."""
    if not rule.spherical or not is_concrete(state):
        return
    norms = _norms(state, np)
    if not _are_one(norms, np):
        raise ValueError(
            "a spherical rule runs on the sphere |w_i| = sqrt n, so a start must have Q_ii = 1; "
            f"got Q_ii = {shown(norms)}. Divide each w_i by |w_i| / sqrt n: "
            "then Q_ii' by sqrt(Q_ii Q_i'i') and R_ij by sqrt(Q_ii)."
        )


def _norms(state: Overlaps | Weights | GroupedOverlaps, xp: ModuleType) -> Any:
    """Q_ii, of groups their sum. xp: numpy for concrete states, which stays outside of what is
    traced."""
    if isinstance(state, GroupedOverlaps):
        return xp.diagonal(xp.sum(xp.asarray(state.Q), axis=0))
    if isinstance(state, Overlaps):
        return xp.diagonal(xp.asarray(state.Q), axis1=-2, axis2=-1)
    return xp.sum(xp.asarray(state.w) ** 2, axis=-1) / state.n


def _are_one(norms: Any, xp: ModuleType) -> Any:
    return xp.all(xp.abs(norms - 1.0) <= asymmetry(norms.dtype))


def _require_rate(one: Number, k: int, function: str) -> None:
    """Raises: ValueError for a rate that is neither one number nor one for each unit."""
    if one.per_unit and jnp.shape(one.value) not in ((), (k,)):
        raise ValueError(
            f"{function}: {one.name} must be one number, or one for each of the {k} student units, "
            f"shape ({k},); got shape {jnp.shape(one.value)}. For a batch of rates use jax.vmap or "
            "filter_vmap, or learndyn.sweep."
        )


def require_number(one: Number) -> None:
    """Raises: ValueError for a concrete number out of its bounds."""
    if is_concrete(one.value, one.least, one.most) and not one.holds(np):
        got = f"{one.name}={shown(np.asarray(one.value))}"
        raise ValueError(f"{one.name} must be {one.must} ({one.why}); got {got}.")


def numbers_hold(numbers: Iterable[Number]) -> Bool[Array, ""]:
    """Whether all numbers, which may be traced, are within their bounds."""
    return jnp.all(jnp.stack([one.holds() for one in numbers]))


def are_finite(*trees: Any) -> Bool[Array, ""]:
    """Whether every float in these trees is finite."""
    leaves = jax.tree.leaves(eqx.filter(trees, eqx.is_inexact_array))
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))


def overlaps_hold(start: Overlaps, smallest: Float[Array, ""] | None = None) -> Bool[Array, ""]:
    """Whether overlaps, which may be traced, are symmetric and positive semi-definite.

    smallest: the smallest eigenvalue of their covariance; None: it is found here.
    """
    c = start.covariance
    smallest = smallest_eigenvalue(start) if smallest is None else smallest
    positive = smallest >= -psd_slack(c.dtype) * jnp.trace(c)
    allowed = asymmetry(c.dtype) * (1 + jnp.max(jnp.abs(c)))
    return positive & jnp.all(jnp.abs(c - c.T) <= allowed)


def smallest_eigenvalue(start: Overlaps) -> Float[Array, ""]:
    """The smallest eigenvalue of the covariance C of `start`; entries that are not finite count 0.

    NumPy finds it where the overlaps are concrete: LAPACK in a compiled program makes JAX load
    scipy.linalg, 0.2 s before the first curve, and compile the call.
    """
    if is_concrete(start):
        c = np.nan_to_num(concrete_covariance(start.Q, start.R, start.T), posinf=0.0, neginf=0.0)
        return jnp.asarray(np.linalg.eigvalsh(c)[0])
    c = jax.lax.stop_gradient(start.covariance)
    return jnp.linalg.eigvalsh(jnp.where(jnp.isfinite(c), c, 0.0))[0]


def times_hold(ts: Times) -> Bool[Array, ""]:
    """Whether times, which may be traced, increase from 0 or later."""
    return jnp.all(jnp.diff(ts) > 0) & (ts[0] >= 0)


def require_countable(ts: Times, n: Any, most: float, hint: str = "") -> None:
    """Raises: ValueError where concrete times make more steps than can be counted."""
    if is_concrete(ts, n) and float(np.asarray(ts)[-1]) * float(n) >= most:
        steps = float(np.asarray(ts)[-1]) * float(n)
        raise ValueError(
            f"a run can have fewer than {most:.3g} steps; got ts[-1] * n = {steps:.3g}.{hint}"
        )


def _is_bound(value: float | Array) -> bool:
    return not (isinstance(value, float) and math.isinf(value))


def _plain(value: float | Float[Array, ""]) -> str:
    return f"{float(value):g}"
