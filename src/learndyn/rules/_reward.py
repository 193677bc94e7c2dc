"""Learning from rewards for whole episodes of decisions."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._checks import as_count, as_float, require_finite
from learndyn._types import CountLike, RealLike, Schedule
from learndyn.integrals.half_planes import WedgeAverages, disagreement
from learndyn.problems import Layers, Problem, label_sign
from learndyn.rules._rule import AbstractRule, Bounds
from learndyn.rules._seam import FieldAverages, Modulation, Sample


class RewardPerceptron(AbstractRule):
    """Hebb's rule towards the student's own decisions, in proportion to the reward of an episode.

        w_i <- w_i + (lr/sqrt n) S (1/episode) sum_b v_i g'(lambda_ib) sign(phi_b) x_b,

    over the samples b of an episode, which is one step: S = reward where all decisions sign(phi_b)
    agree with the labels, else S = -penalty. For a linear unit that learns the sign of one field
    averages are closed forms; the second layer follows H_i = -S g(lambda_i) sign(phi).

    Args:
        episode: decisions in an episode, an integer >= 1, static; it is the rule's batch size.
        reward, penalty: S of a good and -S of a bad episode, finite, dimensionless.
        lr, keywords: the rates, decay, momentum and sphere of `SGD`.

    Raises:
        ValueError: for numbers out of these ranges, another batch_size, a problem whose labels
            are no signs, and as `SGD`.

    Source:
        Patel, Lee, Sarao Mannelli, Goldt and Saxe (2023), The RL perceptron; for flips and noise in
        labels, and any student, derived here.

    Example:
        >>> problem = ld.Problem(ld.Linear(), ld.Sign(), ld.Perceptron())
        >>> start = ld.Overlaps(Q=[[1.0]], R=[[0.2]], T=[[1.0]])
        >>> rule = rules.RewardPerceptron(episode=3, reward=1.0, lr=1.0)
        >>> run = ld.solve_ode(problem, rule, start, [0.0, 20.0])
        >>> round(float(run.R[-1, 0, 0]), 4)
        8.0205
    """

    reward: Float[Array, "..."]
    penalty: Float[Array, "..."]

    is_episode: ClassVar[bool] = True
    name: ClassVar[str] = "reward-perceptron"
    own_options: ClassVar[tuple[str, ...]] = ("episode", "reward", "penalty")
    bounds: ClassVar[dict[str, Bounds]] = {
        "reward": Bounds("S of a good episode", least=-math.inf),
        "penalty": Bounds("-S of a bad episode", least=-math.inf),
    }
    reads: ClassVar[tuple[str, ...]] = ("signals", "student_output")

    def __init__(
        self,
        episode: CountLike = None,
        reward: RealLike = 1.0,
        penalty: RealLike = 0.0,
        lr: RealLike | Schedule = 1.0,
        **keywords: Any,
    ):
        size = keywords.pop("batch_size", None)
        episode = size if episode is None else episode
        episode = as_count(episode, "episode", "decisions for one reward")
        if size not in (None, episode):
            raise ValueError(
                "an episode is a batch, so batch_size must be left out, or equal episode="
                f"{episode}; got {size}."
            )
        super().__init__(lr, batch_size=episode, **keywords)
        self.reward, self.penalty = as_float(reward, "reward"), as_float(penalty, "penalty")
        require_finite(reward=self.reward, penalty=self.penalty)

    def modulation(self, problem: Problem, sample: Sample, layers: Layers) -> Modulation:
        if not problem.is_classification:
            raise ValueError(
                "RewardPerceptron compares decisions with labels that are signs, so it needs a "
                f"loss for classification, for example ld.Perceptron(); got {problem.loss}."
            )
        g, dg, _ = jax.vmap(problem.signals, (0, 0, None))(sample.lam, sample.y, layers)
        phi = jax.vmap(problem.student_output, (0, None))(sample.lam, layers)
        rewarded = jnp.all(label_sign(phi) == sample.y)
        slope = -label_sign(phi) * jnp.where(rewarded, self.reward, -self.penalty)
        return Modulation(layers.v * dg * slope[:, None], g * slope[:, None])

    def closed_form(self, signal: FieldAverages, layers: Layers) -> FieldAverages:
        return signal.weighted(layers.v)

    def follows(self, problem: Problem) -> bool:
        return False  # the error signal of the problem has another slope

    def wedge_averages(self, problem: Problem) -> Callable | None:
        return None if problem.overrides(*self.reads) else self._averages

    def _averages(self, s: Array, r: Array, t: Array, k: Array) -> WedgeAverages:
        """Averages of c = -sign(phi) ((reward + penalty) [all right] - penalty), one decision of an
        episode; see `learndyn.integrals.half_planes` for the arguments."""
        right = 1.0 - (0.5 * (1 - k) + k * disagreement(s, r, t))
        others = right ** (self.batch_size - 1)
        # sign(phi) [right] = (sign(phi) + y) / 2, and <d sign(u) / du> = 2 / sqrt(2 pi <u**2>)
        gain = (self.reward + self.penalty) * others
        student = -(gain - 2 * self.penalty) / _spread(s + r**2 / t)
        square = (self.reward**2 - self.penalty**2) * right * others + self.penalty**2
        return WedgeAverages(student, -gain * k / _spread(t), square)


def _spread(variance: Array) -> Array:
    """sqrt(2 pi <u**2>); infinite where u = 0, whose sign does not change."""
    positive = variance > 0
    return jnp.where(positive, jnp.sqrt(2 * jnp.pi * jnp.where(positive, variance, 1.0)), jnp.inf)
