"""A learning rule that a user writes as one function of a sample."""

from typing import Any, ClassVar

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from learndyn._checks import as_count, brief
from learndyn._types import CountLike, RealLike, Schedule
from learndyn.problems import Layers, Problem, as_module, called, plain_name
from learndyn.rules._rule import AbstractRule, as_flag
from learndyn.rules._seam import Modulation, Sample


class LocalRule(AbstractRule):
    """Any local learning rule, given by what it makes of one sample.

        w_i <- w_i - (lr/sqrt n) c_i x - (lr weight_decay/n) w_i,
        v_i <- v_i - (lr_second/n) dv_i,   b_i <- b_i - (lr_bias/n) c_i,

    with the mean of c x, dv and c over the batch. The rule runs at every level of description; its
    averages are taken over nodes, in one dimension for each field, for label noise and for each
    draw. In the limit n -> infinity, sample.size is 1. Hebb's rule, for example:

        rule = LocalRule(lambda problem, sample, layers: Modulation(
            -sample.y * jnp.ones_like(sample.lam), jnp.zeros_like(sample.lam)), lr=1.0)

    Args:
        modulation: (problem, sample, layers) -> `Modulation(c, dv)`, of arrays (k,) each, written
            with JAX. sample: a `Sample`; layers.v (k,) and layers.b (k,) or None: the student's
            second layer and biases. What it knows of the teacher is the label.
        lr, keywords: the rates, decay, batches, momentum and sphere of `SGD`.
        draws: how many new N(0, 1) numbers sample.draws has, static. They depend on the run's key
            and the step alone.
        episode: whether the function gets all batch_size samples of a step at once, with a leading
            axis, and returns c and dv of each, (batch, k). Static.
        needs_overlaps: whether the function reads sample.overlaps. Static. None: what the function
            itself says by an attribute `needs_overlaps`, else False.

    Raises:
        ValueError: for a function that cannot be called, when it is first used for one that returns
            other shapes, for a negative number of draws, an episode of infinite size, and as `SGD`.

    Source:
        The limit n -> infinity as for SGD, with F in place of the gradient; derived here.

    Example:
        >>> def hebb(problem, sample, layers):
        ...     return ld.Modulation(c=-sample.y * layers.v, dv=jnp.zeros_like(layers.v))
        >>> rule = ld.LocalRule(hebb, lr=1.0, weight_decay=0.5)
        >>> problem = ld.Problem(ld.Linear(), ld.Sign(), ld.Hebb())
        >>> start = ld.Overlaps(Q=[[1.0]], R=[[0.0]], T=[[1.0]])
        >>> run = ld.simulate_chain(problem, rule, start, [0.0, 4.0], n=500, key=jax.random.key(0))
        >>> float(run.eg[0]), bool(run.eg[1] < 0.2)
        (0.5, True)
    """

    constructed_from: ClassVar[dict[str, str]] = {
        "function": "modulation",
        "is_episode": "episode",
    }
    """Arguments of the constructor whose fields have other names."""

    function: Any
    draws: int = eqx.field(static=True)
    is_episode: bool = eqx.field(static=True)
    needs_overlaps: bool = eqx.field(static=True)

    def __init__(
        self,
        modulation: Any,
        lr: RealLike | Schedule,
        draws: CountLike = 0,
        episode: bool | Any = False,
        needs_overlaps: bool | Any | None = None,
        **keywords: Any,
    ):
        super().__init__(lr, **keywords)
        self.function = as_module(modulation, "modulation")
        self.draws = as_count(draws, "draws", "numbers for each sample", lower=0)
        self.is_episode = as_flag(episode, "episode")
        if needs_overlaps is None:
            needs_overlaps = getattr(modulation, "needs_overlaps", False)
        self.needs_overlaps = as_flag(needs_overlaps, "needs_overlaps")
        self.require_finite_episode()

    @property
    def label(self) -> str:
        """The name of the user's function."""
        return plain_name(self.function)

    def modulation(self, problem: Problem, sample: Sample, layers: Layers) -> Modulation:
        must = "a rule's modulation must be a function (problem, sample, layers) -> Modulation"
        try:
            result = called(self.function, must, problem, sample, layers)
        except (AttributeError, IndexError) as error:
            self._require_all_it_reads(sample, error)
            raise
        if isinstance(result, Modulation):
            result = result[:2]
        if not isinstance(result, tuple) or len(result) != 2:
            raise ValueError(
                "a rule's modulation must return Modulation(c, dv), two arrays with one entry for "
                f"each unit; got {_kind(result)}."
            )
        c, dv = (
            _per_unit(value, name, sample) for name, value in zip(("c", "dv"), result, strict=True)
        )
        return Modulation(c, dv)

    def _require_all_it_reads(self, sample: Sample, error: Exception) -> None:
        """Raises: ValueError where the function may have read what it did not ask for."""
        if isinstance(error, IndexError) and self.draws == 0:
            raise ValueError(
                "a rule has as many numbers sample.draws as it asks for; got a function that reads "
                f"one and draws=0 ({error}). Give LocalRule(..., draws=1), say."
            ) from error
        if isinstance(error, AttributeError) and sample.overlaps is None:
            raise ValueError(
                "a rule has sample.overlaps where it asks for them; got a function that fails "
                f"without ({error}). Give LocalRule(..., needs_overlaps=True)."
            ) from error


def _kind(result: Any) -> str:
    """What was returned, in words; what JAX traces is an array."""
    return "one array" if hasattr(result, "dtype") else f"{brief(result)}"


def _per_unit(value: Any, name: str, sample: Sample) -> Array:
    try:
        given = jnp.asarray(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"a rule's {name} must be an array of real numbers; got {brief(value)}."
        ) from None
    if jnp.issubdtype(given.dtype, jnp.complexfloating):
        raise ValueError(f"a rule's {name} must be real; got numbers of type {given.dtype}.")
    value = given.astype(sample.lam.dtype)
    if value.shape != sample.lam.shape:
        each = "for each student unit"
        each += "" if sample.lam.ndim == 1 else " of each sample of the episode"
        raise ValueError(
            f"a rule's {name} must have shape {sample.lam.shape}, one entry {each}; "
            f"got shape {value.shape}."
        )
    return value
