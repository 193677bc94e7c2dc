"""The search for an optimal schedule, in which what it minimises and Adam are replaced by functions
that are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn import asymptotics
from learndyn.asymptotics.schedules import _optimal
from learndyn.asymptotics.schedules._descent import Optimised
from learndyn.rules import ConstantRate, InverseTimeRate

LINEAR = ld.Problem(ld.Linear(), ld.Linear(), noise=0.3)
ONE = ld.Overlaps([[0.7]], [[0.3]], [[1.4]])


def close(found, wanted, rel=1e-12):
    np.testing.assert_allclose(found, wanted, rtol=rel)


class Parabola(_optimal._Learning):
    """log eg = 2 (log lr - log best)**2 - 1, and nothing above `until`."""

    best: float = 0.37
    until: float = 1e9

    def __call__(self, schedule):
        lr = schedule(0.0)
        return jnp.where(lr < self.until, 2 * (jnp.log(lr / self.best)) ** 2 - 1, jnp.nan)


def parabola(**options):
    return Parabola(LINEAR, ld.SGD(0.4), ONE, jnp.zeros(1), None, jnp.zeros(1), **options)


@pytest.mark.parametrize("best", [0.37, 0.003, 220.0])
def test_the_best_constant_rate_between_or_beyond_two(best):
    found = _optimal._best_constant(
        parabola(best=best, until=2e3), jnp.asarray(0.05), jnp.asarray(2.0)
    )
    # Three grids of 25: the last one's spacing is 40**(1/24 / 12**2) or, a decade on, little more.
    assert abs(np.log(float(found.schedule(0.0)) / best)) < 0.6 * np.log(1e3) / 24 / 12**2
    close(found.value, np.exp(-1), rel=1e-4)
    assert found.history.shape == (3,)
    assert found.history[2] <= found.history[1] <= found.history[0]
    close(found.history[2], found.value)


def test_a_best_constant_rate_that_is_not_found():
    low, high = jnp.asarray(0.05), jnp.asarray(2.0)
    for best, words in ((1e-7, r"at the lowest of those searched, 5e-05, 3 dec"), (1e7, "highest")):
        with pytest.raises(ValueError, match=words):
            _optimal._best_constant(parabola(best=best), low, high)
    with pytest.raises(ValueError, match=r"no constant rate in range_lr = \(0.05, 2\)"):
        _optimal._best_constant(parabola(until=0.01), low, high)


def test_knots_begin_at_the_better_of_two_schedules(monkeypatch):
    made = lambda schedule, value: Optimised(schedule, jnp.asarray(value), jnp.full(3, value))
    constant = made(ConstantRate(0.3), 0.02)
    begun, learned = [], []
    monkeypatch.setattr(_optimal, "_best_constant", lambda x, *ends: learned.append(x) or constant)
    given = {"horizon": 6.0, "knots": 4, "steps": 3, "progress": False}

    def search(value, **options):
        ends = [made(InverseTimeRate(0.5, 5.0), value), None]
        begun.clear()

        def descend(learning, first, steps, step_size, report):
            begun.append(first)
            return ends.pop(0) or made(first, 0.008)

        monkeypatch.setattr(_optimal, "descend", descend)
        return asymptotics.optimal_schedule(LINEAR, ld.SGD(0.1), ONE, **given, **options)

    for value, rates in ((0.01, 0.5 / (1 + np.arange(4) * 2 / 5.0)), (0.03, np.full(4, 0.3))):
        best = search(value)
        assert isinstance(begun[0], InverseTimeRate)
        close(begun[0](jnp.array([0.0, 6.0])), [0.3, 0.15])
        close(best.schedule(jnp.array([0.0, 2.0, 4.0, 6.0])), rates)
        close(best.gain, 0.02 / 0.008)
        assert float(best.inverse_time.value) == value
    close(learned[0].weights @ learned[0].ts ** 2, 36.0)  # at the end
    search(0.01, objective="integral")
    close(learned[-1].weights @ learned[-1].ts ** 5, 6.0**5 / 6)
    with pytest.raises(ValueError, match="searches: call it outside jit, vmap and grad"):
        jax.jit(lambda lr: asymptotics.optimal_schedule(LINEAR, ld.SGD(lr), ONE, 4.0).value)(0.1)
