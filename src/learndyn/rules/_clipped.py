"""Gradient clipping, of each sample or of the mean over a batch."""

from typing import Any, ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
from jax.scipy.special import gammainc, gammaincc, gammaln
from jaxtyping import Array, Float

from learndyn._checks import as_float, brief, require_at_least
from learndyn._types import RealLike, Scalar, Schedule
from learndyn.problems import Layers, Problem, declared, is_squared
from learndyn.rules._around import AroundRule, settings_of
from learndyn.rules._rule import AbstractRule, Bounds
from learndyn.rules._seam import FieldAverages, Modulation, Sample
from learndyn.rules._sgd import SGD

_FAR = 1e4
"""Squares of clipping limits, over the variance and the batch, beyond which no sample is clipped:
the density there is exp(-5000)."""


class Clipped(AroundRule):
    """Gradient clipping of the first layer, at the norm `limit`.

        F <- F min(1, limit / (|F| |x|/sqrt n)),

    of each sample, or of the mean of F x over the batch, whose squared norm at large n is
    sum_b |F_b|**2 |x_b|**2/n over B**2. The second layer is not clipped. For linear units with
    squared loss averages are closed forms.

    Args:
        limit: > 0, dimensionless: the largest norm of a gradient, that of F x / sqrt n.
        lr, keywords: the rates, decay, batches, momentum and sphere of `SGD`; lr=None: those of
            `rule`.
        per: "sample", or "batch": then a step's samples are seen at once. Static.
        rule: whose modulation is clipped; None: the gradient.

    Raises:
        ValueError: for a limit or a `per` out of these, a rule that takes episodes itself or moves
            weights along weights, and as `SGD`.

    Source:
        Derived here.

    Example:
        >>> problem = ld.Problem(ld.Linear(), ld.Linear(), noise=0.3)
        >>> start = ld.Overlaps(Q=[[1.0]], R=[[0.2]], T=[[1.0]])
        >>> run = ld.solve_ode(problem, rules.Clipped(limit=0.5, lr=0.5), start, [0.0, 1.0])
        >>> round(float(run.Q[-1, 0, 0]), 5), round(float(run.R[-1, 0, 0]), 5)
        (0.84079, 0.3179)
    """

    limit: Float[Array, "..."]
    per: str = eqx.field(static=True)

    name: ClassVar[str] = "clipped"
    own_options: ClassVar[tuple[str, ...]] = ("limit", "per")
    bounds: ClassVar[dict[str, Bounds]] = {"limit": Bounds("a norm", strict=True)}

    def __init__(
        self,
        limit: RealLike,
        lr: RealLike | Schedule | None = None,
        *,
        per: Literal["sample", "batch"] | Any = "sample",
        rule: AbstractRule | Any | None = None,
        **keywords: Any,
    ):
        if rule is not None and (not isinstance(rule, AbstractRule) or rule.is_episode):
            raise ValueError(
                "rule must be a learning rule that sees one sample at a time, such as "
                f"ld.rules.FeedbackAlignment(...), or None; got {brief(rule)}."
            )
        if rule is not None and (rule.moves_along_weights or rule.perturbs_weights):
            raise ValueError(
                f"what is clipped is F of a step along the input, and {type(rule).__name__} moves "
                "weights in other directions as well; clip another rule."
            )
        if lr is None and rule is not None:
            keywords = settings_of(rule) | keywords
            lr = keywords.pop("lr")
        super().__init__(SGD(0.0) if rule is None else rule, lr=lr, **keywords)
        self.limit = as_float(limit, "limit")
        require_at_least(self.limit, 0.0, "limit", "a norm", strict=True)
        if per not in ("sample", "batch"):
            raise ValueError(f'per must be "sample" or "batch"; got {brief(per)}.')
        self.per = per
        self.require_finite_episode()

    def modulation(self, problem: Problem, sample: Sample, layers: Layers) -> Modulation:
        if not self.is_episode:
            c, dv, _ = self.rule.modulation(problem, sample, layers)
            return Modulation(c * self._factor(jnp.sum(c**2) * sample.size), dv)
        c, dv, _ = self.rule.modulations(problem, sample, layers)
        square = jnp.sum(jnp.sum(c**2, axis=1) * sample.size) / len(sample.y) ** 2
        return Modulation(c * self._factor(square), dv)

    def _factor(self, square: Scalar) -> Scalar:
        """What brings a gradient of this squared norm to the limit."""
        return jnp.where(
            square > self.limit**2, self.limit / jnp.sqrt(jnp.where(square > 0, square, 1.0)), 1.0
        )

    @property
    def is_episode(self) -> bool:
        return self.per == "batch"

    def follows(self, problem: Problem) -> bool:
        degrees = [declared(g, "degree") for g in (problem.student, problem.teacher)]
        linear = degrees == [1, 1] and is_squared(problem.loss)
        return linear and self.rule.is_gradient and super().follows(problem)

    def closed_form(self, signal: FieldAverages, layers: Layers) -> FieldAverages:
        """Linear units have one error signal Delta ~ N(0, S**2), so F = v Delta h(x), where x, the
        sum of Delta**2/S**2 over the batch, is chi-square: G is (v, u) times <h x>/B, and Phi v v^T
        times S**2 <h**2 x>/B."""
        batch = int(self.batch_size) if self.is_episode else 1
        square = signal.Phi[0, 0] * jnp.sum(layers.v**2)
        some = jnp.where(square > 0, square, 1.0)
        # Batches are clipped where x is above this.
        most = _FAR * batch
        edge = jnp.where(square > 0, jnp.minimum((self.limit * batch) ** 2 / some, most), most)
        gain, power = _clipped_moments(edge, batch)
        weighted = signal.weighted(layers.v)
        return FieldAverages(gain * weighted.G, power * weighted.Phi, weighted.h, gain * weighted.f)


def _clipped_moments(edge: Scalar, batch: int) -> tuple[Scalar, Scalar]:
    """<h x>/B and <h**2 x>/B of a chi-square number x of B degrees of freedom, with
    h = min(1, sqrt(edge / x))."""
    half, limit = 0.5 * batch, 0.5 * edge
    below = batch * gammainc(half + 1.0, limit)  # <x> below the edge
    root = jnp.sqrt(2.0) * jnp.exp(gammaln(half + 0.5) - gammaln(half))
    above = jnp.sqrt(edge) * root * gammaincc(half + 0.5, limit)  # sqrt(edge) <sqrt x> above it
    return (below + above) / batch, (below + edge * gammaincc(half, limit)) / batch
