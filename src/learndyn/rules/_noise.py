"""Gradient descent of a student with noise: on its units (dropout), or on its inputs."""

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn._checks import as_float, is_concrete, require_at_least, shown
from learndyn._types import RealLike, Schedule
from learndyn.problems import Layers, Problem
from learndyn.rules._rule import AbstractRule, Bounds
from learndyn.rules._seam import ErrorSignal, FieldAverages, Modulation, Sample


class Dropout(AbstractRule):
    """Dropout: SGD on the student's output sum_i m_i v_i g(lambda_i), m_i new for each sample.

    m_i is 1 with probability `keep`, else 0. The student is tested with keep v in place of v, and
    eg is that of this student at every level. All closed forms survive.

    Args:
        keep: 0 < keep <= 1, dimensionless; 1 is SGD.
        lr, keywords: the rates, decay, batches, momentum and sphere of `SGD`.

    Raises:
        ValueError: for keep out of its range, and as `SGD`.

    Source:
        Averages over masks derived here.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> rule = rules.Dropout(keep=0.8, lr=0.5)
        >>> run = ld.solve_ode(ld.Problem(), rule, start, [0.0])
        >>> tested = ld.Overlaps(start.Q, start.R, start.T, v=[0.8])
        >>> expected = ld.generalisation_error(ld.Problem(), tested)
        >>> round(float(run.eg[0]), 6), round(float(expected), 6)
        (0.167881, 0.167881)
    """

    keep: Float[Array, "..."]

    name: ClassVar[str] = "dropout"
    own_options: ClassVar[tuple[str, ...]] = ("keep",)
    bounds: ClassVar[dict[str, Bounds]] = {
        "keep": Bounds("the probability that a unit stays", strict=True, most=1.0)
    }

    def __init__(self, keep: RealLike, lr: RealLike | Schedule = None, **keywords: Any):
        super().__init__(lr, **keywords)
        self.keep = as_float(keep, "keep")
        if is_concrete(self.keep):
            value = np.asarray(self.keep)
            if not (np.isfinite(value) & (value > 0) & (value <= 1)).all():
                raise ValueError(
                    "keep, the probability that a unit stays, must be > 0 and <= 1; got "
                    f"{shown(value)}."
                )

    def modulation(self, problem: Problem, sample: Sample, layers: Layers) -> Modulation:
        mask = (jax.scipy.special.ndtr(sample.draws) < self.keep).astype(sample.lam.dtype)
        seen = layers._replace(v=mask * layers.v)
        c, dv = problem.gradient(sample.lam, sample.y, seen)
        return Modulation(c, mask * dv)

    def draws_of(self, k: int) -> int:
        return k

    def tested_layer(self, v: Float[Array, " k"]) -> Float[Array, " k"]:
        return self.keep * v

    def closed_form_of(self, signal: ErrorSignal) -> FieldAverages:
        """Averages over masks of G, which is linear in v, and Phi, which is quadratic.

        Given that units i and k stay, the others' v have the mean keep v and independent variances:
        <Phi_ii'(v)> is Phi_ii' at that mean, plus half the second derivative along each of them.
        """
        v, keep = signal.layers.v, self.keep
        k = len(v)
        i, j = np.triu_indices(k)
        stays = np.eye(k)[i] + np.eye(k)[j] > 0
        at_means = jax.vmap(signal.at)(jnp.where(stays, v, keep * v))
        # <g'_i g'_j g_a**2> for every a, as second differences, which are exact.
        steps = jnp.concatenate([jnp.zeros((1, k)), jnp.eye(k), -jnp.eye(k)])
        rest, up, down = jnp.split(jax.vmap(signal.at)(steps).Phi, [1, k + 1])
        own = 0.5 * (up + down) - rest
        spread = jnp.where(stays, 0.0, keep * (1 - keep) * v**2)
        pairs = jnp.arange(len(i))
        products = at_means.Phi[pairs, i, j] + jnp.sum(spread * own[:, i, j].T, axis=1)
        products = v[i] * v[j] * keep ** np.where(i == j, 1, 2) * products
        phi = jnp.zeros((k, k)).at[i, j].set(products).at[j, i].set(products)
        alone, unit = pairs[i == j], np.arange(k)  # where unit i alone is known to stay
        pull = (keep * v)[:, None] * at_means.G[alone, unit]
        h, f = keep * at_means.h[alone, unit], keep * v * at_means.f[alone, unit]
        return FieldAverages(pull, phi, h, f)


class InputNoise(AbstractRule):
    """SGD on noisy inputs: the student sees x + std n with n ~ N(0, 1), new for each sample.

    The label is that of x; the weights move along the noisy input. eg is that of clean inputs. All
    closed forms survive.

    Args:
        std: >= 0, dimensionless: the standard deviation of the noise on each input.
        lr, keywords: the rates, decay, batches, momentum and sphere of `SGD`.

    Raises:
        ValueError: for a negative std, and as `SGD`.

    Source:
        Derived here; `seen_averages` in `learndyn/averages/_seen.py` has the equations.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> rule = rules.InputNoise(std=0.5, lr=0.5)
        >>> run = ld.solve_ode(ld.Problem(), rule, start, [0.0, 2.0])
        >>> clean = ld.solve_ode(ld.Problem(), ld.SGD(lr=0.5), start, [0.0, 2.0])
        >>> round(float(run.eg[-1]), 4), round(float(clean.eg[-1]), 4)
        (0.0808, 0.0758)
    """

    std: Float[Array, "..."]

    name: ClassVar[str] = "input-noise"
    own_options: ClassVar[tuple[str, ...]] = ("std",)
    bounds: ClassVar[dict[str, Bounds]] = {"std": Bounds("a standard deviation")}
    propagates_error: ClassVar[bool] = True

    def __init__(self, std: RealLike, lr: RealLike | Schedule = None, **keywords: Any):
        super().__init__(lr, **keywords)
        self.std = as_float(std, "std")
        require_at_least(self.std, 0.0, "std", "a standard deviation")

    def modulation(self, problem: Problem, sample: Sample, layers: Layers) -> Modulation:
        return Modulation(*problem.gradient(sample.lam, sample.y, layers))

    def closed_form(self, signal: FieldAverages, layers: Layers) -> FieldAverages:
        return signal.weighted(layers.v)

    @property
    def input_noise(self) -> Float[Array, "..."]:
        return self.std
