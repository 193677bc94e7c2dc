"""Nodes for a label that leaves its usual value in rare events alone.

Few of the usual nodes meet such an event, and its averages are then poor. Here the space of nodes
is split in two strata. The common one is taken by the usual nodes. The rare one is taken by those
of a much larger set that meet the event: finding them takes labels, which are cheap, and only once.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learndyn._checks import is_concrete
from learndyn._numerics.psd_root import scaled_root
from learndyn.averages._quadrature import QuasiMonteCarlo
from learndyn.averages._symmetry import Symmetry
from learndyn.problems import MultiIndex, evaluate, remembered
from learndyn.states import Overlaps

Nodes = tuple[np.ndarray, np.ndarray]
"""(replicates, points, dims) and (replicates, points)."""

_REPLICATES = 4
"""Independent sets of nodes, whose scatter tells the error."""

_SHARE = 8192
"""Nodes in each stratum of a replicate, images included: as many in all as are taken otherwise."""

_PILOT = 2**16
"""Nodes that tell whether there is a rare event: one of probability 1e-4 is met by seven."""

_LARGEST = 2**20
"""Nodes of a replicate of the large set at most, one second's work: an event of probability 1e-4 is
met by 400 of the four replicates, and its averages are then right to 5 % or better."""

_VARIANCE, _RARE = 0.7, 0.3
"""A label's event is rare where so much of the variance comes from so small a probability."""

_NOISES = (-2.0, -1.0, 0.0, 1.0, 2.0)
"""Label noise at which a field counts as meeting the event: stronger noise has 5 %."""

_SAME = 1e-9
"""Relative difference up to which two deviations of a label are one value."""


class Teacher(NamedTuple):
    """What decides where the events of a label are: T and, or None, b_teacher."""

    T: np.ndarray
    b: np.ndarray | None


def teacher_of(state: Overlaps) -> Teacher | None:
    """The teacher at `state`; None where it is traced."""
    if not is_concrete(state.T, state.b_teacher):
        return None
    return Teacher(
        np.asarray(state.T), None if state.b_teacher is None else np.asarray(state.b_teacher)
    )


class Label(NamedTuple):
    """A label's usual value, and nodes with as many in its rare event as outside of it; None where
    there is no rare event."""

    usual: float
    nodes: Nodes | None


def label_nodes(label: MultiIndex, dims: int, symmetry: Symmetry, teacher: Teacher | None) -> Label:
    """What is known of a concrete label, with nodes closed under `symmetry`.

    teacher: None: units without overlaps, of norm 1. Averages at other states are unbiased, too.
    """
    teacher = Teacher(np.eye(symmetry.m), None) if teacher is None else teacher
    return remembered(_label_nodes, label, dims, symmetry, teacher)


def _label_nodes(label: MultiIndex, dims: int, symmetry: Symmetry, teacher: Teacher) -> Label:
    labels, noise = _labels(label, symmetry, teacher), symmetry.k + symmetry.m
    pilot = QuasiMonteCarlo(_PILOT, 2).nodes(dims)[0].reshape(-1, dims)
    y = labels(pilot)
    is_rare = _rare_event(y)

    def meets(z: np.ndarray) -> np.ndarray:
        # Fields at which other noise brings the event about, too: eg is over all of it.
        others = [np.insert(z[:, :noise], noise, zeta, axis=1) for zeta in _NOISES]
        every = [z, *(others if dims > noise else [])]
        return np.any([is_rare(labels(one)) for one in every], axis=0)

    met = meets(pilot)
    probability = float(met.mean())
    if not 0 < probability < _RARE:
        return Label(float(y.mean()), None)
    usual = float(y[~met].mean())
    images = symmetry.images(dims)
    common = _power(_SHARE / len(images))
    large = _power(min(_LARGEST, _SHARE / len(images) / probability))
    sets = []
    for replicate in range(_REPLICATES):
        one = lambda points, seed: QuasiMonteCarlo(points, 2, seed).nodes(dims)[0][0]
        rough, fine = one(common, 2 * replicate), one(large, 2 * replicate + 1)
        sets.append(_stratified(rough, fine, meets))
    return Label(usual, _with_images(_padded(sets), images))


def _labels(label: MultiIndex, symmetry: Symmetry, teacher: Teacher) -> Callable:
    """Labels (points,) at nodes (points, dims), where the teacher's fields come first."""
    k, m = symmetry.k, symmetry.m
    with jax.ensure_compile_time_eval():
        root = np.asarray(scaled_root(jnp.asarray(teacher.T), jnp.diagonal(teacher.T))[0])
    shift = 0.0 if teacher.b is None else teacher.b

    program = jax.jit(jax.vmap(lambda x: label(x[:-1], x[-1])))

    def at(z: np.ndarray) -> np.ndarray:
        zeta = z[:, k + m] if z.shape[1] > k + m else np.zeros(len(z))
        both = np.column_stack([z[:, k : k + m] @ root.T + shift, zeta])
        return evaluate(program, both)

    return at


def _rare_event(y: np.ndarray) -> Callable:
    """Whether labels are of those farthest from the mean that have most of the variance."""
    mean = y.mean()
    squares = np.sort((y - mean) ** 2)[::-1]
    cumulative = np.cumsum(squares)
    least = squares[np.searchsorted(cumulative, _VARIANCE * cumulative[-1])] * (1 - _SAME)
    # Labels that are all the same have no rare ones: 1e-300 stands for a square above zero.
    return lambda y: (y - mean) ** 2 >= max(least, 1e-300)


def _stratified(rough: np.ndarray, fine: np.ndarray, is_rare: Callable) -> Nodes:
    """Nodes (points, dims) and weights (points,): of `rough` those outside of the event, of `fine`
    those inside."""
    outside, inside = ~is_rare(rough), is_rare(fine)
    probability = inside.mean()
    common = (1 - probability) / outside.sum()
    weight = np.r_[np.full(outside.sum(), common), np.full(inside.sum(), 1 / len(fine))]
    return np.concatenate([rough[outside], fine[inside]]), weight


def _padded(sets: list[Nodes]) -> Nodes:
    """Replicates of one length: the shorter ones have nodes of weight 0 at their ends."""
    longest = max(len(weight) for _, weight in sets)
    rows = [np.arange(longest) % len(weight) for _, weight in sets]
    z = np.stack([z[row] for (z, _), row in zip(sets, rows, strict=True)])
    given = [np.arange(longest) < len(weight) for _, weight in sets]
    weights = [w[row] * some for (_, w), row, some in zip(sets, rows, given, strict=True)]
    return z, np.stack(weights)


def _with_images(nodes: Nodes, images: list[tuple[np.ndarray, np.ndarray]]) -> Nodes:
    z, weight = nodes
    sets = [z[..., positions] * signs for positions, signs in images]
    return np.concatenate(sets, axis=1), np.tile(weight / len(images), len(images))


def _power(number: float | int) -> int:
    """The nearest power of two, where Sobol's nodes are even, and at least 16."""
    return 2 ** max(4, round(math.log2(number)))
