"""Weight perturbation: its ODE, SGD on weights on its own time, and what it does not have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rule_table import LINEAR, ONE, PROBLEM, run, start

import learndyn as ld
from learndyn import rules
from learndyn.averages import QuasiMonteCarlo, choose_averages

RULE = rules.WeightPerturbation(1.0)
GOLD = {  # alpha = 1, 2 by an independent solution, DOP853 at 1e-12
    "Q": [
        [[0.6783396963, -0.0690412622], [-0.0690412622, 0.6357932146]],
        [[0.8426806179, -0.0873783712], [-0.0873783712, 0.8053021241]],
    ],
    "R": [
        [[0.3346424382, 0.242765874], [0.2330228012, 0.3195616165]],
        [[0.4306725215, 0.3382043307], [0.3282337871, 0.4174967082]],
    ],
}


def test_against_an_independent_solution():
    found = ld.solve_ode(PROBLEM, RULE, start(), [0.0, 1.0, 2.0])
    np.testing.assert_allclose(found.Q[1:], GOLD["Q"], atol=1e-7)
    np.testing.assert_allclose(found.R[1:], GOLD["R"], atol=1e-7)


@pytest.mark.nightly
def test_the_local_rule_of_its_nodes_has_its_averages():
    """Where there is no closed form, the ODE takes them."""
    at = start([0.8, 0.6])
    given = {"rule": RULE, "biases": False}
    closed, nodes = (
        choose_averages(PROBLEM, 2, 2, averages=x, **given).field_averages(PROBLEM, RULE, at)
        for x in (None, QuasiMonteCarlo(4096))
    )
    np.testing.assert_allclose(nodes.Phi, closed.Phi, atol=4e-3)
    np.testing.assert_allclose(nodes.G, closed.G, atol=4e-3)
    assert abs(closed.Phi[0, 1]) == 0.0


N, RUNS = 4, 20000


@pytest.mark.nightly
def test_one_step_of_a_linear_unit():
    """w' = w - (lr/n) psi (psi . g) with g = c x / sqrt n: moments of psi and x are known."""
    keys = jax.random.split(jax.random.key(4), RUNS)
    w = ld.weights_from_overlaps(jax.random.key(5), ONE, N)
    rule = rules.WeightPerturbation(1.0, lr_second=0.5, weight_decay=0.2)
    step = lambda key: ld.simulate_sgd(LINEAR, rule, w, [0.0, 1 / N**2], key=key)
    found = jax.jit(jax.vmap(step))(keys)
    error, noise = 1.0 - 2 * 0.2 + 1.0, 0.3**2  # <(lambda - rho)**2>, label noise
    # <|psi|**2 (psi . g)**2> = (n + 2) |g|**2, and <(lambda - rho)**2 |x|**2> = (n + 2) error
    length = (N + 2) * ((N + 2) / N * error + noise) / N**3
    shrunk = 1 - 0.2 / N**2
    expected = {
        "Q": shrunk**2 - 2 * shrunk * (1.0 - 0.2) / N**2 + length,
        "R": shrunk * 0.2 - (0.2 - 1.0) / N**2,
        "v": 1.0 - 0.5 * (1.0 - 0.2) / N**2,
    }
    for name, value in expected.items():
        sampled = np.asarray(getattr(found, name)[:, -1]).ravel()
        assert abs(sampled.mean() - value) < 4.0 * sampled.std() / RUNS**0.5, name
    longer = np.asarray(found.Q[:, -1]).ravel()
    short = expected["Q"] - length + length / (N + 2)  # the control: as long as a step of SGD
    assert abs(longer.mean() - short) > 10 * longer.std() / RUNS**0.5


@pytest.mark.nightly
def test_weights_follow_the_ode():
    """At n = 60, whose bias the literature of this limit has as 0.02."""
    w, runs = ld.weights_from_overlaps(jax.random.key(0), start(), 60), 300
    keys = jax.random.split(jax.random.key(1), runs)
    many = jax.vmap(lambda key: ld.simulate_sgd(PROBLEM, RULE, w, [0.0, 2.0], key=key))(keys)
    for name in "QR":
        sampled = np.asarray(getattr(many, name)[:, -1]).reshape(runs, -1)
        allowed = 4.0 * sampled.std(0) / runs**0.5 + 0.02
        assert (np.abs(sampled.mean(0) - np.ravel(GOLD[name][-1])) < allowed).all()
    np.testing.assert_array_equal(many.alpha[0], [0.0, 2.0])


@pytest.mark.nightly
def test_a_batch_has_one_perturbation_and_other_save_times_change_no_bit():
    rule = rules.WeightPerturbation(lambda alpha: 1.0 / (1 + alpha), batch_size=3, momentum=0.5)
    few, many = (run("sgd", rule, ts=ts) for ts in ([0.0, 0.5], [0.0, 0.2, 0.3, 0.5]))
    np.testing.assert_array_equal(few.Q[-1], many.Q[-1])
    assert np.abs(few.R[-1] - few.R[0]).max() > 0.01


@pytest.mark.parametrize("level", ["chain", "langevin", "fluctuations"])
def test_no_other_level_follows_it(level):
    with pytest.raises(ValueError, match="random directions of all n dimensions"):
        run(level, RULE)


def test_what_it_cannot_have():
    with pytest.raises(ValueError, match="within n steps, forgets at once"):
        rules.WeightPerturbation(1.0, momentum=ld.SlowMomentum(1.0))
    with pytest.raises(ValueError, match="clip another rule"):
        rules.Clipped(1.0, rule=RULE)
    halves = np.array([0.5, 0.5])
    spectrum = ld.Spectrum([0.5, 1.5], halves)
    part = halves[:, None, None]
    groups = ld.GroupedOverlaps(part * 0.3, part * 0.1, part, spectrum)
    with pytest.raises(ValueError, match="noise in all directions alike"):
        ld.solve_ode(PROBLEM, RULE, groups, [0.0, 1.0])
    task = ld.Task(PROBLEM, v_teacher=[1.0, 1.0])
    w = ld.weights_from_overlaps(jax.random.key(0), start(), 20)
    with pytest.raises(ValueError, match=r"time steps / n\*\*2"):
        ld.learn("sgd", [task], RULE, w, jnp.array([0.0, 1.0]), key=jax.random.key(1))
