"""Inputs on a hidden manifold: a function of fewer, latent variables, on which labels depend."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from learndyn._checks import as_float, brief, is_concrete, require_finite
from learndyn._numerics.random import normal
from learndyn._types import RealLike
from learndyn.inputs._types import TEST_SAMPLES, AbstractInputs, require_size, teacher_fields
from learndyn.problems import as_module, called, regularity
from learndyn.states import Weights

_REACH, _PANELS, _NODES = 10.0, 40, 20
"""A N(0, 1) number leaves +-10 with a probability of 1e-23; panels of width 1/2 with 20 nodes of
Gauss and Legendre give 15 digits where f is smooth, and a panel ends wherever it is not."""

_NO_VARIANCE = 1e-12
"""Eigenvalues of Omega below this times the largest are rounding of 0."""

_SAME = 1e-6
"""How far <x rho> by the weights' teacher may be from that of these inputs, over the largest entry:
what weights in float32 lose."""


class HiddenManifold(AbstractInputs):
    """x = f(F z / sqrt d) - <f>, elementwise, with d latent variables z ~ N(0, 1).

    The labels may depend on the latent variables: `weights` makes weights whose teacher sees
    rho = w_latent z / sqrt d. For a student that sees x alone everything is as for Gaussian inputs
    (Gaussian equivalence, exact as n and d grow in proportion) with `covariance`, a teacher with
    the weights `effective_teacher` on x, and a part of the teacher's fields that x does not show,
    `T_unseen`. `ld.overlaps(weights, inputs)` has all of these.

    Args:
        f: elementwise function, written with JAX.
        latent: (n, d) the matrix F; its rows are scaled to |F_i|**2 = d, so that each argument of f
            is N(0, 1).

    Attributes:
        mean, b, c: <f(u)>, <u f(u)> and the variance <f(u)**2> - <f(u)>**2, for u ~ N(0, 1).

    Raises:
        ValueError: where f is no such function, or a constant, and for other shapes of `latent`,
            entries that are not finite, or a row of zeros.

    Source:
        Goldt, Mézard, Krzakala and Zdeborová (2020).

    Example:
        >>> latent = jax.random.normal(jax.random.key(0), (50, 20))
        >>> signs = ld.HiddenManifold(jnp.sign, latent)
        >>> round(float(signs.b**2), 6), round(float(signs.c), 6)
        (0.63662, 1.0)
        >>> weights = signs.weights(jnp.ones((2, 50)), jnp.ones((1, 20)))
        >>> ld.overlaps(weights, signs, groups=4).T_unseen.shape
        (1, 1)
    """

    f: Any
    latent: Float[Array, "n d"]
    mean: Float[Array, ""]
    b: Float[Array, ""]
    c: Float[Array, ""]

    def __init__(self, f: Any, latent: RealLike):
        self.f = as_module(f, "f")
        self.latent = _checked_latent(latent)
        self.mean, self.b, self.c = _moments(self.f)

    @property
    def n(self) -> int:
        """Entries per input."""
        return self.latent.shape[0]

    @property
    def d(self) -> int:
        """Number of latent variables."""
        return self.latent.shape[1]

    def sample(
        self, key: PRNGKeyArray, count: int, n: int, dtype: jnp.dtype
    ) -> Float[Array, "count n"]:
        return self._inputs(self._variables(key, count, dtype))

    def sample_fields(
        self, key: PRNGKeyArray, count: int, weights: Weights, dtype: jnp.dtype
    ) -> tuple[Float[Array, "count n"], Float[Array, "count m"]]:
        z = self._variables(key, count, dtype)
        x = self._inputs(z).astype(weights.w.dtype)
        if weights.latent_teacher is None:
            return x, teacher_fields(x, weights)
        return x, z.astype(x.dtype) @ weights.latent_teacher.T / self.d**0.5

    def test_fields(
        self, weights: Weights
    ) -> tuple[Float[Array, "samples n"], Float[Array, "samples m"]]:
        dtype = jnp.result_type(float)
        return self.sample_fields(jax.random.key(0), TEST_SAMPLES, weights, dtype)

    def _variables(
        self, key: PRNGKeyArray, count: int, dtype: jnp.dtype
    ) -> Float[Array, "count d"]:
        return normal(key, (count, self.d), dtype)

    def _inputs(self, z: Float[Array, "count d"]) -> Float[Array, "count n"]:
        arguments = z @ self.latent.T.astype(z.dtype) / self.d**0.5
        return self.f(arguments).astype(z.dtype) - self.mean.astype(z.dtype)

    def require_dimension(self, n: int) -> None:
        require_size(n, self.n, "latent, one row for each,")

    def require_weights(self, weights: Weights) -> None:
        """Refuse weights of other sizes, or whose teacher was made for other inputs.

        Args:
            weights: of student and teacher.

        Raises:
            ValueError: where they do not belong to these inputs.
        """
        self.require_dimension(weights.n)
        if weights.latent_teacher is None:
            return
        self._checked_teacher(weights.latent_teacher)
        if is_concrete(weights, self) and not self._made(weights):
            raise ValueError(
                "the weights must be those of these inputs: their w_teacher is not the effective "
                "teacher of their latent_teacher. Make them by inputs.weights(w, w_latent)."
            )

    def _made(self, weights: Weights) -> bool:
        """Whether the concrete w_teacher is the effective teacher of the latent one."""
        with jax.ensure_compile_time_eval():
            shown = weights.w_teacher @ self.covariance(self.n) / self.n**0.5
            right = self.psi(weights.latent_teacher)
            return bool(jnp.abs(shown - right).max() <= _SAME * jnp.abs(right).max())

    def covariance(self, n: int) -> Float[Array, "n n"]:
        """Omega = (c - b**2) 1 + b**2 F F^T / d, of the Gaussian inputs that are equivalent."""
        noise = self.c - self.b**2
        return noise * jnp.eye(self.n) + self.b**2 * self.latent @ self.latent.T / self.d

    def field_covariance(self, w: Float[Array, "d n"]) -> Float[Array, "d d"]:
        seen = w @ self.latent / self.d**0.5
        return ((self.c - self.b**2) * w @ w.T + self.b**2 * seen @ seen.T) / self.n

    def psi(self, w_latent: RealLike) -> Float[Array, "m n"]:
        """<x rho> = b F w_latent / d, covariances of the inputs with a teacher's fields.

        Args:
            w_latent: (m, d) first layer of a teacher that sees the latent variables.
        """
        return self.b * self._checked_teacher(w_latent) @ self.latent.T / self.d

    def effective_teacher(self, w_latent: RealLike) -> Float[Array, "m n"]:
        """sqrt n Omega^-1 <x rho>: the weights on x whose fields predict rho best.

        Args:
            w_latent: (m, d) first layer of a teacher that sees the latent variables.

        Source:
            Derived here: the best linear predictor of rho from x.
        """
        values, vectors = jnp.linalg.eigh(self.covariance(self.n))
        has_variance = values > _NO_VARIANCE * values[-1]
        inverse = jnp.where(has_variance, 1.0 / jnp.where(has_variance, values, 1.0), 0.0)
        return self.n**0.5 * (self.psi(w_latent) @ vectors * inverse) @ vectors.T

    def weights(
        self,
        w: RealLike,
        w_latent: RealLike,
        v: RealLike | None = None,
        v_teacher: RealLike | None = None,
        b: RealLike | None = None,
        b_teacher: RealLike | None = None,
    ) -> Weights:
        """Weights of a student of x and a teacher of the latent variables.

        Args:
            w: (k, n) first layer of the student.
            w_latent: (m, d) first layer of the teacher; `w_teacher` becomes its effective teacher.
            v, v_teacher, b, b_teacher: second layers and biases, as in `Weights`.

        Raises:
            ValueError: for wrong shapes or non-finite entries.
        """
        w, w_latent = as_float(w, "w"), self._checked_teacher(w_latent)
        self.require_dimension(w.shape[-1] if w.ndim else 0)
        effective = self.effective_teacher(w_latent)
        return Weights(w, effective, v, v_teacher, b, b_teacher, latent_teacher=w_latent)

    def T_unseen(self, weights: Weights) -> Float[Array, "m m"] | None:
        """T_latent - sum_l s_l T_l, with T_latent = w_latent w_latent^T / d."""
        if weights.latent_teacher is None:
            return None
        whole = weights.latent_teacher @ weights.latent_teacher.T / self.d
        return whole - self.field_covariance(weights.w_teacher)

    def _checked_teacher(self, w_latent: RealLike) -> Float[Array, "m d"]:
        w_latent = as_float(w_latent, "w_latent")
        if w_latent.ndim != 2 or w_latent.shape[1] != self.d:
            raise ValueError(
                f"w_latent must have shape (m, {self.d}), one weight for each latent variable; got "
                f"shape {w_latent.shape}."
            )
        require_finite(w_latent=w_latent)
        return w_latent


def _checked_latent(latent: RealLike) -> Float[Array, "n d"]:
    """The matrix F with rows of the square length d."""
    if isinstance(latent, int):
        raise ValueError(
            f"latent must be the matrix F of shape (n, d); got the number {latent}. Draw one: "
            f"latent=jax.random.normal(key, (n, {latent}))."
        )
    latent = as_float(latent, "latent")
    if latent.ndim != 2 or 0 in latent.shape:
        raise ValueError(
            "latent must have shape (n, d), one row for each input and one column for each latent "
            f"variable; got shape {latent.shape}."
        )
    require_finite(latent=latent)
    lengths = jnp.sqrt(jnp.mean(latent**2, axis=1, keepdims=True))
    if is_concrete(lengths) and not np.asarray(lengths).all():
        raise ValueError(
            "each row of latent must have a length, because its input would be constant; got "
            f"{int((np.asarray(lengths) == 0).sum())} rows of zeros. Leave them out."
        )
    return latent / lengths


def _moments(f: Any) -> tuple[Array, Array, Array]:
    """<f>, <u f> and the variance of f for u ~ N(0, 1)."""
    u, density = _nodes(f)
    must = "f must be an elementwise function written with JAX, from a number to a number"
    values = called(f, must, jnp.asarray(u))
    if getattr(values, "shape", None) != u.shape or jnp.iscomplexobj(values):
        raise ValueError(f"{must}; of shape {u.shape} it made {brief(values)}.")
    mean = jnp.sum(density * values)
    b, c = jnp.sum(density * u * values), jnp.sum(density * (values - mean) ** 2)
    if is_concrete(c) and not (np.isfinite(c) and c > 0):
        raise ValueError(
            "f must have a finite and positive variance under N(0, 1), as inputs have; got "
            f"{float(c):g}."
        )
    return mean, b, c


def _nodes(f: Any) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of averages over N(0, 1), which end panels where f jumps or bends."""
    ends = np.linspace(-_REACH, _REACH, _PANELS + 1)
    places = np.array([place for kind in regularity(f) for place in kind])
    inside = places[np.abs(places) < _REACH]
    ends = np.unique(np.concatenate([ends, inside]))
    # Gauss and Legendre's nodes in each panel
    x, weight = np.polynomial.legendre.leggauss(_NODES)
    half, middle = np.diff(ends)[:, None] / 2, (ends[1:, None] + ends[:-1, None]) / 2
    u = (middle + half * x).ravel()
    density = (half * weight).ravel() * np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi)
    return u, density / density.sum()
