"""Weight perturbation: all weights are shaken at once, and follow what that did to the loss."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from learndyn._types import RealLike, Scalar, Schedule
from learndyn.problems import Layers, Problem
from learndyn.rules._rule import AbstractRule, Rates, SlowMomentum
from learndyn.rules._seam import FieldAverages, Modulation, Sample


class WeightPerturbation(AbstractRule):
    """Weight perturbation, also called the forward gradient, in the limit of small perturbations.

        w_i <- w_i - (lr/n) psi_i p - (lr weight_decay/n**2) w_i,   p = sum_j psi_j . grad_j,

    where grad_j is the gradient with respect to w_j, the mean over the batch of c_j x / sqrt n, and
    psi (k, n) are new N(0, 1) numbers for each step. The mean of a step is that of the gradient;
    but it is longer by a factor of sqrt n, so that rates are smaller by 1/n, those of second layer
    and biases as well, and time is

        alpha = steps / n**2.

    In n dimensions a unit of time takes n times as many steps as that of other rules. There is the
    ODE, for every problem, and SGD on weights; the noise is as large in all n directions, which is
    not that of a rule along the inputs, so there is no chain and no theory of fluctuations.

    Args:
        lr, keywords: the rates, decay, batches, constant momentum and sphere of `SGD`.

    Raises:
        ValueError: for slow momentum, another level, groups of input directions in the ODE, and as
            `SGD`.

    Source:
        Baydin, Pearlmutter, Syme, Wood and Torr (2022), Gradients without backpropagation. The
        limit n -> infinity is derived here: dR/dalpha is that of SGD, and the noise of dQ/dalpha
        is lr**2 delta_ii' sum_j <c_j**2>.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> rule = rules.WeightPerturbation(lr=0.5)  # of one unit: the ODE is that of SGD
        >>> run = ld.solve_ode(ld.Problem(), rule, start, [0.0, 2.0])
        >>> np.round(run.eg, 4)
        Array([0.1788, 0.0758], dtype=float64)
    """

    name: ClassVar[str] = "weight-perturbation"
    is_unbiased: ClassVar[bool] = True
    perturbs_weights: ClassVar[bool] = True

    def __init__(self, lr: RealLike | Schedule = None, **keywords: Any):
        super().__init__(lr, **keywords)
        if isinstance(self.momentum, SlowMomentum):
            raise ValueError(
                "the time of WeightPerturbation is steps / n**2, on which SlowMomentum, within n "
                "steps, forgets at once; got momentum=SlowMomentum(...). Give a number beta."
            )

    def modulation(self, problem: Problem, sample: Sample, layers: Layers) -> Modulation:
        """A local rule of the same ODE, F = c + |c| P xi with xi the draws and P the projection
        orthogonal to c, so that <F F^T> = |c|**2 1; draws of 0 leave the gradient."""
        c, dv = problem.gradient(sample.lam, sample.y, layers)
        square = jnp.sum(c**2)
        some = jnp.where(square > 0, square, 1.0)
        across = sample.draws - c * jnp.sum(c * sample.draws) / some
        return Modulation(c + jnp.where(square > 0, jnp.sqrt(some), 0.0) * across, dv)

    def draws_of(self, k: int) -> int:
        return k

    def closed_form(self, signal: FieldAverages, layers: Layers) -> FieldAverages:
        gradient = signal.weighted(layers.v)
        square = jnp.trace(gradient.Phi)
        return gradient._replace(Phi=square * jnp.eye(len(layers.v), dtype=square.dtype))

    def steps_per_time(self, n: RealLike) -> Any:
        return n * n

    def step_rates(self, alpha: RealLike, n: RealLike) -> tuple[Rates, Scalar | None]:
        rates, beta = super().step_rates(alpha, n)
        return jax.tree.map(lambda rate: rate / n, rates), beta
