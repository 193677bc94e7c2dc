"""What a level hands to a rule, and what the rule makes of it: the seam between the two."""

from collections.abc import Callable
from typing import Any, NamedTuple

from jaxtyping import Array, Float

from learndyn._types import Scalar
from learndyn.problems import Layers


class Seen(NamedTuple):
    """The overlaps that a rule may read.

    Attributes:
        Q: (k, k) of the student's weights.
        R: (k, m) of the student's with the teacher's.

    Example:
        >>> rules.Seen(Q=jnp.eye(2), R=jnp.full((2, 1), 0.5)).R
        Array([[0.5],
               [0.5]], dtype=float64, weak_type=True)
    """

    Q: Float[Array, "k k"]
    R: Float[Array, "k m"]


class Sample(NamedTuple):
    """What a rule sees of one sample; of an episode, the first axis of all but `overlaps` is the
    batch.

    Attributes:
        lam: (k,) the student's centred fields.
        y: () the label.
        draws: (draws,) independent N(0, 1) numbers, new for each sample, as many as the rule asks
            for.
        size: () |x|**2/n, which tends to 1 as n -> infinity.
        overlaps: `Seen`, Q and R before the step; None where the rule has needs_overlaps = False.

    Example:
        >>> rules.Sample(lam=jnp.array([0.5, -1.0]), y=1.0).lam
        Array([ 0.5, -1. ], dtype=float64)
    """

    lam: Float[Array, "*batch k"]
    y: Float[Array, "*batch"]
    draws: Float[Array, "*batch draws"] | Any = None
    size: Float[Array, "*batch"] | Any = None
    overlaps: Seen | None = None


class Modulation(NamedTuple):
    """What a rule makes of one sample: how much of the input each unit learns, and what v does.

    Attributes:
        c: (k,) the F_i of w_i <- w_i - (lr/sqrt n) F_i x, which move the biases too.
        dv: (k,) the H_i of v_i <- v_i - (lr_second/n) H_i.
        dw: (k, k) W of w_i <- w_i - (lr/n) sum_j W_ij w_j, for rules of the library that move
            weights along weights; None: 0.

    Of an episode, the first axis is the batch.

    Example:
        >>> ld.Modulation(c=jnp.array([1.0, -1.0]), dv=jnp.zeros(2)).c
        Array([ 1., -1.], dtype=float64)
    """

    c: Float[Array, "*batch k"]
    dv: Float[Array, "*batch k"]
    dw: Float[Array, "*batch k k"] | None = None


class FieldAverages(NamedTuple):
    """Gaussian averages over one sample, all that a theory of learning needs.

    Attributes:
        G: (k, d) <dF_i/df_c>, so that <F_i a> = sum_c G_ic Cov(f_c, a) for every Gaussian a.
        Phi: (k, k) <F_i F_i'>.
        h: (k,) <H_i>, which moves v.
        f: (k,) <F_i>, which moves the biases; NaN where closed forms leave it out, as they do where
            there are no biases.
        fields: (k, d) <F_i f_c>, from nodes that know it without G; None: it is G C.

    Example:
        >>> start = ld.Overlaps(Q=[[0.2]], R=[[0.1]], T=[[1.0]])
        >>> problem, rule = ld.Problem(), ld.SGD(lr=0.5)
        >>> ready = averages.choose_averages(problem, 1, 1, rule=rule, biases=False)
        >>> found = ready.field_averages(problem, rule, start)
        >>> np.round(found.G, 4), np.round(found.Phi, 4)
        (Array([[ 0.4827, -0.4118]], dtype=float64), Array([[0.1884]], dtype=float64))
    """

    G: Float[Array, "k d"]
    Phi: Float[Array, "k k"]
    h: Float[Array, " k"]
    f: Float[Array, " k"]
    fields: Float[Array, "k d"] | None = None

    def with_fields(self, covariance: Float[Array, "d d"]) -> Float[Array, "k d"]:
        """<F_i f_c>, where the fields have this covariance C.

        At singular C, where long runs end, nodes give it to more digits than G has.
        """
        return self.G @ covariance if self.fields is None else self.fields

    def of_group(
        self, eigenvalue: Scalar, share: Scalar, covariance: Float[Array, "d d"]
    ) -> "FieldAverages":
        """Those of a group of directions, whose inputs have this variance and are this share of
        all, and whose overlaps form this covariance."""
        fields = eigenvalue * (self.G @ covariance)  # one product for all groups under vmap
        return FieldAverages(
            eigenvalue * self.G, eigenvalue * share * self.Phi, self.h, self.f, fields
        )

    def weighted(self, weights: Float[Array, " k"]) -> "FieldAverages":
        """The averages where weights_i F_i stands in place of F_i; H stays."""
        column = weights[:, None]
        fields = None if self.fields is None else column * self.fields
        return FieldAverages(
            column * self.G, column * weights * self.Phi, self.h, weights * self.f, fields
        )


class ErrorSignal(NamedTuple):
    """The averages of the error signal, F_i = g'(lambda_i) (phi - y) and H_i = g(lambda_i)
    (phi - y), at a state.

    Attributes:
        at: their `FieldAverages` as a function of the second layer v (k,) of phi.
        layers: second layers and biases of the state.
        overlaps: Q and R of the state.

    Example:
        >>> rules.ErrorSignal._fields
        ('at', 'layers', 'overlaps')
    """

    at: Callable[[Float[Array, " k"]], FieldAverages]
    layers: Layers
    overlaps: Seen
