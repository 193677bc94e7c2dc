"""Learning without derivatives: units are perturbed, and the change of the loss is broadcast."""

from typing import Any, ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._checks import as_float, brief, is_concrete, require_at_least
from learndyn._types import RealLike, Schedule
from learndyn.problems import Layers, Problem, label_sign
from learndyn.rules._rule import AbstractRule, Bounds
from learndyn.rules._seam import FieldAverages, Modulation, Sample

LAWS = ("normal", "sign")


class NodePerturbation(AbstractRule):
    """Node perturbation: each unit's field is shaken, and learns by what that did to the loss.

        F_i = (xi_i / scale) (loss(lambda + scale xi) - loss(lambda)),

    with new numbers xi_i for each sample; as scale -> 0, F_i = xi_i sum_j xi_j dloss/dlambda_j.
    The mean of F is then the gradient, and all closed forms survive. Where there are none, with
    other losses than the squared one and at finite scale, averages are taken over nodes in k more
    dimensions, those of xi. The second layer follows its gradient, without perturbation.

    Args:
        scale: >= 0, dimensionless. 0: the limit; of finite ones averages are taken over nodes.
        law: "normal": xi ~ N(0, 1); "sign": xi = +-1. Static.
        lr, keywords: the rates, decay, batches, momentum and sphere of `SGD`.

    Raises:
        ValueError: for a scale or a law out of these, and as `SGD`.

    Source:
        Second moments derived here: <F_i F_i'> = 2 <c_i c_i'> + delta_ii' sum_j <c_j**2> for normal
        numbers with c the gradient; 2 <c_i c_i'> off the diagonal, and sum_j <c_j**2> on it, for
        signs.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> rule = rules.NodePerturbation(law="sign", lr=0.5)  # of one unit: exactly SGD
        >>> run = ld.solve_ode(ld.Problem(), rule, start, [0.0, 2.0])
        >>> np.round(run.eg, 4)
        Array([0.1788, 0.0758], dtype=float64)
    """

    scale: Float[Array, "..."] | None
    law: str = eqx.field(static=True)

    name: ClassVar[str] = "node-perturbation"
    own_options: ClassVar[tuple[str, ...]] = ("scale", "law")
    bounds: ClassVar[dict[str, Bounds]] = {"scale": Bounds("how far units are shaken")}
    reads: ClassVar[tuple[str, ...]] = ("gradient", "signals", "student_output")

    def __init__(
        self,
        scale: RealLike = 0.0,
        law: Literal["normal", "sign"] | Any = "normal",
        lr: RealLike | Schedule = None,
        **keywords: Any,
    ):
        super().__init__(lr, **keywords)
        scale = as_float(0.0 if scale is None else scale, "scale")
        require_at_least(scale, 0.0, "scale", "how far units are shaken")
        # The limit is another formula, so that it is part of the structure.
        at_limit = is_concrete(scale) and scale.ndim == 0 and float(scale) == 0.0
        self.scale = None if at_limit else scale
        if law not in LAWS:
            raise ValueError(f'law must be "normal" or "sign"; got {brief(law)}.')
        self.law = law

    def modulation(self, problem: Problem, sample: Sample, layers: Layers) -> Modulation:
        xi = sample.draws if self.law == "normal" else label_sign(sample.draws)
        c, dv = problem.gradient(sample.lam, sample.y, layers)
        slope = jnp.sum(xi * c)
        if self.scale is not None:
            change = [
                problem.loss(problem.student_output(lam, layers), sample.y)
                for lam in (sample.lam + self.scale * xi, sample.lam)
            ]
            some = jnp.where(self.scale > 0, self.scale, 1.0)
            slope = jnp.where(self.scale > 0, (change[0] - change[1]) / some, slope)
        return Modulation(xi * slope, dv)

    @property
    def is_unbiased(self) -> bool:
        return self.scale is None

    def draws_of(self, k: int) -> int:
        return k

    def closed_form(self, signal: FieldAverages, layers: Layers) -> FieldAverages:
        gradient = signal.weighted(layers.v)
        squares = jnp.diagonal(gradient.Phi)
        own = jnp.sum(squares) if self.law == "normal" else jnp.sum(squares) - 2 * squares
        return gradient._replace(Phi=2 * gradient.Phi + jnp.diag(own + 0 * squares))

    def follows(self, problem: Problem) -> bool:
        return self.scale is None and super().follows(problem)
