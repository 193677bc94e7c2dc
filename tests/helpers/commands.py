"""What tests of the command line share: a small run, and the settings and starts of its options."""

import jax

import learndyn as ld
from learndyn.cli import _options
from learndyn.cli._settings import settings_from

SMALL = ["--k", "2", "--m", "1", "--n", "20", "--alpha-max", "1", "--points", "5"]


def settings(*arguments, level="ode"):
    return settings_from(_options.parse([level, *arguments]), level)


def start_of(seed, **keywords):
    key = jax.random.fold_in(jax.random.key(seed), 0)
    return ld.init_weights(key, **({"n": 20, "k": 2, "m": 1} | keywords))
