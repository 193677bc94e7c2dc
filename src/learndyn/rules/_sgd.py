"""Online SGD: the modulation is the gradient of the loss."""

from typing import Any, ClassVar

from learndyn._types import CountLike, RealLike, Schedule
from learndyn.problems import Layers, Problem
from learndyn.rules._rule import AbstractRule, SlowMomentum
from learndyn.rules._seam import FieldAverages, Modulation, Sample


class SGD(AbstractRule):
    """Online SGD on fresh samples or fresh batches.

        w <- w - (lr/sqrt n) c x - (lr weight_decay/n) w,
        v <- v - (lr_second/n) dloss/dv,   b <- b - (lr_bias/n) c.

    All rates are dimensionless leaves of any shape, ready for vmap and grad.

    Args:
        lr: rate of the first layer, a number >= 0, or one for each unit (k,), where 0 freezes a
            unit, or a schedule, a function of alpha = steps/n.
        lr_second: rate of the second layer, likewise; None: not trained.
        lr_bias: rate of the biases, likewise; None: not trained.
        weight_decay: kappa >= 0, on w only.
        batch_size: fresh samples per step, static; a batch counts as one step. math.inf: the
            average over all samples, the population gradient, which the ODE alone can follow.
        momentum: None, a number 0 <= beta < 1 (u <- beta u + gradient, w <- w - lr u), or
            `SlowMomentum(gamma)`.
        spherical: whether each step ends with w_i <- sqrt(n) w_i / |w_i|; static. A run then starts
            with Q_ii = 1, and weight decay changes nothing as n -> infinity.

    Raises:
        ValueError: for values outside these ranges.

    Source:
        Goldt et al. 2020, Eqs. (2)-(3).

    Example:
        >>> ld.SGD(lr=0.2, lr_second=0.1, momentum=0.9)
        SGD(lr=0.2, lr_second=0.1, momentum=0.9)
        >>> rule = ld.SGD(lr=lambda alpha: 1.0 / (1.0 + alpha))
        >>> float(rule.rates(3.0).w)
        0.25
    """

    name: ClassVar[str] = "sgd"
    is_gradient: ClassVar[bool] = True
    is_unbiased: ClassVar[bool] = True
    propagates_error: ClassVar[bool] = True

    def __init__(
        self,
        lr: RealLike | Schedule,
        lr_second: RealLike | Schedule | None = None,
        lr_bias: RealLike | Schedule | None = None,
        weight_decay: RealLike = 0.0,
        batch_size: CountLike = 1,
        momentum: RealLike | SlowMomentum | None = None,
        spherical: bool | Any = False,
    ):
        super().__init__(lr, lr_second, lr_bias, weight_decay, batch_size, momentum, spherical)

    def modulation(self, problem: Problem, sample: Sample, layers: Layers) -> Modulation:
        return Modulation(*problem.gradient(sample.lam, sample.y, layers))

    def closed_form(self, signal: FieldAverages, layers: Layers) -> FieldAverages:
        return signal.weighted(layers.v)


def plain(lr: RealLike) -> SGD:
    """SGD at a constant rate and nothing else, as the closed forms of the literature assume."""
    return SGD(lr=lr)
