"""A sum of homogeneous neurons on a data set: utilities, loss and their derivatives, compiled."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from learndyn.flow.jumps._data import Samples

_HOMOGENEOUS = 1e-10
"""neuron(2 theta) may differ from 2^degree neuron(theta) by this, over the largest output."""

_KEPT = 16
"""So many neurons keep their compiled programs, so that a second call of `alternating` is fast."""

Thetas = Float[np.ndarray, "neurons p"]


class Network(NamedTuple):
    """The neurons' functions on these samples. All take and return NumPy arrays.

    outputs: theta -> (neurons, samples, c). utility: (theta, residual) -> U (neurons,) and its
    gradient (neurons, p). loss: theta -> loss and its gradient. hessian: of the loss, (p', p').
    """

    data: Samples
    degree: int
    programs: Any
    aux: Any

    def outputs(self, theta: Thetas) -> Float[np.ndarray, "neurons samples c"]:
        return np.asarray(self.programs.outputs(theta, self.data.x, self.aux))

    def residual(self, theta: Thetas) -> Float[np.ndarray, "samples c"]:
        return self.data.y - self.outputs(theta).sum(0)

    def utility(self, theta: np.ndarray, residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        value, slope = self.programs.utility(
            theta, self.data.x, self.aux, self.data.weight * residual
        )
        return np.asarray(value), np.asarray(slope)

    def loss(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = self.programs.loss(theta, self.data.x, self.aux, self.data.y)
        return self.data.weight * float(value), self.data.weight * np.asarray(slope)

    def hessian(self, theta: np.ndarray) -> np.ndarray:
        second = self.programs.hessian(theta, self.data.x, self.aux, self.data.y)
        return self.data.weight * np.asarray(second).reshape(theta.size, theta.size)

    def only(self, chosen: Any) -> "Network":
        """The network of the chosen neurons."""
        return self._replace(aux=jax.tree.map(lambda leaf: leaf[np.flatnonzero(chosen)], self.aux))


class _Programs(NamedTuple):
    outputs: Callable[..., Any]
    utility: Callable[..., Any]
    loss: Callable[..., Any]
    hessian: Callable[..., Any]


def network(neuron: Any, degree: int, data: Samples, start: Thetas, aux: Any) -> Network:
    """The network, after checks of the neuron at its start."""
    if not callable(neuron):
        raise ValueError(f"neuron must be a function of theta and x; got {neuron!r}.")
    try:
        programs = _cached_programs(neuron, aux is not None)
    except TypeError:  # not hashable
        programs = _programs(neuron, aux is not None)
    aux = jax.tree.map(np.asarray, aux)
    for leaf in jax.tree.leaves(aux):
        if leaf.ndim < 1 or len(leaf) != len(start):
            raise ValueError(
                f"aux must have one entry per neuron, {len(start)}; got shape {leaf.shape}."
            )
    built = Network(data, degree, programs, aux)
    _check(built, start)
    return built


def _check(built: Network, start: Thetas) -> None:
    # At the start itself outputs often vanish.
    theta = np.random.default_rng(0).standard_normal(start.shape)
    try:
        once, twice = built.outputs(theta), built.outputs(2 * theta)
    except TypeError as error:
        raise ValueError(
            f"neuron must take theta {start.shape[1:]} and x {built.data.x.shape[1:]}, and aux_i "
            f"where aux is given; {error}"
        ) from error
    expected = (len(start), *built.data.y.shape)
    if once.shape != expected:
        raise ValueError(
            "neuron(theta, x) must give a number for y of shape (samples,), or (c,) for "
            f"(samples, c); outputs of all neurons have shape {once.shape}, not {expected}."
        )
    error = np.abs(twice - 2.0**built.degree * once).max()
    if not error <= _HOMOGENEOUS * np.abs(twice).max():
        raise ValueError(
            f"neuron must be homogeneous: neuron(2 theta) = 2**degree neuron(theta) with degree = "
            f"{built.degree}; it differs by {error:.3g}. Without homogeneity, or with biases that "
            "are not among theta, there are no alternating flows."
        )


@functools.lru_cache(maxsize=_KEPT)
def _cached_programs(neuron: Callable[..., Any], has_aux: bool) -> _Programs:
    return _programs(neuron, has_aux)


def _programs(neuron: Callable[..., Any], has_aux: bool) -> _Programs:
    def one(theta: Array, x: Array, aux: Any) -> Array:
        found = neuron(theta, x, aux) if has_aux else neuron(theta, x)
        return jnp.atleast_1d(found)

    on_samples = jax.vmap(one, (None, 0, None))
    outputs = jax.vmap(on_samples, (0, None, 0))

    def utility(theta: Array, x: Array, aux: Any, weighted: Array) -> Array:
        return jnp.sum(on_samples(theta, x, aux) * weighted)

    def loss(theta: Array, x: Array, aux: Any, y: Array) -> Array:
        return jnp.sum((y - outputs(theta, x, aux).sum(0)) ** 2) / 2

    return _Programs(
        outputs=jax.jit(outputs),
        utility=jax.jit(jax.vmap(jax.value_and_grad(utility), (0, None, 0, None))),
        loss=jax.jit(jax.value_and_grad(loss)),
        hessian=jax.jit(jax.hessian(loss)),
    )
