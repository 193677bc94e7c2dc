"""What a run says of itself: how it ended, in words, in numbers and as a warning."""

import warnings
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn._readable import ReadableResult

PROBLEM, RULE = ld.Problem(noise=0.1), ld.SGD(lr=0.2)
EXPLOSIVE = ld.Problem(student=ld.Linear(), teacher=ld.Linear())
WEIGHTS = ld.init_weights(jax.random.key(0), n=50, k=2, m=2)
START = ld.overlaps(WEIGHTS)
TS = jnp.linspace(0.0, 30.0, 4)
KEY = jax.random.key(1)
KEYS = jax.random.split(KEY, 2)


def sgd(key=KEY, rule=RULE, problem=PROBLEM, **options):
    return ld.simulate_sgd(problem, rule, WEIGHTS, TS, key=key, **options)


RUNS = {
    "ode": lambda rule: ld.solve_ode(EXPLOSIVE, rule, START, TS),
    "sgd": lambda rule: sgd(rule=rule, problem=EXPLOSIVE),
    "chain": lambda rule: ld.simulate_chain(EXPLOSIVE, rule, START, TS, n=50, key=KEY),
    "langevin": lambda rule: ld.simulate_langevin(
        EXPLOSIVE, rule, START, TS, n=50, key=KEY, dt=0.05
    ),
    "fluctuations": lambda rule: ld.fluctuations(EXPLOSIVE, rule, START, TS).mean,
}


class Found(ReadableResult):
    eg: jax.Array
    result: jax.Array
    flow: jax.Array

    unshown: ClassVar = ("flow",)


DEAR = ("langevin", "fluctuations")
"""Levels that compile for long, and warn in the same way."""


@pytest.fixture(scope="module")
def batch():
    run = lambda lr, key: sgd(key, ld.SGD(lr=lr), EXPLOSIVE)
    return jax.vmap(run)(jnp.array([0.1, 100.0]), KEYS)


@pytest.mark.parametrize(
    "level",
    [pytest.param(level, marks=pytest.mark.nightly if level in DEAR else ()) for level in RUNS],
)
def test_a_run_that_fails_warns(level):
    with pytest.warns(RuntimeWarning, match=r"stopped after alpha = 0, before .*\(DIVERGED\)"):
        run = RUNS[level](ld.SGD(lr=100.0))
    assert run.ok is False
    with pytest.raises(RuntimeError, match=f"{run.level} run stopped after alpha = 0"):
        run.raise_if_failed()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        good = RUNS[level](ld.SGD(lr=0.1))
    assert good.ok is True
    assert good.raise_if_failed() is good


def test_a_batch_tells_which_run_failed(batch):
    np.testing.assert_array_equal(batch.ok, [True, False])
    with pytest.raises(RuntimeError, match="1 of 2 runs failed; number 1 stopped after alpha = 0"):
        batch.raise_if_failed()
    assert batch[0].raise_if_failed().ok


def test_a_traced_run_does_not_warn_and_cannot_raise():
    def failed(lr):
        run = sgd(rule=ld.SGD(lr=lr), problem=EXPLOSIVE)
        assert repr(run) == "Trajectory(sgd, traced)"
        assert "traced" in run._repr_html_()
        with pytest.raises(ValueError, match="being traced"):
            run.raise_if_failed()
        return ~run.ok

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert jax.jit(failed)(100.0)


def test_a_sweep_run_by_run_does_not_warn_of_every_run():
    def level(problem, rule, start, ts):
        assert float(rule.lr) > 0  # cannot be traced, so runs go one by one
        return ld.solve_ode(problem, rule, start, ts)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ld.sweep(level, EXPLOSIVE, RULE, START, TS, over={"lr": [0.1, 100.0]})
    np.testing.assert_array_equal(found["result"], [0, 1])


def test_repr_of_runs(batch):
    run = sgd()
    first, last = float(run.eg[0]), float(run.eg[-1])
    facts = f"4 times, alpha 0 … 30, k=2, m=2, eg {first:.3g} → {last:.3g}, success"
    assert repr(run) == f"Trajectory({facts})"
    # The mean is that of the runs that got there.
    first, last = float(batch.eg[0, 0]), float(batch.eg[0, -1])
    facts = f"2 runs, 4 times, alpha 0 … 30, k=2, m=2, mean eg {first:.3g} → {last:.3g}"
    assert repr(batch) == f"Trajectory({facts}, 1 success, 1 diverged)"


def test_repr_of_settings_and_results():
    assert repr(RULE) == "SGD(lr=0.2)"
    rule = ld.SGD(lr=jnp.tanh, lr_second=0.123456789, batch_size=5, momentum=ld.SlowMomentum(2))
    assert repr(rule) == (
        "SGD(lr=tanh, lr_second=0.123457, batch_size=5, momentum=SlowMomentum(gamma=2))"
    )
    assert repr(ld.Problem(student=jnp.tanh, noise=0.1)) == (
        "Problem(student=tanh, teacher=Erf(), loss=Squared(), noise=0.1)"
    )
    assert repr(ld.rules.FeedbackAlignment([1.0, -2.0], lr=0.1)) == (
        "FeedbackAlignment(lr=0.1, feedback=[1, -2])"
    )
    assert repr(ld.SGD(lr=[0.1, 0.2], weight_decay=[0.0, 0.0])) == "SGD(lr=[0.1, 0.2])"
    assert repr(ld.Sign(flip=0.1)) == "Sign(flip=0.1)"
    assert repr(ld.Overlaps(0.5 * jnp.eye(1), [[0.25, 0]], jnp.eye(2))) == (
        "Overlaps(Q=[[0.5]], R=[[0.25, 0]], T=[[1, 0], [0, 1]], v=[1], v_teacher=[1, 1])"
    )
    assert "w=float64[2, 50]" in repr(WEIGHTS)
    numbers = {name: jnp.array(1 / 3) for name in ("q", "c", "r", "eg", "rate", "rate_over_lr")}
    plateau = ld.asymptotics.Plateau(**numbers, residual=jnp.array(1e-15), m=2)
    assert repr(plateau) == (
        "Plateau(q=0.333, c=0.333, r=0.333, eg=0.333, rate=0.333, rate_over_lr=0.333, "
        "residual=1e-15, m=2)"
    )
    assert repr(Found(jnp.array(1 / 3), jnp.array(2), jnp.ones(2))) == "Found(eg=0.333, max_steps)"
    np.testing.assert_array_equal(jax.vmap(lambda x: (repr(ld.SGD(lr=x)), x)[1])(TS), TS)


def test_html_of_runs_and_settings():
    table = sgd()._repr_html_()
    for text in ("<table>", "sgd", "alpha", "0 … 30", "success", "SGD(lr=0.2)", "noise=0.1"):
        assert text in table
    # A lambda's name would be a tag.
    assert "&lt;lambda&gt;" in ld.SGD(lr=lambda alpha: 0.1)._repr_html_()


def test_sgd_keeps_its_last_weights():
    rule = ld.SGD(lr=0.2, lr_second=0.1, momentum=0.5)
    run = sgd(rule=rule)
    end = ld.overlaps(run.weights)
    for name in ("Q", "R", "T", "v"):
        np.testing.assert_allclose(getattr(end, name), getattr(run.at(-1), name), rtol=1e-12)
    np.testing.assert_array_equal(run.weights.w_teacher, WEIGHTS.w_teacher)
    assert run.velocity.w.shape == (2, 50)
    assert run.velocity.v.shape == (2,)
    assert run.velocity.b is None
    assert jnp.abs(run.velocity.w).max() > 0
    left_out = sgd(rule=rule, keep_weights=False)
    assert left_out.weights is None
    assert left_out.velocity is None
    np.testing.assert_array_equal(left_out.Q, run.Q)


def test_weights_of_a_failed_run_are_nan(batch):
    assert np.isfinite(batch[0].weights.w).all()
    assert np.isnan(batch[1].weights.w).all()


def test_a_run_knows_its_key(batch):
    assert jnp.all(batch.key == KEYS)
    assert batch[1].key == KEYS[1]
    legacy = sgd(key=jax.random.PRNGKey(1))
    assert legacy.key == jax.random.key(1)
    assert ld.solve_ode(EXPLOSIVE, RULE, START, TS).key is None
