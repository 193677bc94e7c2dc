"""What a rule's function reads of a sample, found in its traced program."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters.partial_eval import dce_jaxpr

from learndyn.problems import Layers, Problem
from learndyn.rules._rule import AbstractRule
from learndyn.rules._seam import Sample, Seen


def blank_sample(rule: AbstractRule, k: int, m: int) -> Sample:
    """The shapes of what `rule` is given of one sample, or of one episode."""
    batch = (rule.batch_size,) if rule.is_episode else ()

    def shape(*sizes: int) -> Any:
        return jax.ShapeDtypeStruct(sizes, jnp.result_type(float))

    seen = Seen(shape(k, k), shape(k, m)) if rule.needs_overlaps else None
    one = shape(*batch)
    return Sample(shape(*batch, k), one, shape(*batch, rule.draws_of(k)), one, seen)


def reads_size(problem: Problem, rule: AbstractRule, k: int, m: int) -> bool:
    """Whether the modulation depends on |x|**2/n."""
    units = jax.ShapeDtypeStruct((k,), jnp.result_type(float))

    def modulation(size: Any, sample: Sample, v: Any, b: Any) -> Any:
        layers = Layers(v, v[:0], b, None)
        return tuple(rule.modulation(problem, sample._replace(size=size), layers))

    sample = blank_sample(rule, k, m)
    rest = sample._replace(size=jnp.zeros(()))
    program = jax.make_jaxpr(modulation)(sample.size, rest, units, units).jaxpr
    return bool(dce_jaxpr(program, [True] * len(program.outvars))[1][0])
