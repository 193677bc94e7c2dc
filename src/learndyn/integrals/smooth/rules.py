"""Rules for averages over N(0, 1), in levels that grow finer."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

Array = Any
"""NumPy's here, and JAX's in compiled programs."""

_REACH = 12.5
"""Standard deviations within which Hermite coefficients are summed: beyond, the square root of the
density, with which they fall, is below 1e-17."""

_CORE = 0.25
"""Standard deviations around 0 in which that lattice is dense. Further out it widens in proportion
to z, so that a unit as steep as sigma = 30 is resolved and no point is wasted."""


_CHECKING, _OFF_CENTRE = 200, 0.37
"""Points of the fine lattice by which others are tried, at nodes moved by so many steps: neither a
symmetric place nor half way."""


class Series(NamedTuple):
    """Nodes z symmetric about 0, their weights (points,), and Hermite functions: row n of
    `hermite` (orders, points), summed with values at z, gives their coefficient of order n.

    order: that from which on the series is closed, even; rows from there on are 0.
    """

    z: Array
    weight: Array
    hermite: Array
    order: Array


class Given(NamedTuple):
    """The rule for a field given others: nodes xi (points,) symmetric about 0 and `moments`
    (orders, points), whose row n, summed with values at xi, gives the coefficient of the n-th of
    the polynomials that are orthonormal under the rule."""

    xi: Array
    moments: Array


class Checks(NamedTuple):
    """Averages over one field that are known, by which lattices are tried.

    nodes: (points,) those of four lattices, moved off their centres, and of a fine one, too.
    rough, exact: (4, points) weights of each lattice, and of the fine one in its place: that of the
    plane, of the line, and those for other fields given these.
    """

    nodes: Array
    rough: Array
    exact: Array


class Rules(NamedTuple):
    """All rules of a level.

    plane, line: coordinates of the two fields or the one that <s_i s_j> is conditioned on, one
    array each, and last the weights, which sum to 1. given_plane, given_line: for each other field.
    """

    series: Series
    plane: tuple[Array, Array, Array]
    given_plane: Given
    line: tuple[Array, Array]
    given_line: Given
    checks: Checks


@dataclass(frozen=True)
class Lattices:
    """Equally spaced nodes, for any smooth function.

    orders: of Hermite polynomials in the series over pairs, even; series_points: nodes of the rule
        that gives their coefficients.
    on_plane, on_line: nodes a direction, and reach in standard deviations; prune: nodes of the
        plane that weigh less than this share of the heaviest are left out.
    per_plane, per_line: nodes and reach of the rule for each other field, given those.
    """

    orders: int
    series_points: int
    on_plane: tuple[int, float]
    prune: float
    per_plane: tuple[int, float]
    on_line: tuple[int, float]
    per_line: tuple[int, float]

    def counts(self, half: bool) -> tuple[int, int]:
        """Values of each other field, conditioned on a plane and on a line; cheaper than `rules`,
        which also make the polynomials."""
        on_plane = len(_square(*_lattice(*self.on_plane), self.prune, half)[0])
        on_line = len(_halved(*_lattice(*self.on_line), half)[0])
        return on_plane * self.per_plane[0], on_line * self.per_line[0]

    def rules(self, half: bool) -> Rules:
        """half: one of each pair z, -z of what is given, for even integrands."""
        return Rules(
            series(self.orders, self.series_points),
            _square(*_lattice(*self.on_plane), self.prune, half),
            _orthonormal(*self.per_plane),
            _halved(*_lattice(*self.on_line), half),
            _orthonormal(*self.per_line),
            _checks([self.on_plane, self.on_line, self.per_plane, self.per_line]),
        )


@dataclass(frozen=True)
class Exact:
    """Gauss and Hermite's nodes, exact for units that are polynomials of this degree or lower.

    An average of s_i s_j has the degree 4 degree - 2 in the fields that it is conditioned on, and
    2 degree in each of the others.
    """

    degree: int

    def rules(self, half: bool) -> Rules:
        """half: one of each pair z, -z of what is given, for even integrands."""
        z, weight, hermite = _gauss(self.degree + 1)
        given = Given(z, hermite * weight)
        odd = len(z) % 2
        moments = np.concatenate([given.moments, np.zeros((odd, len(z)))])
        order = np.asarray(len(moments))
        z2, weight2, _ = _gauss(2 * self.degree)
        return Rules(
            Series(z, weight, moments, order),
            _square(z2, weight2, 0.0, half),
            given,
            _halved(z2, weight2, half),
            given,
            Checks(np.zeros(1), np.zeros((4, 1)), np.zeros((4, 1))),
        )


Level = Lattices | Exact


@functools.cache
def made(level: Level, half: bool) -> Rules:
    """The rules of a level, made once."""
    found = level.rules(half)
    for array in jax.tree.leaves(found):
        array.setflags(write=False)  # shared by all who ask
    return found


def stacked(levels: Sequence[Level], half: bool) -> Rules:
    """The rules of several levels in arrays of one shape, with a leading axis: one compiled
    program serves them all. What a level lacks is filled with nodes that weigh nothing."""
    return _stacked([made(level, half) for level in levels])


def _stacked(every: list[Any]) -> Any:
    """Trees of arrays in one tree, padded in the middle of their last axis and at the end of the
    others, with a leading axis."""

    def padded(*arrays: np.ndarray) -> np.ndarray:
        shape = np.max([np.array(array.shape, int) for array in arrays], axis=0)
        filled = np.zeros((len(arrays), *shape), arrays[0].dtype)
        for number, array in enumerate(arrays):
            # Nodes go into the middle of the last axis, so that they stay symmetric about 0.
            at = [slice(size) for size in array.shape]
            if at:
                before = (shape[-1] - array.shape[-1]) // 2
                at[-1] = slice(before, before + array.shape[-1])
            filled[(number, *at)] = array
        return filled

    return jax.tree.map(padded, *every)


LEVELS = (
    Lattices(16, 120, (14, 4.5), 1e-5, (8, 3.4), (32, 6.0), (14, 5.0)),
    Lattices(24, 140, (16, 4.7), 5e-6, (10, 3.7), (40, 6.25), (18, 5.6)),
    Lattices(32, 160, (18, 4.85), 3e-6, (12, 4.0), (48, 6.5), (20, 6.0)),
    Lattices(48, 200, (20, 5.0), 1e-6, (14, 4.25), (56, 6.75), (24, 6.25)),
    Lattices(64, 240, (24, 5.0), 5e-7, (16, 4.65), (64, 7.0), (28, 6.5)),
    Lattices(96, 280, (28, 5.5), 1e-7, (20, 5.3), (80, 7.25), (34, 7.0)),
    Lattices(128, 320, (32, 6.0), 1e-8, (24, 5.95), (96, 7.5), (40, 7.5)),
    Lattices(192, 400, (36, 6.5), 1e-9, (28, 6.4), (112, 8.0), (52, 8.0)),
    Lattices(256, 480, (48, 8.0), 1e-12, (44, 7.75), (128, 8.5), (64, 8.5)),
    Lattices(512, 720, (64, 8.5), 1e-14, (64, 8.5), (160, 8.5), (96, 8.5)),
    Lattices(1024, 960, (96, 8.5), 1e-15, (96, 8.5), (240, 8.5), (160, 8.5)),
    Lattices(1536, 1200, (128, 8.5), 1e-15, (128, 8.5), (360, 8.5), (256, 8.5)),
)
"""Lattices by level: the error of <s_i s_j> falls by about 4 from each to the next. The two fields
that are given need less than the others, whose conditional spread is what the average of D**2 is
made of. The last level tells the error of the one before, of its series, too."""


def series(orders: int, points: int) -> Series:
    """The rule for Hermite coefficients of so many nodes."""
    z, step = _sinh_lattice(points)
    root = np.exp(-0.25 * z * z)
    hermite = _hermite(z, orders, root) * step * root
    return Series(z, step * root**2, hermite, np.asarray(orders))


def stacked_series(*sizes: tuple[int, int]) -> Series:
    """Rules of several sizes, (orders, points), in arrays of one shape with a leading axis."""
    return _stacked([series(*size) for size in sizes])


def _sinh_lattice(points: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes z = c sinh(t), equally spaced in t, and their spacing over sqrt(2 pi)."""
    edge = np.arcsinh(_REACH / _CORE)
    t = np.linspace(-edge, edge, points)
    return _CORE * np.sinh(t), _CORE * np.cosh(t) * (t[1] - t[0]) / np.sqrt(2 * np.pi)


def _checks(lattices: list[tuple[int, float]]) -> Checks:
    z, step = _sinh_lattice(_CHECKING)
    nodes, rough, exact = [], [], []
    for row, (x, weight) in enumerate(_lattice(*lattice) for lattice in lattices):
        moved = _OFF_CENTRE * (x[1] - x[0])
        nodes += [x + moved, z + moved]
        nothing = np.zeros((len(lattices), len(x) + len(z)))
        for rows, part, weights in (
            (rough, slice(len(x)), weight),
            (exact, slice(len(x), None), step * np.exp(-0.5 * z * z)),
        ):
            rows.append(nothing.copy())
            rows[-1][row, part] = weights
    return Checks(*(np.concatenate(parts, axis=-1) for parts in (nodes, rough, exact)))


def _gauss(points: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gauss and Hermite's nodes and weights, and the orthonormal polynomials at the nodes."""
    z, weight = np.polynomial.hermite_e.hermegauss(points)
    return z, weight / weight.sum(), _hermite(z, points, np.ones_like(z))


def _hermite(z: np.ndarray, orders: int, first: np.ndarray) -> np.ndarray:
    """The orthonormal Hermite polynomials at z, times `first`, by their recurrence."""
    he = np.zeros((max(orders, 2), len(z)))
    he[0], he[1] = first, z * first
    for n in range(1, orders - 1):
        he[n + 1] = (z * he[n] - np.sqrt(n) * he[n - 1]) / np.sqrt(n + 1)
    return he[:orders]


def _lattice(points: int, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Equally spaced nodes within `reach` of 0, weighted by the density of N(0, 1)."""
    x = np.linspace(-reach, reach, points)
    weight = np.exp(-0.5 * x * x)
    return x, weight / weight.sum()


def _orthonormal(points: int, reach: float) -> Given:
    """A lattice with the polynomials orthonormal on it: Hermite's would be wrong by 1e-3 there."""
    x, weight = _lattice(points, reach)
    root = np.sqrt(weight)
    # Gram and Schmidt's orthonormal polynomials, by QR in Chebyshev's basis.
    basis = np.polynomial.chebyshev.chebvander(x / reach, points - 1) * root[:, None]
    q, r = np.linalg.qr(basis)
    return Given(x, (q * np.sign(np.diag(r))).T * root)


def _square(
    x: np.ndarray, weight: np.ndarray, prune: float, half: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes (z_plus, z_minus) and weights of a square lattice, turned by 45 degrees.

    The lattice keeps exchanging the two fields (z_minus -> -z_minus) and turning the sign of one
    (z_plus <-> z_minus) exactly.
    """
    z1, z2 = (z.ravel() for z in np.meshgrid(x, x, indexing="ij"))
    weights = np.outer(weight, weight).ravel()
    keep = weights > prune * weights.max()
    if half:
        keep &= z1 > 0
    z_plus, z_minus = (z1 + z2) / np.sqrt(2), (z1 - z2) / np.sqrt(2)
    return z_plus[keep], z_minus[keep], weights[keep] / weights[keep].sum()


def _halved(x: np.ndarray, weight: np.ndarray, half: bool) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights, or one of each pair x, -x."""
    keep = x > 0 if half else np.full(len(x), True)
    return x[keep], weight[keep] / weight[keep].sum()
