"""Sets of nodes for averages over standard normal numbers: what a user may choose."""

import abc
import math

import equinox as eqx
import numpy as np


class AbstractNodes(eqx.Module):
    """A rule that gives nodes and weights for averages over N(0, 1)^dims.

    Nodes come in independent replicates, whose scatter is the error estimate.
    """

    @abc.abstractmethod
    def nodes(self, dims: int) -> tuple[np.ndarray, np.ndarray]:
        """Nodes (replicates, points, dims) and weights (points,) that sum to 1."""


class GaussHermite(AbstractNodes):
    """Product Gauss-Hermite nodes: spectral for smooth integrands, order**dims of them.

    Its error estimate compares with a lower order.
    """

    order: int = eqx.field(static=True, default=48)

    def nodes(self, dims: int) -> tuple[np.ndarray, np.ndarray]:
        if not 2 <= self.order or self.order**dims > 5_000_000:
            raise ValueError(
                f"GaussHermite(order={self.order}) in {dims} dimensions makes order**dims = "
                f"{self.order**dims:.3g} nodes; it must be at least 2**dims and at most 5e6. "
                "Lower the order or choose QuasiMonteCarlo."
            )
        x, w = np.polynomial.hermite_e.hermegauss(self.order)
        grid = np.stack(np.meshgrid(*[x] * dims, indexing="ij"), -1).reshape(1, -1, dims)
        weights = np.prod(np.meshgrid(*[w / w.sum()] * dims, indexing="ij"), axis=0).ravel()
        keep = weights > 1e-18 * weights.max()
        return grid[:, keep], weights[keep] / weights[keep].sum()


class QuasiMonteCarlo(AbstractNodes):
    """Scrambled Sobol nodes, unbiased, with fixed seeds.

    points: per replicate, a power of two. replicates: independent scramblings, >= 2.
    """

    points: int = eqx.field(static=True, default=4096)
    replicates: int = eqx.field(static=True, default=4)
    seed: int = eqx.field(static=True, default=0)

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
    """Plain random nodes, for checks of the other rules. replicates >= 2."""

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
