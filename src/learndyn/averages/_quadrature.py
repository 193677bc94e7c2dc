"""Sets of nodes for averages over standard normal numbers: what a user may choose."""

import abc
import math

import equinox as eqx
import numpy as np

_REACH = 8.5
"""Standard deviations: beyond lies 2e-17 of N(0, 1)."""

_NEGLIGIBLE = 1e-18
"""Product weights below this share of the largest are left out: corners of the cube."""

_LARGEST_ORDER = 300
"""Largest order of Gauss-Hermite: the outermost weights of higher ones underflow in float64."""


_NEXT, _FURTHER = 0.85, 0.5
"""Factors of spacing and reach from one body-centred lattice to the next finer one: both parts of
the error then fall by 5 or more for functions as steep as tanh, and there are three times as many
nodes."""


class AbstractNodes(eqx.Module):
    """A rule that gives nodes and weights for averages over N(0, 1)^dims.

    Nodes come in independent replicates, whose scatter is the error estimate.

    Example:
        >>> averages.GaussHermite(order=3)
        GaussHermite(order=3)
    """

    @abc.abstractmethod
    def nodes(self, dims: int) -> tuple[np.ndarray, np.ndarray]:
        """Nodes (replicates, points, dims) and weights (points,) that sum to 1."""

    def coarser(self) -> "AbstractNodes | None":
        """The next coarser nodes, to compare with where there is but one replicate."""
        return None

    def finer(self) -> "AbstractNodes | None":
        """The next finer nodes, likewise."""
        return None


class Trapezoid(AbstractNodes):
    """A lattice of `points` a direction within 8.5 standard deviations, weighted by the density.

    Spectral for analytic integrands: with spacing h the error falls like exp(-2 pi a / h), a the
    distance of the nearest singularity from the real axis; for tanh that is far better than
    Gauss-Hermite with as many nodes (Trefethen & Weideman, SIAM Review 56, 385 (2014)). Its
    neighbours have 3/4 and 4/3 of the points a direction.

    Args:
        points: nodes in each direction.

    Example:
        >>> z, weight = averages.Trapezoid(points=50).nodes(1)
        >>> round(float(jnp.sum(weight * z[0, :, 0] ** 2)), 6)
        1.0
    """

    points: int = eqx.field(static=True, default=128)

    def nodes(self, dims: int) -> tuple[np.ndarray, np.ndarray]:
        _require_size("Trapezoid(points", self.points, 4, dims)
        x = np.linspace(-_REACH, _REACH, self.points)
        return _product(x, np.exp(-0.5 * x * x), dims)

    def coarser(self) -> "Trapezoid":
        return Trapezoid(max(4, math.ceil(3 * self.points / 4)))

    def finer(self) -> "Trapezoid":
        return Trapezoid(math.ceil(4 * self.points / 3))


class GaussHermite(AbstractNodes):
    """Product Gauss-Hermite nodes, order**dims of them: exact for polynomials.

    Its neighbours have 3/4 and 4/3 of the order.

    Args:
        order: nodes in each direction.

    Example:
        >>> z, weight = averages.GaussHermite(order=3).nodes(1)
        >>> round(float(jnp.sum(weight * z[0, :, 0] ** 4)), 6)
        3.0
    """

    order: int = eqx.field(static=True, default=48)

    def nodes(self, dims: int) -> tuple[np.ndarray, np.ndarray]:
        _require_size("GaussHermite(order", self.order, 2, dims)
        if self.order > _LARGEST_ORDER:
            raise ValueError(
                f"GaussHermite needs order <= {_LARGEST_ORDER}, where its weights leave the range "
                f"of float64; got order={self.order}. Choose Trapezoid."
            )
        return _product(*np.polynomial.hermite_e.hermegauss(self.order), dims)

    def coarser(self) -> "GaussHermite":
        return GaussHermite(max(2, math.ceil(3 * self.order / 4)))

    def finer(self) -> "GaussHermite":
        return GaussHermite(math.ceil(4 * self.order / 3))


class BodyCentred(AbstractNodes):
    """A body-centred cubic lattice within a ball, weighted by the density.

    A function whose Fourier transform decays alike in all directions needs 2^(dims/2 - 1) times
    fewer of them than of a cubic lattice (Conway & Sloane, Sphere Packings, chapter 2), and a ball
    holds 0.31 (dims = 4) or 0.16 (5) of its cube. Closed under permutations and flips.

    Args:
        spacing: of the cubic lattice, whose nodes and whose cells' centres are the nodes, in
            standard deviations, > 0.
        reach: radius of the ball, > 0.

    Raises:
        ValueError: for a spacing or a reach out of bounds, or more than 5e6 nodes.

    Example:
        >>> z, weight = averages.BodyCentred(spacing=1.0, reach=6.0).nodes(2)
        >>> round(float(jnp.sum(weight * z[0, :, 0] ** 2)), 4)
        1.0
    """

    spacing: float = eqx.field(static=True)
    reach: float = eqx.field(static=True)

    def __check_init__(self):
        if not (0 < self.spacing < self.reach < math.inf):
            raise ValueError(
                "BodyCentred needs 0 < spacing < reach, in standard deviations; got "
                f"spacing={self.spacing}, reach={self.reach}."
            )

    def nodes(self, dims: int) -> tuple[np.ndarray, np.ndarray]:
        _require_size("BodyCentred(spacing", int(2 * self.reach / self.spacing), 1, dims)
        cubes = [_cubic_ball(dims, 2 * self.reach / self.spacing, odd) for odd in (0, 1)]
        z = np.concatenate(cubes)
        squares = (z**2).sum(axis=1) * (0.5 * self.spacing) ** 2
        weight = np.exp(-0.5 * squares)
        return 0.5 * self.spacing * z[None], weight / weight.sum()

    def coarser(self) -> "BodyCentred":
        return BodyCentred(self.spacing / _NEXT, self.reach - _FURTHER)

    def finer(self) -> "BodyCentred":
        return BodyCentred(self.spacing * _NEXT, self.reach + _FURTHER)


class QuasiMonteCarlo(AbstractNodes):
    """Scrambled Sobol nodes, unbiased, with fixed seeds.

    Args:
        points: per replicate, a power of two.
        replicates: independent scramblings, >= 2.
        seed: of the scramblings.
        symmetric: whether `choose_averages` closes them under the problem's symmetries: it takes
            fewer, with all their images under exchanges of units, about as many in all.

    Example:
        >>> z, weight = averages.QuasiMonteCarlo(points=256, replicates=2).nodes(1)
        >>> z.shape, round(float(jnp.sum(weight * z[0, :, 0] ** 2)), 1)
        ((2, 256, 1), 1.0)
    """

    points: int = eqx.field(static=True, default=4096)
    replicates: int = eqx.field(static=True, default=4)
    seed: int = eqx.field(static=True, default=0)
    symmetric: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        if self.points < 2 or self.points & (self.points - 1) or self.replicates < 2:
            raise ValueError(
                "QuasiMonteCarlo needs points = a power of two >= 2 and replicates >= 2; got "
                f"points={self.points}, replicates={self.replicates}."
            )

    def nodes(self, dims: int) -> tuple[np.ndarray, np.ndarray]:
        from scipy.special import ndtri
        from scipy.stats import qmc

        sets = []
        for replicate in range(self.replicates):
            rng = np.random.default_rng((self.seed, replicate))
            uniform = qmc.Sobol(dims, scramble=True, rng=rng).random_base2(
                int(math.log2(self.points))
            )
            # 0 can occur in a scrambled set, and would give an infinite node.
            sets.append(ndtri(np.clip(uniform, 2.0**-54, 1 - 2.0**-53)))
        return np.stack(sets), np.full(self.points, 1 / self.points)


class MonteCarlo(AbstractNodes):
    """Plain random nodes, for checks of the other rules. replicates >= 2.

    Args:
        points: nodes in each replicate.
        replicates: independent sets of nodes, at least 2.
        seed: of the random nodes.

    Example:
        >>> z, weight = averages.MonteCarlo(points=100, replicates=2).nodes(3)
        >>> z.shape, weight.shape
        ((2, 100, 3), (100,))
    """

    points: int = eqx.field(static=True, default=65536)
    replicates: int = eqx.field(static=True, default=4)
    seed: int = eqx.field(static=True, default=0)

    def __check_init__(self):
        if self.points < 1 or self.replicates < 2:
            raise ValueError(
                "MonteCarlo needs points >= 1 and replicates >= 2; got "
                f"points={self.points}, replicates={self.replicates}."
            )

    def nodes(self, dims: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng((self.seed, dims))
        return rng.normal(size=(self.replicates, self.points, dims)), np.full(
            self.points, 1 / self.points
        )


def _require_size(name: str, count: int, least: int, dims: int) -> None:
    # Five million nodes of four fields take 160 MB, and their averages several times that.
    if not least <= count or count**dims > 5_000_000:
        raise ValueError(
            f"{name}={count}) in {dims} dimensions makes {count**dims:.3g} nodes; it must be at "
            f"least {least} a direction and at most 5e6 in all. Choose fewer, or QuasiMonteCarlo."
        )


def _cubic_ball(dims: int, radius: float, odd: int) -> np.ndarray:
    """All points (points, dims) of even, or odd, whole numbers within `radius` of 0."""
    line = 2 * np.arange(-int(radius), int(radius) + 1) + odd
    points = np.zeros((1, 0), int)
    for _ in range(dims):
        longer = np.repeat(points, len(line), axis=0)
        points = np.column_stack([longer, np.tile(line, len(points))])
        # Whole numbers, so that no point is lost to rounding whose image is not.
        points = points[(points**2).sum(axis=1) <= radius**2]
    return points


def _product(x: np.ndarray, weight: np.ndarray, dims: int) -> tuple[np.ndarray, np.ndarray]:
    """All combinations of one-dimensional nodes, without those that weigh nothing."""
    grid = np.stack(np.meshgrid(*[x] * dims, indexing="ij"), -1).reshape(1, -1, dims)
    weights = np.prod(np.meshgrid(*[weight / weight.sum()] * dims, indexing="ij"), axis=0).ravel()
    keep = weights > _NEGLIGIBLE * weights.max()
    return grid[:, keep], weights[keep] / weights[keep].sum()
