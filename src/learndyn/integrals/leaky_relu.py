"""Closed-form Gaussian averages for g(x) = x where x > 0 and slope x elsewhere: those of ReLU.

Since g(x) = relu(x) - slope relu(-x), a network of d fields f with output weights u is a ReLU
network of the 2 d fields f and -f with output weights u and -slope u. No integral is new.
"""

from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn.integrals import relu

Covariance = Float[Array, "d d"]


@dataclass(frozen=True)
class LeakyReLUIntegrals:
    """The averages for one slope, which may be traced.

    g' is 1 above 0, slope below, and 0 at 0 itself. Errors and derivatives are those of ReLU, see
    `learndyn.integrals.relu`.
    """

    slope: float | Float[Array, ""]

    def squared_slope(self, norms: Float[Array, " k"], b: Float[Array, " k"]) -> Float[Array, " k"]:
        """<g'(f_i + b_i)**2>: the probability of f_i > -b_i, and slope**2 times the rest."""
        above, below = relu.squared_slope(norms, b), relu.squared_slope(norms, -b)
        return above + self.slope**2 * below

    def pair(self, c: Covariance) -> Covariance:
        """<g(f_a) g(f_b)> = (1 - slope)**2 <relu(f_a) relu(f_b)> + slope C_ab for all pairs.

        That follows from g(x) = (1 - slope) relu(x) + slope x and <relu(f_a) f_b> = C_ab / 2.
        """
        return (1 - self.slope) ** 2 * relu.pair(c) + self.slope * c

    def first_layer(
        self, c: Covariance, u: Float[Array, " d"], k: int, noise_variance: Float[Array, ""]
    ) -> tuple[Float[Array, "k d"], Float[Array, "k k"]]:
        """Averages of the error signal s_i = g'(f_i) (sum_a u_a g(f_a) - sigma zeta) of k units.

        c: covariance of the fields; u: (v, -v*); k: number of student units, the first fields.
        Returns G (k, d) with <s_i f_p> = sum_b G_ib Cov(f_b, f_p) for any jointly Gaussian f_p,
        and <s_i s_j> (k, k). Both are 0 in the rows of a student whose field is 0.
        """
        below = jnp.full(c.shape[0], self.slope)
        return relu.two_sided_first_layer(jnp.ones_like(below), below, c, u, k, noise_variance)
