"""Hebb's rule, the perceptron's and AdaTron: what the gradients of three losses are, as rules."""

from collections.abc import Callable
from typing import ClassVar

import equinox as eqx

from learndyn.problems import AbstractLoss, Layers, Problem
from learndyn.problems import AdaTron as AdaTronLoss
from learndyn.problems import Hebb as HebbLoss
from learndyn.problems import Perceptron as PerceptronLoss
from learndyn.rules._rule import AbstractRule
from learndyn.rules._seam import FieldAverages, Modulation, Sample


class _GradientOfLoss(AbstractRule):
    """The rule that follows the gradient of `loss`, whatever the loss of the problem is."""

    loss: ClassVar[AbstractLoss]
    reads: ClassVar[tuple[str, ...]] = ("signals",)

    def modulation(self, problem: Problem, sample: Sample, layers: Layers) -> Modulation:
        own = eqx.tree_at(lambda problem: problem.loss, problem, self.loss)
        g, dg, slope = own.signals(sample.lam, sample.y, layers)
        return Modulation(layers.v * dg * slope, g * slope)

    def closed_form(self, signal: FieldAverages, layers: Layers) -> FieldAverages:
        return signal.weighted(layers.v)

    def follows(self, problem: Problem) -> bool:
        return False  # the error signal of the problem has another slope

    def wedge_averages(self, problem: Problem) -> Callable | None:
        return None if problem.overrides(*self.reads) else self.loss.wedge_averages


class Hebb(_GradientOfLoss):
    """Hebb's rule: w_i <- w_i + (lr/sqrt n) v_i g'(lambda_i) y x, every sample counts alike.

    It is the gradient of the loss `learndyn.Hebb`, and the same number for number. The problem's
    own loss says only whether labels are signs. For a linear unit that learns the sign of one
    field, with label flips and noise, averages are closed forms.

    Args:
        lr, lr_second, lr_bias: rates of first layer, second layer and biases, as for `SGD`.
        weight_decay, batch_size, momentum, spherical: as for `SGD`.

    Raises:
        ValueError: as `SGD`.

    Source:
        Engel & Van den Broeck, Statistical Mechanics of Learning (2001).

    Example:
        >>> problem = ld.Problem(ld.Linear(), ld.Sign(flip=0.1), ld.Perceptron())
        >>> start = ld.Overlaps(Q=[[1.0]], R=[[0.2]], T=[[1.0]])
        >>> run = ld.solve_ode(problem, rules.Hebb(lr=1.0), start, [0.0, 20.0])
        >>> round(float(run.eg[-1]), 6)
        0.108042
    """

    name: ClassVar[str] = "hebb"
    loss: ClassVar[AbstractLoss] = HebbLoss()


class Perceptron(_GradientOfLoss):
    """The perceptron's rule: Hebb's, for samples alone whose label the student gets wrong.

    It is the gradient of the loss `learndyn.Perceptron`, and the same number for number; otherwise
    as `Hebb`.

    Args:
        lr, lr_second, lr_bias: rates of first layer, second layer and biases, as for `SGD`.
        weight_decay, batch_size, momentum, spherical: as for `SGD`.

    Raises:
        ValueError: as `SGD`.

    Source:
        Engel & Van den Broeck, Statistical Mechanics of Learning (2001).

    Example:
        >>> problem = ld.Problem(ld.Linear(), ld.Sign(flip=0.1), ld.Perceptron())
        >>> start = ld.Overlaps(Q=[[1.0]], R=[[0.2]], T=[[1.0]])
        >>> run = ld.solve_ode(problem, rules.Perceptron(lr=1.0), start, [0.0, 20.0])
        >>> round(float(run.eg[-1]), 6)
        0.206311
    """

    name: ClassVar[str] = "perceptron"
    loss: ClassVar[AbstractLoss] = PerceptronLoss()


class AdaTron(_GradientOfLoss):
    """AdaTron: the perceptron's rule, in proportion to the size of the wrong output.

    It is the gradient of the loss `learndyn.AdaTron`, and the same number for number; otherwise
    as `Hebb`. With wrong labels the student shrinks exponentially, and where no number resolves its
    direction any more, at alpha of some thousands, the ODE ends with NaN and SOLVER_FAILED.

    Args:
        lr, lr_second, lr_bias: rates of first layer, second layer and biases, as for `SGD`.
        weight_decay, batch_size, momentum, spherical: as for `SGD`.

    Raises:
        ValueError: as `SGD`.

    Source:
        Anlauf & Biehl, Europhys. Lett. 10, 687 (1989).

    Example:
        >>> problem = ld.Problem(ld.Linear(), ld.Sign(flip=0.1), ld.Perceptron())
        >>> start = ld.Overlaps(Q=[[1.0]], R=[[0.2]], T=[[1.0]])
        >>> run = ld.solve_ode(problem, rules.AdaTron(lr=1.0), start, [0.0, 20.0])
        >>> round(float(run.eg[-1]), 6)
        0.208047
    """

    name: ClassVar[str] = "adatron"
    loss: ClassVar[AbstractLoss] = AdaTronLoss()
