"""One problem written in several ways: every level gives the same, and so do derivatives, which are
held to differences of the library's own values."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import erf

import learndyn as ld
from learndyn.dynamics._averages_errors import errors_along

Q, R, T = [[0.6, 0.1], [0.1, 0.5]], [[0.3], [-0.2]], [[1.0]]
V, B, NOISE = np.array([0.8, -0.5]), np.array([0.3, 0.3]), 0.2
TS = jnp.array([0.0, 0.25])


def erf_unit(x):
    return erf(x / 2**0.5)


def start(v=V, b=None):
    return ld.Overlaps(Q, R, T, v=v, b=b)


def pair(student, teacher=None, loss=None, noise=NOISE, **layers):
    return ld.Problem(student, teacher or ld.Erf(), loss, noise), start(**layers)


WRITINGS = {
    "erf": {
        "itself": pair(ld.Erf()),
        "lambda": pair(lambda x: erf(x / 2**0.5), erf_unit, lambda phi, y: (y - phi) ** 2 / 2),
        "scaled": pair(lambda x: 2.0 * erf(x / 2**0.5), v=V / 2),
        "index": pair(
            ld.Erf(), ld.MultiIndex(lambda rho, zeta: erf_unit(rho[0]) + NOISE * zeta), noise=0.0
        ),
    },
    "linear": {
        "itself": pair(ld.Linear(), ld.Linear()),
        "lambda": pair(lambda x: x, lambda x: 1.0 * x, lambda phi, y: (y - phi) ** 2 / 2),
    },
    "shifted": {
        "itself": pair(ld.Erf(), b=B),
        "lambda": pair(lambda x: erf((x + 0.3) / 2**0.5)),
    },
    "relu": {
        "itself": pair(ld.ReLU(), ld.ReLU()),
        "lambda": pair(lambda x: jnp.maximum(x, 0.0), lambda x: jnp.where(x > 0, x, 0.0)),
        "scaled": pair(lambda x: 4.0 * jax.nn.relu(x), ld.ReLU(), v=V / 4),
        "leaky": pair(ld.LeakyReLU(0.0), ld.LeakyReLU(0.0)),
    },
}
CASES = [(problem, way) for problem, ways in WRITINGS.items() for way in list(ways)[1:]]
NAMES = [f"{problem}-{way}" for problem, way in CASES]
RULE = ld.SGD(lr=0.7, weight_decay=0.1, batch_size=2)


@eqx.filter_jit
def theory(flow, y):
    """Drift, eg, both with their stated errors, and their derivatives at y."""
    drift, eg = flow(0.0, y, None), flow.error_by(flow.averages, flow.unpack(y))
    told = errors_along(flow, TS[:1], y[None])
    relative, of_eg = (told.get(f"averages_error_{x}", jnp.zeros(1))[0] for x in ("drift", "eg"))
    slopes = jax.jacfwd(lambda y: flow.error_by(flow.averages, flow.unpack(y)))(y)
    errors = relative * jnp.max(jnp.abs(drift)), of_eg
    return drift, eg, errors, flow.jacobian(jnp.zeros(()), y), slopes


def flow_of(problem, state):
    flow = ld.ode_term(problem, RULE, state).vector_field
    return flow, flow.pack(state)


def test_drifts_of_two_writings():
    """The closed form of linear units and a function that is recognised by value."""
    (flow, y), (other, _) = (flow_of(*WRITINGS["linear"][way]) for way in ("itself", "lambda"))
    drift = eqx.filter_jit(lambda flow: flow(0.0, y, None))
    np.testing.assert_allclose(drift(other), drift(flow), rtol=1e-12)


@pytest.mark.nightly
@pytest.mark.parametrize(("problem", "way"), CASES, ids=NAMES)
def test_theories_of_two_writings(problem, way):
    (drift, eg, _, jacobian, slopes), other = (
        theory(*flow_of(*WRITINGS[problem][one])) for one in ("itself", way)
    )
    found, found_eg, (error, eg_error), found_jacobian, found_slopes = other
    np.testing.assert_allclose(found, drift, atol=float(error) + 1e-12)
    np.testing.assert_allclose(found_eg, eg, atol=float(eg_error) + 1e-12)
    # Derivatives of nodes are right to 2 %, as is stated.
    size = np.abs(jacobian).max()
    loose = 1e-10 if float(error) < 1e-12 else 0.02
    np.testing.assert_allclose(found_jacobian, jacobian, atol=loose * size)
    np.testing.assert_allclose(found_slopes, slopes, atol=loose * np.abs(slopes).max())


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("problem", "way"), [("erf", "itself"), ("shifted", "itself"), ("relu", "itself"), *CASES]
)
def test_derivatives_are_differences_of_values(problem, way):
    flow, y = flow_of(*WRITINGS[problem][way])
    _, _, (error, _), jacobian, slopes = theory(flow, y)
    h = 1e-4
    # Nodes are differentiated under the integral, so both have errors: 7e-5 was measured.
    loose = 1e-5 if float(error) < 1e-12 else 1e-3
    ups, downs = ([theory(flow, y + s * h * e)[:2] for e in np.eye(len(y))] for s in (1, -1))
    for index, derivative in enumerate((jacobian, slopes)):
        columns = [(a[index] - b[index]) / (2 * h) for a, b in zip(ups, downs, strict=True)]
        difference = np.stack(columns, axis=-1)
        size = np.abs(difference).max()
        np.testing.assert_allclose(derivative, difference, atol=loose * size)


def run(level, problem, state):
    key = jax.random.key(2)
    if level == "sgd":
        weights = ld.weights_from_overlaps(jax.random.key(1), state, 16)
        return ld.simulate_sgd(problem, RULE, weights, TS, key=key)
    return ld.simulate_chain(problem, RULE, state, TS, n=16, key=key)


@pytest.mark.nightly
@pytest.mark.parametrize("level", ["sgd", "chain"])
@pytest.mark.parametrize(("problem", "way"), CASES, ids=NAMES)
def test_experiments_of_two_writings(problem, way, level):
    """The same random numbers, so the same path to rounding."""
    one, other = (run(level, *WRITINGS[problem][x]) for x in ("itself", way))
    for name in ("Q", "R"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), rtol=1e-9, atol=1e-12)


@pytest.mark.nightly
@pytest.mark.parametrize(("problem", "way"), CASES, ids=NAMES)
def test_noise_theories_of_two_writings(problem, way):
    """Langevin's noise and fluctuations come from nodes in every writing: 2 % of the largest."""
    one, other = (
        ld.fluctuations(writing[0], RULE, writing[1], TS)
        for writing in (WRITINGS[problem][x] for x in ("itself", way))
    )
    size = np.abs(one.covariance).max()
    np.testing.assert_allclose(other.covariance, one.covariance, atol=0.02 * size)
