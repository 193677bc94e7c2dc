"""The networks of which theory knows most, as Equinox models x -> y for one input.

Their fields may hold numbers in place of arrays: such a model says the learning rate of every
layer (`lr=LinearNeuron(a=0.3, w=2.0)`), which is why constructors do not compare shapes. Shapes are
compared where a model meets data.
"""

import abc
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from learndyn._checks import as_float
from learndyn._readable import Readable
from learndyn._types import RealLike, Scalar

Weights = Any
"""Float arrays of the shapes that the class states, or numbers where the model states rates."""


class AbstractLinearModel(Readable):
    """A network that is a linear function of its input, and so may learn from `Moments`.

    Example:
        >>> isinstance(flow.LinearNeuron(a=1.0, w=[1.0]), flow.AbstractLinearModel)
        True
    """

    @abc.abstractmethod
    def end_to_end(self) -> Float[Array, "c d"]:
        """The matrix M of the function x -> M x; one row for a scalar output."""


class LinearNeuron(AbstractLinearModel):
    """One linear neuron, f(x) = a w.x: two layers with one hidden unit.

    Under flow delta = lr_w a**2 - lr_a |w|**2 is conserved (Kunin et al. 2024).

    Args:
        a: () output weight.
        w: (d,) input weights. Dimensionless.

    Raises:
        ValueError: for complex numbers or what is no number.

    Example:
        >>> neuron = flow.LinearNeuron(a=2.0, w=[1.0, -1.0])
        >>> float(neuron(jnp.array([3.0, 1.0])))
        4.0
    """

    a: Weights
    w: Weights

    def __init__(self, a: RealLike, w: RealLike):
        self.a, self.w = as_float(a, "a"), as_float(w, "w")

    def __call__(self, x: Float[Array, " d"]) -> Scalar:
        return self.a * (self.w @ x)

    def end_to_end(self) -> Float[Array, "1 d"]:
        """beta = a w, as a matrix of one row."""
        return (self.a * self.w)[None, :]


class LinearNetwork(AbstractLinearModel):
    """A deep linear network, f(x) = W_L ... W_2 W_1 x.

    The output has shape (c,). Under flow, W_{l+1}^T W_{l+1}/lr_{l+1} - W_l W_l^T/lr_l is conserved.

    Args:
        weights: [w1, w2, ...], the first layer first: w1 (h1, d), w2 (h2, h1), ..., wL (c, h).

    Raises:
        ValueError: for no layer, complex numbers or what is no number.

    Example:
        >>> network = flow.LinearNetwork([np.ones((3, 2)), np.ones((1, 3))])
        >>> network(jnp.array([1.0, 2.0]))
        Array([9.], dtype=float64)
    """

    weights: tuple[Weights, ...]

    def __init__(self, weights: Sequence[RealLike]):
        if not isinstance(weights, Sequence) or not weights:
            raise ValueError(
                "LinearNetwork needs a list of weight matrices, [w1, w2, ...], the first layer "
                f"first; got {type(weights).__name__}."
            )
        self.weights = tuple(as_float(w, f"weights[{i}]") for i, w in enumerate(weights))

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, " c"]:
        for w in self.weights:
            x = w @ x
        return x

    def end_to_end(self) -> Float[Array, "c d"]:
        """W_L ... W_1."""
        product = self.weights[0]
        for w in self.weights[1:]:
            product = w @ product
        return product


class DiagonalNetwork(AbstractLinearModel):
    """A diagonal linear network, f(x) = sum_i u_i v_i x_i.

    Args:
        u, v: (d,). Under flow u**2/lr_u - v**2/lr_v is conserved in every coordinate. A start with
            |u| = |v| never changes the sign of u v; for both signs to be within reach start from u
            = alpha, v = 0. Flow is integrated in the dual variable (see `gradient_flow`), exact at
            any scale.

    Raises:
        ValueError: for complex numbers or what is no number.

    Example:
        >>> network = flow.DiagonalNetwork(u=[1.0, 2.0], v=[0.5, 0.0])
        >>> float(network(jnp.array([4.0, 1.0])))
        2.0
    """

    u: Weights
    v: Weights

    def __init__(self, u: RealLike, v: RealLike):
        self.u, self.v = as_float(u, "u"), as_float(v, "v")

    def __call__(self, x: Float[Array, " d"]) -> Scalar:
        return (self.u * self.v) @ x

    def end_to_end(self) -> Float[Array, "1 d"]:
        """beta = u v, as a matrix of one row."""
        return (self.u * self.v)[None, :]


class ModularAddition(Readable):
    """A network with quadratic units that reads two templates and writes a third.

    f(x) = sum_i (u_i.x1 + v_i.x2)**2 w_i for the input x = (x1, x2) of length 2p, output (p,).
    Under flow (|u_i|**2/lr_u + |v_i|**2/lr_v)/2 - |w_i|**2/lr_w is conserved for every neuron.

    Args:
        u, v, w: (hidden, p). Its data are those of `modular_data`.

    Raises:
        ValueError: for complex numbers or what is no number.

    Example:
        >>> network = flow.ModularAddition(u=np.ones((1, 3)), v=np.ones((1, 3)), w=np.ones((1, 3)))
        >>> network(jnp.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]))
        Array([4., 4., 4.], dtype=float64)
    """

    u: Weights
    v: Weights
    w: Weights

    def __init__(self, u: RealLike, v: RealLike, w: RealLike):
        self.u, self.v, self.w = (as_float(x, name) for x, name in ((u, "u"), (v, "v"), (w, "w")))

    def __call__(self, x: Float[Array, " two_p"]) -> Float[Array, " p"]:
        first, second = jnp.split(x, [self.u.shape[-1]])
        return (self.u @ first + self.v @ second) ** 2 @ self.w


def require_layers(model: Any) -> None:
    """Raises: ValueError where the layers of one of these networks do not have fitting shapes."""
    for kind, (fits, wanted) in _LAYERS.items():
        if isinstance(model, kind) and not fits(model):
            raise ValueError(
                f"{kind.__name__} must have {wanted}; got {model!r}. Batches go through jax.vmap."
            )


def _chained(model: LinearNetwork) -> bool:
    shapes = [w.shape for w in model.weights]
    matrices = all(len(shape) == 2 for shape in shapes)
    return matrices and all(a[0] == b[1] for a, b in itertools.pairwise(shapes))


_LAYERS: dict[type, tuple[Callable[[Any], bool], str]] = {
    LinearNeuron: (lambda model: model.a.ndim == 0 and model.w.ndim == 1, "a () and w (d,)"),
    LinearNetwork: (_chained, "matrices w1 (h1, d), w2 (h2, h1), ... that can be multiplied"),
    DiagonalNetwork: (
        lambda model: model.u.ndim == 1 and model.u.shape == model.v.shape,
        "u and v of the same shape (d,)",
    ),
    ModularAddition: (
        lambda model: model.u.ndim == 2 and model.u.shape == model.v.shape == model.w.shape,
        "u, v and w of the same shape (hidden, p)",
    ),
}
"""Whether the layers of each network fit together, and how they should, by its class."""
