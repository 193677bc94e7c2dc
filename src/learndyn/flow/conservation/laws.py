"""Conserved quantities and the exact laws that replace conservation where it is broken.

Throughout h is a conserved quantity of gradient flow theta' = -lr dL/d theta. For a symmetry
xi(theta) it is the function with gradient xi(theta)/lr and h(0) = 0, which exists where the
Jacobian of xi/lr is symmetric. For linear xi (and xi constant) h is of degree 2 (1), and all laws
below are exact.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from learndyn._checks import as_float, is_concrete, require_at_least
from learndyn._types import RealLike
from learndyn.flow._data import DataLike
from learndyn.flow._objective import Objective, objective_of
from learndyn.flow._parameters import Rates, as_model, rate_tree, split, trained
from learndyn.flow._run import Run
from learndyn.flow.conservation.known import known_quantity

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
"""Gauss-Legendre nodes on [-1, 1]: exact for symmetries that are polynomials of degree 31 along a
ray, far beyond those of homogeneous networks, which are linear."""

_BROKEN = 1e-8
"""How much a symmetry may change the function, or a Jacobian differ from its transpose, over the
size of the terms compared: rounding leaves 1e-13, a wrong sign 1."""


def conserved(model: Any, symmetry: Any = None, lr: Rates = 1.0, *, data: DataLike = None) -> Any:
    """What gradient flow with these rates conserves.

    Without a symmetry, what is known of the model's class:

    - LinearNeuron: a**2/lr_a - |w|**2/lr_w, ().
    - LinearNetwork: W_{l+1}^T W_{l+1}/lr_{l+1} - W_l W_l^T/lr_l, a tuple with one (h_l, h_l) for
      every hidden layer.
    - DiagonalNetwork: u**2/lr_u - v**2/lr_v, (d,).
    - ModularAddition: (|u|**2/lr_u + |v|**2/lr_v)/2 - |w|**2/lr_w, (hidden,).
    - TwoLayer with an activation of degree k (ReLU 1, x**2 2): k v**2/lr_v - |w|**2/lr_w -
      b**2/lr_b, (units,).

    Args:
        model: the model, one or with stacked arrays under `jax.vmap`.
        symmetry: a function from a model to a tangent of the same structure, such as `Scale`, or
            None for what is known of the model's class.
        lr: as for `gradient_flow`; no rate may be 0.
        data: where given, the symmetry is checked on it: dL/d theta along xi must vanish.

    Returns:
        For a symmetry, h(theta) = int_0^1 <xi(s theta)/lr, theta> ds, a number: the half of the
        class's quantities, |theta|**2/(2 lr) for `Scale`.

    Raises:
        ValueError: for a class of which nothing is known, a symmetry that changes the loss, or one
            without a conserved quantity (rotations), whose Jacobian is not symmetric.

    Source:
        Kunin et al. (2021), Neural mechanics.

    Example:
        >>> float(flow.conserved(flow.LinearNeuron(a=2.0, w=[1.0, 1.0])))
        2.0
    """
    model = as_model(model)
    numbers, rest = split(model)
    objective = Objective(numbers, rest, data, rate_tree(lr, numbers))
    _require_moving_layers(objective.rates)
    if symmetry is not None:
        _require_field(symmetry)
        _require_quantity(objective, symmetry)
        if data is not None:
            _require_symmetry(objective_of(model, data, lr), symmetry)
    return _quantity_of(objective, symmetry)(numbers)


def under_decay(h: Any, t: RealLike, decay: RealLike, degree: int = 2) -> Any:
    """h after a time t of flow with decay: exp(-degree decay t) h.

    Args:
        h: as `conserved` gives it.
        t: the time, a number or an array.
        decay: of the flow, per unit of time.
        degree: 2, or 1 for `Translation`.

    Source:
        Kunin et al. (2021), Neural mechanics.

    Example:
        >>> round(float(flow.under_decay(2.0, t=1.0, decay=0.5)), 4)
        0.7358
    """
    factor = jnp.exp(-degree * as_float(decay, "decay") * as_float(t, "t"))
    return jax.tree.map(lambda value: value * factor, h)


def after_step(
    model: Any,
    data: DataLike,
    symmetry: Any = None,
    lr: Rates = 1.0,
    *,
    momentum: RealLike = 0.0,
    decay: RealLike = 0.0,
    velocity: Any = None,
) -> Any:
    """h after the next step of `gradient_descent`, exactly.

    With u' = momentum u + g the step is theta' = (1 - decay) theta - lr u', and for h of degree 2
    h' = (1 - decay)**2 h - (1 - decay) momentum dh[lr u] + h(lr u'): flow's conservation leaves out
    dh[lr g] = 0, and the last term is what finite steps add. For h of degree 1 (`Translation`) h' =
    (1 - decay) h - momentum h(lr u).

    Args:
        model: the model before the step.
        data: as for `gradient_descent`.
        symmetry: as for `conserved`.
        lr: the step, in all the forms that `gradient_flow` takes.
        momentum: in [0, 1).
        decay: the fraction of every trained number that one step takes, in [0, 1).
        velocity: u, a model as in `run.velocity` at one time; None: 0. The rest as for
            `gradient_descent` and `conserved`.

    Raises:
        ValueError: as those do, and for a symmetry that is neither constant nor linear.

    Source:
        The square of the step, expanded; for scale symmetry Kunin et al. (2021).

    Example:
        >>> start = flow.LinearNeuron(a=1.0, w=[0.5, 0.0])
        >>> data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
        >>> run = flow.gradient_descent(start, data, steps=1, lr=0.1)
        >>> predicted = flow.after_step(start, data, None, lr=0.1)
        >>> round(float(predicted), 6), round(float(flow.conserved(run.last, lr=0.1)), 6)
        (7.48125, 7.48125)
    """
    momentum, decay = as_float(momentum, "momentum"), as_float(decay, "decay")
    conserved(model, symmetry, lr, data=data)
    objective = objective_of(model, data, lr)
    quantity, theta = _quantity_of(objective, symmetry), objective.numbers
    velocity = jax.tree.map(jnp.zeros_like, theta) if velocity is None else trained(velocity)
    scaled = lambda u: jax.tree.map(jnp.multiply, objective.rates, u)
    after = jax.tree.map(lambda u, g: momentum * u + g, velocity, objective.gradient(theta))
    h, along = jax.jvp(quantity, (theta,), (scaled(velocity),))
    if _degree(quantity, theta) == 1:
        return jax.tree.map(lambda h, along: (1 - decay) * h - momentum * along, h, along)
    law = lambda h, along, add: (1 - decay) ** 2 * h - (1 - decay) * momentum * along + add
    return jax.tree.map(law, h, along, quantity(scaled(after)))


def inertial_charge(
    run: Run,
    data: DataLike,
    mass: RealLike,
    symmetry: Any = None,
    lr: Rates = 1.0,
) -> Any:
    """What a heavy ball conserves in place of h, at the saved times of its run.

    Degree 2: h + mass dh[theta'] - 2 mass int h(theta') dt; degree 1: h + mass h(theta').

    Args:
        run: of `gradient_flow(..., mass=mass)` with these data and rates, without decay. The
            integral is Hermite's rule over saved times, so its error falls as the fourth power of
            their spacing.
        data: of the run.
        mass: of the run.
        symmetry: as for `conserved`.
        lr: rates of the run.

    Returns:
        as `conserved`, with an axis of times in front.

    Raises:
        ValueError: for a run without velocity, or a batch.

    Source:
        Tanaka & Kunin (2021), Noether's learning dynamics.

    Example:
        >>> start = flow.LinearNeuron(a=0.5, w=[0.5, 0.2])
        >>> data = flow.Moments(sxx=np.eye(2), syx=[1.0, 0.0])
        >>> run = flow.gradient_flow(start, data, np.linspace(0.0, 2.0, 101), mass=0.5)
        >>> charge = flow.inertial_charge(run, data, mass=0.5)
        >>> np.round(charge[::50], 4) + 0.0
        Array([-0.04, -0.04, -0.04], dtype=float64)
    """
    mass = as_float(mass, "mass")
    require_at_least(mass, 0.0, "mass", "of the heavy ball", strict=True)
    if run.kind != "heavy ball" or run.t.ndim != 1:
        raise ValueError(f"run must be one run of gradient_flow(..., mass=mass); got {run!r}.")
    objective = objective_of(run.at(0), data, lr)
    quantity = _quantity_of(objective, symmetry)
    degree = _degree(quantity, objective.numbers)
    push = lambda tree, v: jax.tree.map(lambda f, v: (f - v) / mass, objective.drift(tree), v)

    def parts(theta: Any, velocity: Any) -> tuple[Any, ...]:
        h, along = jax.jvp(quantity, (theta,), (velocity,))
        return h, along, *jax.jvp(quantity, (velocity,), (push(theta, velocity),))

    rows = jax.vmap(parts)(split(run.model)[0], run.velocity)
    if degree == 1:
        return jax.tree.map(lambda h, along: h + mass * along, *rows[:2])
    charge = lambda h, along, k, slope: h + mass * along - 2 * mass * _integral(run.t, k, slope)
    return jax.tree.map(charge, *rows)


def _integral(t: Array, values: Array, slopes: Array) -> Array:
    """The integral since the first time."""
    # Hermite's rule
    dt = jnp.diff(t).reshape(-1, *[1] * (values.ndim - 1))
    means, turns = 0.5 * (values[1:] + values[:-1]), slopes[:-1] - slopes[1:]
    areas = jnp.cumsum(dt * means + dt**2 / 12 * turns, axis=0)
    return jnp.concatenate([jnp.zeros_like(values[:1]), areas])


def _quantity_of(objective: Objective, symmetry: Any) -> Callable[[Any], Any]:
    """h as a function of the trained numbers."""
    if symmetry is None:
        return lambda numbers: known_quantity(objective.at(numbers), objective.rates)

    def along_ray(numbers: Any, s: Array) -> Array:
        point = jax.tree.map(lambda x: s * x, numbers)
        return _dot(_over_rates(objective, symmetry, point), numbers)

    # Gauss-Legendre quadrature along a ray
    def quantity(numbers: Any) -> Array:
        values = jax.vmap(lambda s: along_ray(numbers, s))(0.5 * (1 + jnp.asarray(_NODES)))
        return 0.5 * jnp.asarray(_WEIGHTS) @ values

    return quantity


def _over_rates(objective: Objective, symmetry: Any, numbers: Any) -> Any:
    """xi/lr at these numbers."""
    tangent = trained(symmetry(objective.at(numbers)))
    if jax.tree.structure(tangent) != jax.tree.structure(numbers):
        raise ValueError(
            "a symmetry must return a tangent, of the model's own structure: its change in the "
            f"direction of the symmetry; got {tangent!r}."
        )
    return jax.tree.map(lambda xi, lr: xi / lr, tangent, objective.rates)


def _dot(a: Any, b: Any) -> Array:
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return jnp.sum(jnp.stack([jnp.sum(x * y) for x, y in pairs]))


def _degree(quantity: Callable[[Any], Any], numbers: Any) -> int:
    """1 or 2. Raises: ValueError where h is neither linear nor quadratic."""
    point = _random_like(numbers, 0)
    once, twice = (_dot(h, h) for h in map(quantity, (point, jax.tree.map(lambda x: 2 * x, point))))
    if not is_concrete(once, twice):
        return 2
    ratio = float(jnp.sqrt(twice / once))
    for degree in (1, 2):
        if abs(ratio - 2**degree) < _BROKEN * 2**degree:
            return degree
    raise ValueError(
        "exact laws for finite steps and inertia need a symmetry that is constant or linear in the "
        f"parameters; doubling them multiplies this one's quantity by {ratio:g}, not by 2 or 4."
    )


def _require_moving_layers(rates: Any) -> None:
    if is_concrete(rates) and not all(np.all(np.asarray(r) > 0) for r in jax.tree.leaves(rates)):
        raise ValueError(
            "every rate must be > 0: quantities are conserved between layers that both learn, and "
            "a frozen layer is conserved itself."
        )


def _require_field(symmetry: Any) -> None:
    if not callable(symmetry):
        raise ValueError(
            "symmetry must be a function from a model to a tangent of its structure, such as "
            f"flow.Scale(where); got {symmetry!r}."
        )


def _require_quantity(objective: Objective, symmetry: Any) -> None:
    """Raises: ValueError where the Jacobian of xi/lr is not symmetric."""
    a, b = (_random_like(objective.numbers, seed) for seed in (1, 2))
    field = lambda numbers: _over_rates(objective, symmetry, numbers)
    turned = lambda v: jax.jvp(field, (objective.numbers,), (v,))[1]
    one, other = turned(a), turned(b)
    size = jnp.sqrt(_dot(one, one) * _dot(b, b) + _dot(other, other) * _dot(a, a))
    gap = jnp.abs(_dot(b, one) - _dot(a, other))
    if is_concrete(gap) and float(gap) > _BROKEN * float(size):
        raise ValueError(
            "symmetry without conserved quantity: xi/lr is the gradient of no function, as its "
            f"Jacobian is not symmetric (by {float(gap / size):.1e} of its size). Rotations and "
            "antisymmetric generators are of this kind; so are symmetries between layers of "
            "different rates where xi was made for equal ones."
        )


def _require_symmetry(objective: Objective, symmetry: Any) -> None:
    """Raises: ValueError where the loss changes along xi, looked at near the model."""
    move = lambda x, noise: x + jnp.sqrt(jnp.mean(x**2)) * noise
    point = jax.tree.map(move, objective.numbers, _random_like(objective.numbers, 3))
    gradient, xi = objective.gradient(point), trained(symmetry(objective.at(point)))
    size = jnp.sqrt(_dot(gradient, gradient) * _dot(xi, xi))
    change = jnp.abs(_dot(gradient, xi))
    if is_concrete(change) and float(change) > _BROKEN * float(size):
        raise ValueError(
            "symmetry must leave the loss on these data unchanged; along it the loss changes by "
            f"{float(change / size):.1e} of the product of both norms."
        )


def _random_like(numbers: Any, seed: int) -> Any:
    leaves, structure = jax.tree.flatten(numbers)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    pairs = zip(keys, leaves, strict=True)
    return jax.tree.unflatten(structure, [jax.random.normal(k, x.shape, x.dtype) for k, x in pairs])
