"""Which functions jump or have kinks: measured, so that users need not say."""

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from own_losses import ExponentialLoss
from own_losses import huber_loss as huber

import learndyn as ld
from learndyn.problems import AbstractActivation, gradient_jumps, is_smooth
from learndyn.problems._regularity import jump_places, measured_regularity


def hard_tanh(x):
    return jnp.clip(x, -1, 1)


def leaky_relu(x):
    return jnp.where(x > 0, x, 0.1 * x)


class Scaled(eqx.Module):
    a: jax.Array

    def __call__(self, x):
        return jnp.tanh(self.a * x)


def cases(table):
    return pytest.mark.parametrize(("function", "expected"), table.values(), ids=table)


@cases(
    {
        "Tanh": (ld.Tanh(), False),
        "ReLU": (ld.ReLU(), True),
        "tanh": (jnp.tanh, False),
        "steep tanh": (lambda x: jnp.tanh(50 * x), False),
        "softplus": (jax.nn.softplus, False),
        "elu": (jax.nn.elu, False),
        "gelu": (jax.nn.gelu, False),
        "cube": (lambda x: x**3, False),
        "bump": (lambda x: jnp.exp(-(x**2)), False),
        "relu": (jax.nn.relu, True),
        "leaky relu": (leaky_relu, True),
        "abs": (jnp.abs, True),
        "hard tanh": (hard_tanh, True),
        "shifted hard tanh": (lambda x: hard_tanh(x - 3), True),
        "threshold relu": (lambda x: jnp.maximum(x - 0.5, 0), True),
        "stairs": (lambda x: jnp.floor(x) + x, True),
        "steep root": (lambda x: jnp.abs(x) ** 1.5, False),
    }
)
def test_jumps_of_students(function, expected):
    """The gradient jumps where the activation or its derivative does."""
    assert gradient_jumps(ld.Problem(function, ld.Erf()), 2) is expected


@cases(
    {
        "Sign": (ld.Sign(), True),
        "ReLU": (ld.ReLU(), False),
        "abs": (jnp.abs, False),
        "sign": (jnp.sign, True),
        "round": (jnp.round, True),
        "far threshold": (lambda x: jnp.where(x > 2.5, x, 0.0), True),
        "product": (ld.MultiIndex(lambda r, z: jnp.tanh(r[0] * r[1]) + z), False),
        "size of a product": (ld.MultiIndex(lambda r, z: jnp.abs(r[0] * r[1]) + z), False),
        "sign of a product": (ld.MultiIndex(lambda r, z: jnp.sign(r[0] * r[1]) + z), True),
        "noisy sign": (ld.MultiIndex(lambda r, z: r[0] * jnp.sign(r[1] + z)), True),
        "largest": (ld.MultiIndex(lambda r, z: jnp.max(r)), False),
        "which is largest": (ld.MultiIndex(lambda r, z: 1.0 * jnp.argmax(r)), True),
        "ball": (ld.MultiIndex(lambda r, z: 1.0 * (r @ r > 2)), True),
    }
)
def test_jumps_of_teachers(function, expected):
    assert gradient_jumps(ld.Problem(ld.Erf(), function), 2) is expected


@cases(
    {
        "huber": (huber, False),
        "log cosh": (lambda phi, y: jnp.log(jnp.cosh(phi - y)), False),
        "fourth power": (lambda phi, y: (phi - y) ** 4, False),
        "absolute": (lambda phi, y: jnp.abs(phi - y), True),
        "quantile": (lambda phi, y: jnp.maximum(0.9 * (y - phi), 0.1 * (phi - y)), True),
        "insensitive": (lambda phi, y: jnp.maximum(jnp.abs(phi - y) - 0.3, 0), True),
        "weight by label": (lambda phi, y: jnp.where(y > 0, 2.0, 1.0) * (phi - y) ** 2, True),
        "Logistic": (ld.Logistic(), True),  # its labels do
        "exponential": (ExponentialLoss(), True),
    }
)
def test_jumps_of_losses(function, expected):
    assert gradient_jumps(ld.Problem(ld.Erf(), ld.Erf(), function), 2) is expected


@pytest.mark.parametrize("place", [7.999, 8.001, 8.006, 8.0125, 8.03, 32.01, 32.04, -8.005])
def test_jumps_where_one_window_of_the_scan_ends(place):
    assert jump_places(lambda x: jnp.where(x > place, 1.0, 0.0), ()) == pytest.approx([place])


def test_what_cannot_be_known_counts_as_a_jump():
    found = []
    jax.jit(lambda a: found.append(gradient_jumps(ld.Problem(Scaled(a)), 2)))(1.0)
    assert found == [True]
    assert not gradient_jumps(ld.Problem(Scaled(jnp.array(1.0))), 2)


def test_detection_works_while_something_else_is_traced():
    found = []
    jax.jit(lambda a: found.append(gradient_jumps(ld.Problem(leaky_relu, noise=a), 2)))(1.0)
    jax.jit(lambda a: found.append(gradient_jumps(ld.Problem(jnp.sin, noise=a), 2)))(1.0)
    assert found == [True, False]


@pytest.mark.nightly(by_day=["sine", "relu", "huber", "elu", "square index", "kinked index"])
@pytest.mark.parametrize(
    ("problem", "smooth"),
    [
        (ld.Problem(ld.Tanh(), jnp.sin), True),
        (ld.Problem(ld.Tanh(), ld.ReLU()), False),
        (ld.Problem(ld.Tanh(), ld.Tanh(), huber), False),
        (ld.Problem(jax.nn.elu, ld.Tanh()), False),
        (ld.Problem(ld.Tanh(), ld.Tanh(), lambda phi, y: (phi - y) ** 4), True),
        (ld.Problem(ld.Tanh(), ld.Tanh(), lambda phi, y: jnp.log(jnp.cosh(phi - y))), True),
        (ld.Problem(ld.Tanh(), ld.MultiIndex(lambda r, z: r[0] ** 2 + z)), True),
        (ld.Problem(ld.Tanh(), ld.MultiIndex(lambda r, z: jnp.abs(r[0]) + z)), False),
    ],
    ids=[
        "sine",
        "relu",
        "huber",
        "elu",
        "fourth power",
        "log cosh",
        "square index",
        "kinked index",
    ],
)
def test_kinks(problem, smooth):
    """Gauss-Hermite nodes, and second derivatives, are for problems without kinks."""
    assert is_smooth(problem, 1) is smooth


OWN = [
    kind
    for kind in AbstractActivation.__subclasses__()
    if kind.__module__ == AbstractActivation.__module__  # other tests have activations as well
]


@pytest.mark.parametrize("kind", OWN)
def test_what_activations_declare_is_what_is_measured(kind):
    declared, measured = kind.regularity, measured_regularity(kind())
    assert declared is not None
    for name in declared._fields:
        assert getattr(measured, name) == pytest.approx(getattr(declared, name), abs=1e-12)
