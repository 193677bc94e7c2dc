"""Feedback alignment: the error reaches the units through fixed weights, not the second layer."""

from typing import Any, ClassVar

from jaxtyping import Array, Float

from learndyn._checks import as_float, require_finite
from learndyn._types import RealLike, Schedule
from learndyn.problems import Layers, Problem
from learndyn.rules._rule import AbstractRule
from learndyn.rules._seam import FieldAverages, Modulation, Sample


class FeedbackAlignment(AbstractRule):
    """Feedback alignment, which for one hidden layer and one output is direct feedback alignment.

        w_i <- w_i - (lr/sqrt n) feedback_i g'(lambda_i) slope x,
        v_i <- v_i - (lr_second/n) g(lambda_i) slope,

    with the loss's slope at the output, phi - y for squared loss: SGD with fixed `feedback` in
    place of v in the first layer alone. All closed forms survive. It asks a problem for its
    `signals`; a `gradient` that a subclass of Problem overrides is not used.

    Args:
        feedback: (k,) one number for each student unit, finite, dimensionless. feedback = v gives
            the first layer's SGD step.
        lr, keywords: the rates, decay, batches and momentum of `SGD`.

    Raises:
        ValueError: for a feedback that is not finite or, at every level, has not one entry for each
            student unit; and as `SGD`.

    Source:
        Refinetti, d'Ascoli, Ohana and Goldt (2021), Align, then memorise, ICML 2021.

    Example:
        >>> rule = rules.FeedbackAlignment(feedback=[1.0], lr=0.5)
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> run = ld.solve_ode(ld.Problem(), rule, start, [0.0, 1.0, 2.0])
        >>> np.round(run.eg, 4)  # feedback of 1 = v: as SGD
        Array([0.1788, 0.1159, 0.0758], dtype=float64)
    """

    feedback: Float[Array, "*batch k"]

    name: ClassVar[str] = "feedback-alignment"
    own_options: ClassVar[tuple[str, ...]] = ("feedback",)
    propagates_error: ClassVar[bool] = True
    reads: ClassVar[tuple[str, ...]] = ("signals",)

    def __init__(self, feedback: RealLike, lr: RealLike | Schedule, **keywords: Any):
        super().__init__(lr, **keywords)
        self.feedback = as_float(feedback, "feedback")
        require_finite(feedback=self.feedback)
        if self.feedback.ndim == 0:
            raise ValueError(
                "feedback must have one entry for each student unit; got a single number. Give a "
                "list, for example [1.0, -0.7]."
            )

    def modulation(self, problem: Problem, sample: Sample, layers: Layers) -> Modulation:
        g, dg, slope = problem.signals(sample.lam, sample.y, layers)
        return Modulation(self.feedback * dg * slope, g * slope)

    def closed_form(self, signal: FieldAverages, layers: Layers) -> FieldAverages:
        return signal.weighted(self.feedback)

    def require_units(self, k: int, m: int) -> None:
        if self.feedback.shape != (k,):
            raise ValueError(
                f"feedback must have shape ({k},) (one entry for each student unit); got shape "
                f"{self.feedback.shape}. For a batch use jax.vmap or filter_vmap, or "
                "learndyn.sweep."
            )
