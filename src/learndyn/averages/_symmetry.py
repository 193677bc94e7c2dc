"""Which exchanges and flips of units leave a problem as it is, and nodes that keep them.

Averages over fixed nodes have an error that differs from unit to unit, unless the nodes are closed
under the problem's symmetries. On a plateau, where equal units wait for a difference, such an
error is a constant seed, and ends the plateau (Saad & Solla, PRE 52, 4225 (1995)).
"""

import functools
import itertools
import warnings
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from learndyn._checks import is_concrete
from learndyn.averages._quadrature import AbstractNodes, QuasiMonteCarlo
from learndyn.problems import MultiIndex, Problem, parity, remembered

_ALL_PERMUTATIONS = 3
"""Up to so many units nodes are closed under all permutations, beyond under cyclic shifts: these
keep R symmetric, too, and all permutations would leave too few independent nodes."""

_FEWEST = 16
"""Independent nodes of a replicate, at least, of which all others are images."""

_SAMPLES = 64
"""Random points at which two functions are compared; one is enough where they are analytic."""

_EQUAL = 1e-9
"""Largest relative difference that is rounding: of functions, and of sums over nodes."""


class Symmetry(NamedTuple):
    """The symmetries of a problem with k student units and some teacher units.

    classes: the teacher's units in groups, within which any two may be exchanged.
    flips: signs (+1, -1) of the student's fields, the teacher's and the label noise, under each of
    which the modulation changes sign or stays.
    draws: a rule's own numbers, the last of a node; those of a rule that has as many for each unit
    go with the units. copies: samples in a node, one after the other.
    """

    k: int
    classes: tuple[tuple[int, ...], ...]
    flips: tuple[tuple[int, int, int], ...] = ()
    draws: int = 0
    copies: int = 1

    @property
    def m(self) -> int:
        return sum(len(group) for group in self.classes)

    def images(self, dims: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Positions and signs that turn a node of `dims` numbers into each of its images."""
        units = [tuple(range(self.k)), *(tuple(self.k + n for n in g) for g in self.classes)]
        dims, found = dims // self.copies, []
        for moved in itertools.product(*map(_arrangements, units)):
            positions = np.arange(dims)
            for group, images in zip(units, moved, strict=True):
                positions[list(group)] = images
            if self.draws and self.draws % self.k == 0:
                own = positions[dims - self.draws :].reshape(-1, self.k)
                positions[dims - self.draws :] = own[:, list(moved[0])].ravel()
            found += [(positions, signs) for signs in self._signs(dims)]
        return [self._for_all_copies(*image) for image in found]

    def _for_all_copies(
        self, positions: np.ndarray, signs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        first = len(positions) * np.arange(self.copies)[:, None]
        return (first + positions).ravel(), np.tile(signs, self.copies)

    def _signs(self, dims: int) -> list[np.ndarray]:
        signs = [np.ones(dims)]
        for student, teacher, noise in self.flips:
            one = np.repeat([student, teacher, noise], [self.k, self.m, dims - self.k - self.m])
            signs += [one * old for old in signs]
        return signs


def symmetry_of(problem: Problem, k: int, m: int, *, biases: bool) -> Symmetry:
    """What is known, or measured at random points, of the symmetries of `problem`."""
    return Symmetry(k, _classes(problem, m), _flips(problem, m, biases))


class Closed(AbstractNodes):
    """Some nodes of `base` and all their images under a symmetry.

    Twice as many in all as `base` has, to within a factor of 1.5, and at least 16 independent ones:
    images are worth less than independent nodes, and twice as many make up for it.
    """

    base: QuasiMonteCarlo
    symmetry: Symmetry = eqx.field(static=True)

    def nodes(self, dims: int) -> tuple[np.ndarray, np.ndarray]:
        images = self.symmetry.images(dims)
        share = max(_FEWEST, min(2, len(images)) * self.base.points / len(images))
        # Sobol's nodes are even where their number is a power of two.
        points = 2 ** round(np.log2(share))
        base = QuasiMonteCarlo(points, self.base.replicates, self.base.seed)
        few, weight = base.nodes(dims)
        sets = [few[..., positions] * signs for positions, signs in images]
        return np.concatenate(sets, axis=1), np.tile(weight / len(images), len(images))


class SymmetryWarning(UserWarning):
    """Averages do not keep the symmetries of the problem.

    Example:
        >>> import warnings
        >>> plain = averages.MonteCarlo(points=100, replicates=2)
        >>> given = {"rule": ld.SGD(lr=0.5), "biases": False, "averages": plain}
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     ready = averages.choose_averages(ld.Problem(), 2, 2, **given)
        >>> issubclass(said[0].category, averages.SymmetryWarning)
        True
    """


def warn_unless_closed(nodes: AbstractNodes, dims: int, symmetry: Symmetry) -> None:
    """Warn, once for each of these arguments, where `nodes` are not closed under `symmetry`."""
    _warn_once(nodes, dims, symmetry)


# The cache is what makes it once; a session has fewer combinations than 256.
@functools.lru_cache(maxsize=256)
def _warn_once(nodes: AbstractNodes, dims: int, symmetry: Symmetry) -> None:
    z, weight = nodes.nodes(dims)
    if is_closed(z, weight, symmetry):
        return
    warnings.warn(
        f"{nodes} does not keep the symmetries of this problem: its error differs from unit to "
        "unit, so that equal units drift apart and plateaus end early (after a time like "
        "log(1/error), whatever the start). Leave averages=None, or choose "
        "QuasiMonteCarlo(..., symmetric=True), GaussHermite or Trapezoid.",
        SymmetryWarning,
        stacklevel=2,
    )


def is_closed(z: np.ndarray, weight: np.ndarray, symmetry: Symmetry) -> bool:
    """Whether images of the nodes are the nodes: their characteristic functions then agree."""
    dims = z.shape[-1]
    probe = np.random.default_rng(0).normal(size=dims)
    phases = [(z[..., positions] * signs) @ probe for positions, signs in symmetry.images(dims)]
    values = np.array([np.mean(np.exp(1j * phase) @ weight) for phase in phases])
    return bool(np.abs(values - values[0]).max() < _EQUAL)


def _arrangements(units: tuple[int, ...]) -> list[tuple[int, ...]]:
    """All permutations of a few units, all cyclic shifts of many."""
    if len(units) <= _ALL_PERMUTATIONS:
        return list(itertools.permutations(units))
    return [units[n:] + units[:n] for n in range(len(units))]


def _classes(problem: Problem, m: int) -> tuple[tuple[int, ...], ...]:
    if not isinstance(problem.teacher, MultiIndex):
        return (tuple(range(m)),)
    return remembered(_exchangeable, problem.teacher, m)


def _exchangeable(teacher: MultiIndex, m: int) -> tuple[tuple[int, ...], ...]:
    """Fields of a label in classes: two are in one where exchanging them changes nothing."""
    if not is_concrete(teacher):
        return (tuple(range(m)),)
    rho, zeta = _points(m)
    groups: list[list[int]] = []
    for n in range(m):
        for group in groups:
            swapped = rho.at[:, [group[0], n]].set(rho[:, [n, group[0]]])
            if _agree(jax.vmap(teacher), (rho, zeta), (swapped, zeta)):
                group.append(n)
                break
        else:
            groups.append([n])
    return tuple(tuple(group) for group in groups)


def _flips(problem: Problem, m: int, biases: bool) -> tuple[tuple[int, int, int], ...]:
    """An even student is as well off with -lambda, an even teacher with -rho: either keeps R = 0.
    Odd networks keep biases at 0, under the flip of all. Where there are no biases, that flip
    changes no average that matters.
    """
    if biases:
        odd = parity(problem.student) == "odd" and _label_has_parity(problem, m, -1)
        return ((-1, -1, -1),) if odd else ()
    if parity(problem.student) == "even":
        return ((-1, 1, 1),)
    return ((1, -1, 1),) if _label_has_parity(problem, m, 1) else ()


def _label_has_parity(problem: Problem, m: int, sign: int) -> bool:
    if isinstance(problem.teacher, MultiIndex):
        return remembered(_index_has_parity, problem.teacher, m, sign)
    return parity(problem.teacher) == ("even" if sign > 0 else "odd")


def _index_has_parity(teacher: MultiIndex, m: int, sign: int) -> bool:
    rho, zeta = _points(m)
    return is_concrete(teacher) and _agree(
        jax.vmap(teacher), (rho, zeta), (-rho, sign * zeta), sign
    )


def _points(m: int) -> tuple[jax.Array, jax.Array]:
    """Fields (points, m), of sizes up to ten, and label noise (points,)."""
    rng = np.random.default_rng(0)
    rho = rng.normal(size=(_SAMPLES, m)) * np.geomspace(0.5, 10.0, _SAMPLES)[:, None]
    return jnp.asarray(rho), jnp.asarray(rng.normal(size=_SAMPLES))


def _agree(fn: Callable, x: tuple, image: tuple, sign: int = 1) -> bool:
    """Whether fn(*x) = sign fn(*image) to rounding."""
    with jax.ensure_compile_time_eval():
        here, there = np.asarray(fn(*x)), sign * np.asarray(fn(*image))
    return bool(np.abs(here - there).max() <= _EQUAL * np.abs(here).max())
