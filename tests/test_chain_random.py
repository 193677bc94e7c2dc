"""The overlap chain's random numbers: chi-square and Wishart against their exact laws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from learndyn.dynamics.chain import _random as _lane_random
from learndyn.dynamics.chain._draws import wishart_factor
from learndyn.dynamics.chain._random import LaneRandom, chi_square, lane_seeds

DOF = (1.0, 2.0, 3.0, 4.0, 7.0, 30.0, 780.0, 10_000.0)
STEPS, LANES = 64, 3000


def random_of(seed, lanes=LANES, block=5):
    return LaneRandom(lane_seeds(jax.random.split(jax.random.key(seed), lanes)), jnp.array(block))


def drawn_chi_square(random, dof, steps):
    normal = random.normal(steps * len(dof)).reshape(steps, len(dof), random.lanes)
    return chi_square(random, dof, normal)


@pytest.fixture(scope="module")
def drawn():
    """(dof, numbers) and which of them were refused at first."""

    @jax.jit
    def draw(dof):
        values = drawn_chi_square(random_of(0), dof, STEPS)
        random, shape = random_of(0), (STEPS, len(dof), LANES)
        x, u = random.normal(STEPS * len(dof)), random.uniform(STEPS * len(dof))
        d = 0.5 * dof - 1 / 3
        return values, _lane_random._candidates(d, x.reshape(shape), u.reshape(shape))[1]

    values, accepted = draw(jnp.array(DOF)[:, None])
    columns = lambda x: np.asarray(x).transpose(1, 0, 2).reshape(len(DOF), -1)
    return columns(values), ~columns(accepted)


def anderson_darling(u):
    """A^2 of uniform numbers; above 10 with a probability near 1e-5 (Marsaglia 2004)."""
    u, count = np.sort(u), len(u)
    odd = 2 * np.arange(1, count + 1) - 1
    return -count - np.mean(odd * (np.log(u) + np.log1p(-u[::-1])))


@pytest.mark.parametrize("column", range(len(DOF)))
def test_chi_square_has_its_law(drawn, column):
    values, dof = drawn[0][column], DOF[column]
    assert stats.kstest(values, stats.chi2(dof).cdf).pvalue > 1e-5
    assert anderson_darling(np.clip(stats.chi2.cdf(values, dof), 1e-300, 1 - 1e-16)) < 10


@pytest.mark.parametrize("column", range(len(DOF)))
def test_chi_square_has_its_moments(drawn, column):
    """The first four moments of the standardised number, each to five standard errors."""
    law = stats.chi2(DOF[column])
    x = (drawn[0][column] - law.mean()) / law.std()
    skewness, excess = (float(s) for s in law.stats("sk"))
    for power, expected in ((1, 0.0), (2, 1.0), (3, skewness), (4, 3 + excess)):
        error = np.std(x**power) / len(x) ** 0.5
        assert abs(np.mean(x**power) - expected) < 5 * error


@pytest.mark.parametrize("column", [0, 1, 2])
def test_numbers_drawn_again_have_the_same_law(drawn, column):
    values, refused = drawn[0][column], drawn[1][column]
    assert refused.sum() > 500
    for part in (values[refused], values[~refused]):
        assert stats.kstest(part, stats.chi2(DOF[column]).cdf).pvalue > 1e-5


def test_numbers_are_uncorrelated_between_steps_columns_and_lanes(drawn):
    x = stats.norm.ppf(stats.chi2.cdf(drawn[0][:7], np.array(DOF[:7])[:, None]))
    x = np.clip(x, -8, 8).reshape(7, STEPS, LANES)
    pairs = [(x[:, 1:], x[:, :-1]), (x[..., 1:], x[..., :-1]), (x[1:], x[:-1])]
    for one, other in pairs:
        assert abs(np.mean(one * other)) * one.size**0.5 < 5


def test_many_refusals_change_no_law(monkeypatch):
    """Nineteen of twenty candidates thrown away at random: the loop fills every place."""
    candidates = _lane_random._candidates

    def picky(d, x, u):
        values, accepted = candidates(d, x, u)
        # By digits of u that do not decide whether the candidate is taken.
        return values, accepted & (jnp.floor(u * 2.0**30) % 20 == 0)

    monkeypatch.setattr(_lane_random, "_candidates", picky)
    values = jax.jit(lambda dof: drawn_chi_square(random_of(1, 1000), dof, 8))(jnp.array([[3.0]]))
    assert stats.kstest(np.ravel(values), stats.chi2(3).cdf).pvalue > 1e-5


def test_degrees_of_freedom_without_a_law():
    got = jax.jit(lambda dof: drawn_chi_square(random_of(2, 3), dof, 4))(
        jnp.array([[0.0], [0.5], [-1.0], [jnp.nan], [1.0]])
    )
    np.testing.assert_array_equal(got[:, 0], 0.0)
    assert np.isnan(got[:, 1:4]).all()
    assert np.all(np.asarray(got[:, 4]) > 0)


def test_a_lane_does_not_depend_on_the_others():
    dof = jnp.array([[1.0]])
    draw = jax.jit(lambda seeds: drawn_chi_square(LaneRandom(seeds, jnp.array(3)), dof, 8))
    seeds = lane_seeds(jax.random.split(jax.random.key(3), 500))
    np.testing.assert_array_equal(draw(seeds)[..., 7], draw(seeds[:, 7:8])[..., 0])


@pytest.mark.parametrize("dof", [1, 2, 3, 6])
def test_gram_matrices_have_the_wishart_law(dof, wishart):
    """Mean and second moments, and E det of every leading block, also below full rank."""
    gram = wishart(float(dof))
    eye, root = np.eye(3), len(gram) ** 0.5
    products = np.einsum("sij,skl->sijkl", gram, gram)
    expected = dof**2 * np.einsum("ij,kl->ijkl", eye, eye)
    expected += dof * (np.einsum("ik,jl->ijkl", eye, eye) + np.einsum("il,jk->ijkl", eye, eye))
    z = (products.mean(0) - expected) / (products.std(0) / root)
    assert np.abs(z).max() < 5.2  # 36 different numbers in each of four cases
    assert np.abs((gram.mean(0) - dof * eye) / (gram.std(0) / root)).max() < 5
    for size in (2, 3):
        det = np.linalg.det(gram[:, :size, :size])
        mean = np.prod(dof - np.arange(size))
        assert abs(det.mean() - mean) <= 5 * det.std() / root + 1e-9


@pytest.fixture(scope="module")
def wishart():
    @jax.jit
    def gram(dof):
        random = random_of(4)
        factor = wishart_factor(random, dof, random.normal(16 * 6).reshape(16, 6, LANES), 3)
        return jnp.einsum("sijl,skjl->slik", factor, factor).reshape(-1, 3, 3)

    return lambda dof: np.asarray(gram(jnp.array([dof])))
