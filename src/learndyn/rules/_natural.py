"""Natural gradient: steps in units of what the network's output can tell."""

from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._checks import as_float, require_at_least
from learndyn._types import RealLike, Schedule
from learndyn.integrals import erf
from learndyn.problems import Erf, Layers, Problem
from learndyn.rules._rule import AbstractRule, Bounds
from learndyn.rules._seam import ErrorSignal, FieldAverages, Modulation, Sample


class _Fisher(NamedTuple):
    """The Fisher matrix of phi plus Gaussian noise, divided by its variance, at one state.

    outside: A (k, k), what it is for each direction outside the students' span, where it is A
    times 1. inside: (k k, k k) within the span, in the basis of `frame`, L with Q = L L^T.
    """

    outside: Float[Array, "k k"]
    inside: Float[Array, "k k k k"]
    frame: Float[Array, "k k"]


class NaturalGradient(AbstractRule):
    """Natural gradient descent of the first layer: the gradient times the inverse Fisher matrix.

    The Fisher matrix of all weights, with damping added to its diagonal, is that of the student's
    output with Gaussian noise of variance 1: blocks v_i v_j <g'_i g'_j x x^T>, exact averages over
    Gaussian inputs. It reads the overlaps, and moves weights along the weights as well. The second
    layer, where it is trained, follows its own gradient. There is the ODE, with squared loss, and
    SGD on weights, both for erf units without biases alone.

    Args:
        damping: >= 0, dimensionless. With 0 units must differ, and all v_i must not be 0.
        lr, keywords: the rates, decay, batches, momentum and sphere of `SGD`.

    Raises:
        ValueError: for a negative damping, other units, biases, another level, and as `SGD`.

    Source:
        Yang & Amari (1998), Neural Comput. 10, 2137; Rattray, Saad & Amari (1998), Phys. Rev. Lett.
        81, 5461; the equations in this form derived here.

    Example:
        >>> start = ld.Overlaps(0.3 * np.eye(2), 0.1 * np.eye(2), np.eye(2))
        >>> rule = rules.NaturalGradient(damping=0.01, lr=0.1)
        >>> run = ld.solve_ode(ld.Problem(), rule, start, [0.0, 2.0])
        >>> np.round(run.eg, 4)
        Array([0.4026, 0.2779], dtype=float64)
    """

    damping: Float[Array, "..."]

    name: ClassVar[str] = "natural-gradient"
    own_options: ClassVar[tuple[str, ...]] = ("damping",)
    bounds: ClassVar[dict[str, Bounds]] = {"damping": Bounds("it is added to the Fisher matrix")}
    needs_overlaps: ClassVar[bool] = True
    moves_along_weights: ClassVar[bool] = True

    def __init__(self, damping: RealLike = 0.0, lr: RealLike | Schedule = None, **keywords: Any):
        super().__init__(lr, **keywords)
        self.damping = as_float(damping, "damping")
        require_at_least(self.damping, 0.0, "damping", "it is added to the Fisher matrix")

    def modulation(self, problem: Problem, sample: Sample, layers: Layers) -> Modulation:
        assert sample.overlaps is not None, "the rule says that it needs them"
        _require_erf(problem, layers)
        fisher = self._fisher(sample.overlaps.Q, layers.v)
        c, dv = problem.gradient(sample.lam, sample.y, layers)
        # The input's coordinates z along the frame, of which the fields are lambda = L z
        z = jnp.linalg.solve(fisher.frame, sample.lam)
        outside = jnp.linalg.solve(fisher.outside, c)
        within = _solved(fisher, jnp.outer(c, z)) - jnp.outer(outside, z)
        # Along e_a = sum_j (L^-1)_aj w_j / sqrt n
        return Modulation(outside, dv, within @ jnp.linalg.inv(fisher.frame))

    def closed_form_of(self, signal: ErrorSignal) -> FieldAverages:
        """With d = M^-1 <c z^T> in the span, and A^-1 times the rest of <c rho^T> outside."""
        v, k = signal.layers.v, len(signal.layers.v)
        gradient, overlaps = signal.at(v).weighted(v), signal.overlaps
        fisher = self._fisher(overlaps.Q, v)
        t = jnp.linalg.solve(fisher.frame, overlaps.R)  # z . rho
        own, other = gradient.G[:, :k], gradient.G[:, k:]
        within = _solved(fisher, own @ fisher.frame + other @ t.T)
        outside = jnp.linalg.solve(fisher.outside, other)
        # <F a> = d z_a + A^-1 G_rho (Cov(rho, a) - t^T z_a) with z_a = L^-1 Cov(lambda, a)
        along = (within - outside @ t.T) @ jnp.linalg.inv(fisher.frame)
        half = jnp.linalg.solve(fisher.outside, gradient.Phi)
        phi = jnp.linalg.solve(fisher.outside, half.T)
        return FieldAverages(jnp.concatenate([along, outside], axis=1), phi, gradient.h, gradient.f)

    def follows(self, problem: Problem) -> bool:
        return isinstance(problem.student, Erf) and super().follows(problem)

    def _fisher(self, Q: Float[Array, "k k"], v: Float[Array, " k"]) -> _Fisher:
        k, norms = len(v), jnp.diagonal(Q)
        slopes = jnp.outer(v, v) * erf.J2(norms[:, None], Q, norms)
        frame = jnp.linalg.cholesky(Q)
        # g'_i g'_j is a Gaussian in z: it tilts the measure to the covariance (1 + ...)^-1
        both = jnp.einsum("ia,ib->iab", frame, frame)
        tilted = jnp.linalg.inv(jnp.eye(k) + both[:, None] + both[None])
        inside = slopes[:, None, :, None] * tilted.transpose(0, 2, 1, 3)
        damping = self.damping * jnp.eye(k)
        return _Fisher(
            slopes + damping, inside + jnp.einsum("ij,ab->iajb", damping, jnp.eye(k)), frame
        )


def _solved(fisher: _Fisher, x: Float[Array, "k k"]) -> Float[Array, "k k"]:
    """M^-1 x, for x (units, directions of the span)."""
    size = x.size
    return jnp.linalg.solve(fisher.inside.reshape(size, size), x.ravel()).reshape(x.shape)


def _require_erf(problem: Problem, layers: Layers) -> None:
    if not isinstance(problem.student, Erf) or layers.b is not None:
        raise ValueError(
            "NaturalGradient needs the Fisher matrix of the student in closed form, so erf units "
            f"without biases; got student={problem.student}"
            f"{'' if layers.b is None else ' with biases'}. Use another rule, for example ld.SGD."
        )
