"""The learning rule: what it accepts, what it holds, and the rates it gives."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learndyn as ld
from learndyn.problems import describe, to_json

BAD = {
    "negative rate": ({"lr": -0.1}, "lr must be finite and >= 0.*-0.1"),
    "infinite rate": ({"lr": np.inf}, "lr must be finite"),
    "no rate": ({"lr": None}, "lr must be a real number"),
    "word for a rate": ({"lr": "fast"}, "lr must be a real number.*fast"),
    "negative second rate": ({"lr_second": -1}, "lr_second must be"),
    "negative bias rate": ({"lr_bias": -1}, "lr_bias must be"),
    "NaN in a batch": ({"lr": [0.1, np.nan]}, "lr must be finite"),
    "negative decay": ({"weight_decay": -1}, "weight_decay must be"),
    "empty batch": ({"batch_size": 0}, "batch_size must be a Python integer >= 1.*got 0"),
    "half a batch": ({"batch_size": 2.5}, "batch_size must be a Python integer"),
    "no batch": ({"batch_size": None}, "batch_size must be a Python integer"),
    "true batch": ({"batch_size": True}, "batch_size must be a Python integer"),
    "many batches": ({"batch_size": np.array([1, 2])}, "batch_size must be a Python integer"),
    "full momentum": ({"momentum": 1.0}, "beta < 1"),
    "negative momentum": ({"momentum": -0.1}, "0 <= beta"),
    "named momentum": ({"momentum": "nesterov"}, "momentum must be a real number"),
    "class for a schedule": ({"lr": ld.Erf}, "callable"),
}


@pytest.mark.parametrize(("options", "words"), BAD.values(), ids=BAD)
def test_bad_rules_say_what_must_hold(options, words):
    with pytest.raises(ValueError, match=words):
        ld.SGD(**({"lr": 0.1} | options))


@pytest.mark.parametrize("gamma", [0.0, -1.0, np.nan])
def test_bad_slow_momentum(gamma):
    with pytest.raises(ValueError, match="gamma must be finite and > 0"):
        ld.SlowMomentum(gamma)


class Decay(eqx.Module):
    """A schedule with a parameter."""

    scale: jax.Array

    def __call__(self, alpha):
        return 0.5 / (1 + alpha / self.scale)


def test_rates_and_schedules():
    rule = ld.SGD(lr=Decay(jnp.array(10.0)), lr_second=0.3, momentum=0.75)
    assert float(rule.rates(30.0).w) == pytest.approx(0.125)
    assert float(rule.rates(30.0).v) == pytest.approx(0.3)
    assert rule.rates(30.0).b is None
    effective = rule.effective_rates(30.0)
    assert (float(effective.w), float(effective.v)) == pytest.approx((0.5, 1.2))
    assert effective.b is None
    slow = ld.SGD(lr=0.2, momentum=ld.SlowMomentum(3.0))
    assert float(slow.effective_rates(0.0).w) == pytest.approx(0.2)


def test_a_schedule_returns_one_rate():
    with pytest.raises(ValueError, match=r"one number.*\(2,\)"):
        ld.SGD(lr=lambda alpha: jnp.array([0.1, 0.2])).rates(0.0)
    assert float(ld.SGD(lr=lambda alpha: 0.1).rates(0.0).w) == 0.1
    # It may be negative only at some times, in compiled code: NaN, since nothing can raise there.
    falling = ld.SGD(lr=lambda alpha: 1.0 - alpha)
    assert np.isnan(falling.rates(2.0).w)
    assert float(falling.rates(1.0).w) == 0.0


def test_floats_are_leaves():
    rule = ld.SGD(lr=0.1, lr_second=0.2, weight_decay=0.3, momentum=ld.SlowMomentum(2.0))
    assert len(jax.tree.leaves(rule)) == 4
    assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(rule))
    assert len(jax.tree.leaves(ld.SGD(lr=lambda alpha: 0.1 + 0 * alpha))) == 1
    assert len(jax.tree.leaves(ld.SGD(lr=Decay(jnp.array(1.0))))) == 2
    assert ld.SGD(lr=0.1, batch_size=np.int64(3)).batch_size == 3
    structure = jax.tree.structure(ld.SGD(lr=0.1, batch_size=2))
    assert structure != jax.tree.structure(ld.SGD(lr=0.1, batch_size=3))


def test_vmap_over_every_float():
    def rates(rule):
        return jnp.stack(jax.tree.leaves(rule.effective_rates(1.0)))

    batch = ld.SGD(lr=[0.1, 0.2], lr_second=[0.3, 0.4], momentum=[0.5, 0.0])
    batch = eqx.tree_at(lambda r: r.weight_decay, batch, jnp.zeros(2))
    found = eqx.filter_vmap(rates)(batch)
    np.testing.assert_allclose(found, [[0.2, 0.6], [0.2, 0.4]])


def test_description_is_json():
    rule = ld.SGD(lr=Decay(jnp.array(10.0)), batch_size=4, momentum=ld.SlowMomentum(2.0))
    found = json.loads(to_json(rule))
    assert found == describe(rule)
    assert found["batch_size"] == 4
    assert found["lr"] == {"type": "Decay", "module": f"{__name__}.Decay", "scale": 10.0}
    assert found["momentum"] == {"type": "SlowMomentum", "gamma": 2.0}
    assert found["lr_second"] is None
