"""Where a problem of one student unit and one teacher field jumps or bends, found once."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import is_concrete
from learndyn.averages._samples import at_rest, clean_teacher_output, is_linear_in_error
from learndyn.problems import (
    Layers,
    Linear,
    MultiIndex,
    Problem,
    Sign,
    Squared,
    declared,
    evaluate,
    jump_places,
    label_sign,
    regularity,
    remembered,
    slope,
    slope_of,
)
from learndyn.rules import AbstractRule, Sample

_WIDER = 8.0
"""A second scan, this much coarser and wider, finds jumps between 8 and 64."""

_SOFT = (-32.0, -8.0, -2.0, 2.0, 8.0, 32.0)
"""Ends of pieces in which smooth functions of order 1, such as a logistic slope, are polynomials
however large Q is; beyond the last one such a function is a constant or a line."""

_UNKNOWN = (math.nan,)
"""Stands for places that no number can say; nodes of another kind then serve."""

_SAME = 1e-9
"""Largest distance of two places that count as one."""

_ZETAS = (-5.0, -1.3, -0.4, 0.7, 1.9, 5.0)
"""Values of the label noise at which a teacher is scanned: places that move with it are spread over
a layer, whose ends and middle these give."""

_LABELS = (-0.4, 0.7)
"""Labels at which a loss or a rule is scanned where labels are any numbers; any that differ."""

_LAYER = 8.0
"""Half the width, in standard deviations of the label noise, of the layer in which the probability
of a label changes from 0 to 1."""


class Places(NamedTuple):
    """Where functions of one number jump or bend; tuples of numbers, so that they may be static.

    in_student: in lambda + b. in_output: in phi. in_residual: in phi - y. in_field: in lambda, of
    rules that are not made of student and loss.
    in_label: in rho + b*, where the label's distribution jumps or bends. in_clean: where the
    noiseless output does, or changes its sign. steepness: (place, |dg*/drho|) where labels change
    their sign, which noise spreads. uses_zeta: whether a MultiIndex teacher depends on its number.
    soft: further ends of pieces, in phi of a linear student, else in lambda + b.
    """

    in_student: tuple[float, ...]
    in_output: tuple[float, ...]
    in_residual: tuple[float, ...]
    in_field: tuple[float, ...]
    in_label: tuple[float, ...]
    in_clean: tuple[float, ...]
    steepness: tuple[tuple[float, float], ...] = ()
    uses_zeta: bool = False
    soft: tuple[float, ...] = _SOFT

    def of_labels(self, problem: Problem, layers: Layers) -> Float[Array, " places"]:
        """Where the label's distribution is not smooth, in rho."""
        found = [jnp.asarray(self.in_label, float)]
        for place, steepness in self.steepness:
            # The smallest divisor, so that a flat label has its places infinitely far away.
            size = jnp.maximum(jnp.abs(layers.v_teacher[0]) * steepness, 1e-300)
            found.append(place + _LAYER * problem.noise / size * jnp.array([-1.0, 1.0]))
        return jnp.concatenate(found) - _bias(layers)

    def of_clean_output(self, layers: Layers) -> Float[Array, " places"]:
        """Where the noiseless output, or its sign, is not smooth, in rho."""
        return jnp.asarray(self.in_clean, float) - _bias(layers)


def places(problem: Problem, rule: AbstractRule | None) -> Places | None:
    """Where this problem and rule jump or bend; None where it cannot be known (traced numbers)."""
    known = regularity(problem.student)
    in_student = (*known.jumps, *known.kinks, *known.bends)
    in_output = (0.0,) if problem.is_classification else ()
    in_residual, in_field = (), ()
    if rule is not None and is_linear_in_error(problem, rule):
        in_output, in_residual = in_output + _in_output(problem), _in_residual(problem)
    elif rule is not None:
        in_field = remembered(_in_field, *at_rest(problem, rule))
    in_label, in_clean, uses_zeta = _of_teacher(problem)
    steepness = ()
    if problem.is_classification and not isinstance(problem.teacher, Sign | MultiIndex):
        steepness = _steepness(problem, in_clean)
    groups = (in_student, in_output, in_residual, in_field, in_label, in_clean)
    if not all(math.isfinite(x) for group in groups for x in group):
        return None
    return Places(
        in_student=_distinct(in_student),
        in_output=_distinct(in_output),
        in_residual=_distinct(in_residual),
        in_field=_distinct(in_field),
        in_label=_distinct(in_label),
        in_clean=_distinct(in_clean),
        steepness=steepness,
        uses_zeta=uses_zeta,
    )


def _in_output(problem: Problem) -> tuple[float, ...]:
    """Where the loss's slope, or its derivative, jumps in phi whatever the label."""
    known = declared(problem.loss, "regularity")
    if known is not None:
        return tuple(s * x for s in (1, -1) for x in (*known.kinks, *known.bends))
    if problem.is_classification:
        return remembered(_slope_places, problem.loss, (1.0, -1.0))
    first, second = _at_labels(problem.loss)
    fixed = tuple(x for x in first if _is_among(x, second))
    follows = _in_residual(problem)
    known = all(
        _is_among(x, fixed) or _is_among(x - y, follows)
        for y, found in zip(_LABELS, (first, second), strict=True)
        for x in found
    )
    return fixed if known else _UNKNOWN


def _in_residual(problem: Problem) -> tuple[float, ...]:
    """Where the loss's slope, or its derivative, jumps in phi - y, for labels of any size."""
    if problem.is_classification or declared(problem.loss, "regularity") is not None:
        return ()
    first, second = (
        tuple(x - y for x in found)
        for y, found in zip(_LABELS, _at_labels(problem.loss), strict=True)
    )
    return tuple(x for x in first if _is_among(x, second))


def _at_labels(loss: Callable) -> list[tuple[float, ...]]:
    return [remembered(_slope_places, loss, (y,)) for y in _LABELS]


def _slope_places(loss: Callable, labels: tuple[float, ...]) -> tuple[float, ...]:
    def at(y: float) -> Callable:
        return jnp.vectorize(lambda phi: slope(loss, phi, jnp.asarray(y, phi.dtype)))

    return _jumps([fn for y in labels for fn in (at(y), slope_of(at(y)))], loss)


def _in_field(problem: Problem, rule: AbstractRule) -> tuple[float, ...]:
    """Where a rule's modulation or its slope jumps in lambda, with second layer 1, no biases; not
    known where that depends on a label that may be any number."""
    layers = Layers(jnp.ones(1), jnp.ones(0), None, None)

    def at(y: float, name: str) -> Callable:
        def one(lam: Array) -> Array:
            one = jnp.ones((), lam.dtype)
            sample = Sample(lam[None], y * one, jnp.zeros(0), one)
            return getattr(rule.modulation(problem, sample, layers), name)[0]

        return jnp.vectorize(one)

    def scanned(*labels: float) -> tuple[float, ...]:
        fns = [at(y, name) for y in labels for name in ("c", "dv")]
        return _jumps(fns + [slope_of(fn) for fn in fns], (problem, rule))

    if problem.is_classification:
        return scanned(1.0, -1.0)
    first, second = (scanned(y) for y in _LABELS)
    fixed = len(first) == len(second) and all(_is_among(x, second) for x in first)
    return first if fixed else _UNKNOWN


def _of_teacher(problem: Problem) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    """Places in the label's distribution, in the clean output, and whether it uses zeta."""
    teacher = problem.teacher
    if isinstance(teacher, Sign):
        return (0.0,), (0.0,), False
    if isinstance(teacher, MultiIndex):
        return remembered(_of_multi_index, teacher, problem.is_classification)
    known = regularity(teacher)
    own = (*known.jumps, *known.kinks, *known.bends)
    if problem.is_classification:
        own += remembered(_sign_changes, teacher)
    return own, own, False


def _sign_changes(g: Callable) -> tuple[float, ...]:
    """Where the label changes, for second layers of both signs."""
    if isinstance(g, Linear):
        return (0.0,)
    return _jumps([lambda x: label_sign(g(x)), lambda x: label_sign(-g(x))], g)


def _steepness(problem: Problem, at: Iterable[float]) -> tuple[tuple[float, float], ...]:
    """|g*'| where labels change, unless noise is known to be 0."""
    if is_concrete(problem.noise) and not (np.asarray(problem.noise) > 0).any():
        return ()
    at = np.array(sorted(at))
    steepness = np.abs(evaluate(slope_of(problem.teacher), at)) if len(at) else at
    return tuple((float(x), float(s)) for x, s in zip(at, steepness, strict=True) if s > 0)


def _of_multi_index(
    teacher: MultiIndex, classification: bool
) -> tuple[tuple[float, ...], tuple[float, ...], bool]:
    def at(zeta: float | None) -> Callable:
        def one(rho: Array) -> Array:
            if zeta is not None:
                return teacher(rho[None], jnp.asarray(zeta, rho.dtype))
            problem = Problem(Linear(), teacher, Squared())
            nothing = Layers(jnp.ones(1), jnp.ones(1), None, None)
            return clean_teacher_output(problem, rho[None, None], nothing)[0]

        return jnp.vectorize(one)

    def scanned(zeta: float | None) -> tuple[float, ...]:
        fn = at(zeta)
        if classification:
            return _jumps([lambda x: label_sign(fn(x))], teacher)
        return _jumps([fn, slope_of(fn)], teacher)

    if not _uses_zeta(teacher):
        found = scanned(0.0)
        return found, found, False
    if not classification and _jumps_in_zeta(teacher):
        return _UNKNOWN, (), True  # smooth rules for zeta would miss such jumps
    return tuple(x for zeta in _ZETAS for x in scanned(zeta)), scanned(None), True


def _jumps_in_zeta(teacher: MultiIndex) -> bool:
    fns = [jnp.vectorize(lambda z, r=r: teacher(jnp.full((1,), r), z)) for r in _ZETAS]
    return bool(_jumps(fns, teacher))


def _uses_zeta(teacher: MultiIndex) -> bool:
    """Whether f(rho, zeta) depends on zeta, at some of many random fields."""
    rng = np.random.default_rng(0)
    # At 256 fields, three times as wide as a N(0, 1) field, 16 values of zeta each are compared.
    rho, zeta = rng.normal(size=(256, 1)) * 3.0, rng.normal(size=(256, 1, 1)) * np.ones((1, 16, 1))
    zeta = zeta + rng.normal(size=(1, 16, 1))
    values = evaluate(
        lambda z: jax.vmap(lambda r, zs: jax.vmap(lambda s: teacher(r, s[0]))(zs))(rho, z), zeta
    )
    return bool((values != values[:, :1]).any())


def _jumps(fns: list[Callable], leaves: object) -> tuple[float, ...]:
    """Where any of these elementwise functions jumps within 64 of 0."""

    def stacked(x: Array) -> Array:
        return jnp.stack([fn(x[:, i]) for i, fn in enumerate(fns)], axis=1)

    return jump_places(stacked, leaves, lines=len(fns), wider=_WIDER)


def _is_among(x: float, others: Iterable[float]) -> bool:
    return any(abs(x - y) < _SAME for y in others)


def _distinct(values: Iterable[float]) -> tuple[float, ...]:
    """Sorted, without near repetitions."""
    kept: list[float] = []
    for x in sorted(values):
        if not kept or not abs(x - kept[-1]) < _SAME:
            kept.append(float(x))
    return tuple(kept)


def _bias(layers: Layers) -> Array | float:
    return 0.0 if layers.b_teacher is None else layers.b_teacher[0]
