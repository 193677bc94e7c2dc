"""The one definition of learning: the loss of a sample as a function of its local fields.

Everything else in the library (SGD on weights, the ODE, every average) follows from the
functions of `Problem`: `label`, and `gradient`, which is made of `signals`.
"""

import contextlib
import weakref
from collections.abc import MutableMapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jaxtyping import Array, Float

from learndyn._checks import as_float, is_concrete, require_at_least
from learndyn._readable import Readable
from learndyn._types import RealLike, Scalar, ScalarFunction
from learndyn.problems import _activations, _losses
from learndyn.problems._functions import Function, as_module, called, unusable


class MultiIndex(Readable):
    """A teacher y = f(rho, zeta): any function of its m centred fields and a N(0, 1) number.

    f takes rho of shape (m,) and a scalar zeta and returns a scalar. It makes its own noise, so the
    problem's `noise` must be 0, and it has no second layer and no biases. Where a run starts, a
    function that reads a field that its teacher does not have is a ValueError.

    Args:
        f: the function (rho, zeta) -> y.

    Example:
        >>> parity = ld.MultiIndex(lambda rho, zeta: jnp.prod(jnp.sign(rho)))
        >>> problem = ld.Problem(student=ld.Tanh(), teacher=parity)
        >>> layers = ld.Overlaps(Q=jnp.eye(2), R=jnp.zeros((2, 2)), T=jnp.eye(2)).layers
        >>> float(problem.label(jnp.array([0.3, -2.0]), jnp.array(0.0), layers))
        -1.0
    """

    f: Any

    def __init__(self, f: ScalarFunction):
        self.f = as_module(f, "MultiIndex's f")

    def __call__(self, rho: Float[Array, " m"], zeta: Scalar) -> Scalar:
        must = "MultiIndex's f must be a function (rho, zeta) -> number"
        y = jnp.asarray(called(self.f, must, rho, zeta))
        if y.size != 1:
            raise ValueError(
                "MultiIndex's f must return one number for one sample, rho of shape (m,) and a "
                f"scalar zeta; got shape {y.shape} at rho of shape {rho.shape}."
            )
        return jnp.reshape(y, ()).astype(rho.dtype)


class Layers(NamedTuple):
    """What the fields do not carry: second layers and biases (None: no biases)."""

    v: Float[Array, " k"]
    v_teacher: Float[Array, " m"]
    b: Float[Array, " k"] | None
    b_teacher: Float[Array, " m"] | None

    @property
    def of_student(self) -> "Layers":
        """The student's quantities alone: with the label, all that a learning rule may use."""
        return Layers(self.v, self.v_teacher[:0], self.b, None)


class Signals(NamedTuple):
    """g_i = g(lambda_i + b_i), dg_i = g'(lambda_i + b_i), and the loss's slope at the output."""

    g: Float[Array, " k"]
    dg: Float[Array, " k"]
    slope: Scalar


class FieldGradient(NamedTuple):
    """Derivatives of one sample's loss: with respect to the fields, and to v."""

    c: Float[Array, " k"]
    dv: Float[Array, " k"]


class Problem(Readable):
    """A teacher-student problem: a pure function of the local fields.

    Args:
        student: activation of the student's units, any elementwise callable.
        teacher: activation of the teacher's units, or `MultiIndex(f)`.
        loss: (phi, y) -> number; a classification loss says so by `classification = True`.
        noise: standard deviation sigma of the label noise, >= 0, dimensionless.

    Raises:
        ValueError: for a negative noise, a student without derivative (`Sign`), noise next to a
            `MultiIndex` teacher, a teacher that turns labels (`Sign(flip)`) next to a loss that is
            not for classification, anything that cannot be called, or a function that does not work
            on JAX arrays with the right shapes, or that mixes units.

    Source:
        Goldt et al. 2020, Eqs. (1)-(3), with any activation, loss and teacher.

    Example:
        >>> problem = ld.Problem(student=ld.Erf(), teacher=ld.Erf(), loss=ld.Squared(), noise=0.1)
        >>> problem
        Problem(student=Erf(), teacher=Erf(), loss=Squared(), noise=0.1)
        >>> problem.is_classification
        False
    """

    student: Any
    teacher: Any
    loss: Any
    noise: Float[Array, "..."]

    def __init__(
        self,
        student: ScalarFunction | None = None,
        teacher: ScalarFunction | None = None,
        loss: ScalarFunction | None = None,
        noise: RealLike = 0.0,
    ):
        self.student = as_module(_activations.Erf() if student is None else student, "student")
        self.teacher = as_module(_activations.Erf() if teacher is None else teacher, "teacher")
        self.loss = as_module(_losses.Squared() if loss is None else loss, "loss")
        self.noise = as_float(noise, "noise")
        require_at_least(self.noise, 0.0, "noise", "a standard deviation")
        if isinstance(self.student, _activations.Sign | MultiIndex):
            raise ValueError(
                "the student must be differentiable: Sign and MultiIndex are teachers only; got "
                f"student={self.student}."
            )
        if self.has_multi_index_teacher and _is_positive(self.noise):
            raise ValueError(
                "a MultiIndex teacher makes its own noise from zeta, so noise must be 0; got "
                f"noise={self.noise}. Write the noise into its function instead."
            )
        if not self.is_classification and _is_positive(self.flip):
            raise ValueError(
                "Sign(flip) turns labels that are signs, so it needs a loss for classification "
                "(Logistic, Hinge, Perceptron, Hebb, AdaTron, or a function with classification = "
                f"True); got loss={self.loss} and flip={self.flip}. Use noise instead, or flip=0."
            )
        _require_shapes_once(self.student, "student", "elementwise", (3,))
        if not self.has_multi_index_teacher:
            _require_shapes_once(self.teacher, "teacher", "elementwise", (3,))
        _require_shapes_once(self.loss, "loss", "a function (phi, y) -> number", (), ())

    @property
    def has_multi_index_teacher(self) -> bool:
        return isinstance(self.teacher, MultiIndex)

    @property
    def is_classification(self) -> bool:
        """Whether labels are signs (set by the loss)."""
        return _losses.is_classification(self.loss)

    @property
    def flip(self) -> Float[Array, "..."] | float:
        """The probability that a label is turned; 0 for all teachers but `Sign(flip)`."""
        return self.teacher.flip if isinstance(self.teacher, _activations.Sign) else 0.0

    def student_output(self, lam: Float[Array, " k"], layers: Layers) -> Scalar:
        """phi = sum_i v_i g(lambda_i + b_i)."""
        return layers.v @ self.student(_shifted(lam, layers.b))

    def teacher_output(self, rho: Float[Array, " m"], layers: Layers) -> Scalar:
        """phi* = sum_n v*_n g*(rho_n + b*_n), without noise; not for a multi-index teacher."""
        return layers.v_teacher @ self.teacher(_shifted(rho, layers.b_teacher))

    def label(self, rho: Float[Array, " m"], zeta: Scalar, layers: Layers) -> Scalar:
        """The label y of a sample: phi* + sigma zeta, its sign, or f(rho, zeta)."""
        turn = 1.0
        if isinstance(self.teacher, MultiIndex):
            y = self.teacher(rho, zeta)
        else:
            if isinstance(self.teacher, _activations.Sign):
                turn, zeta = _turned(self.teacher.flip, zeta)
            y = self.teacher_output(rho, layers) + self.noise * zeta
        return turn * _losses.label_sign(y) if self.is_classification else y

    def signals(self, lam: Float[Array, " k"], y: Scalar, layers: Layers) -> Signals:
        """What a sample gives each unit: g, g' and the loss's slope, phi - y if it is squared."""
        x = _shifted(lam, layers.b)
        g = self.student(x)
        # A sum, not `@`: in a vmap over many runs that stays elementwise arithmetic.
        slope = _losses.slope(self.loss, jnp.sum(layers.v * g), y)
        return Signals(g, _activations.derivative(self.student, x), slope)

    def gradient(self, lam: Float[Array, " k"], y: Scalar, layers: Layers) -> FieldGradient:
        """c_i = dloss/dlambda_i = v_i g'(lambda_i + b_i) slope and dloss/dv_i = g slope."""
        g, dg, slope = self.signals(lam, y, layers)
        return FieldGradient(layers.v * dg * slope, g * slope)

    def overrides(self, *names: str) -> bool:
        """Whether a subclass has its own function under any of these names.

        What is known of `Problem` (closed forms, regularity) is not known of those.
        """
        return any(getattr(type(self), name) is not getattr(Problem, name) for name in names)


_CHECKED: MutableMapping[tuple, Any] = weakref.WeakValueDictionary()
"""Functions that passed `_require_shapes`, by identity and question. Held weakly: a function, its
closure and a Module's arrays are freed as if they had never been checked."""


def _require_shapes_once(fn: Any, name: str, what: str, *shapes: tuple[int, ...]) -> None:
    """`_require_shapes` of a function that has not passed it yet: tracing takes milliseconds.

    Functions and Modules, which cannot change, are remembered while they live. The library's
    own are known to pass (a test asks them); whatever else cannot be hashed is asked each time.
    """
    own = _activations if len(shapes) == 1 else _losses
    if type(fn).__module__ == own.__name__:
        return
    target = fn.fn if isinstance(fn, Function) else fn
    question = (id(target), shapes, jax.dtypes.canonicalize_dtype(float))
    # The identity of a function that died may have gone to another one.
    if _CHECKED.get(question) is target:
        return
    _require_shapes(fn, name, what, *shapes)
    with contextlib.suppress(TypeError):  # of what has no hash or takes no weak reference
        if not isinstance(target, eqx.Module):
            hash(target)
        _CHECKED[question] = target


def _require_shapes(fn: Any, name: str, what: str, *shapes: tuple[int, ...]) -> None:
    """Whether `fn` maps float arrays of these shapes to one of the first shape, entry by entry.

    Raises: ValueError where it does not, or where it is not written with JAX.
    """
    inputs = [jax.ShapeDtypeStruct(shape, jnp.result_type(float)) for shape in shapes]
    try:
        program, output = jax.make_jaxpr(lambda *x: fn(*x), return_shape=True)(*inputs)
    except Exception as error:
        raise ValueError(
            f"{name} must be {what} and work on JAX arrays of shape {shapes[0]}; got "
            f"{unusable(fn, error)}"
        ) from error
    shape, dtype = getattr(output, "shape", None), getattr(output, "dtype", None)
    if shape != shapes[0] or dtype is None or not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"{name} must be {what} and return floats; got {fn}, which maps shapes {shapes} to "
            f"shape {shape}, dtype {dtype}."
        )
    if what == "elementwise" and _mixes_entries(program):
        raise ValueError(
            f"{name} must be elementwise: each unit's output depends on its own field alone; got "
            f"{fn}, which mixes units (as softmax and layer norms do). A teacher that mixes its "
            "fields is MultiIndex(f)."
        )


_ENTRIES, _OTHERS = np.array([0.3, -1.2, 2.1]), np.array([-0.8, 1.7, -0.4])
"""Fields at which a function is asked whether it mixes them: any that differ will do."""

_SAME = 1e-5
"""Relative: rounding in float32, by which an entry may change with the others."""


def _mixes_entries(program: ClosedJaxpr) -> bool:
    """Whether an entry of the outcome changes where the other entries of the argument do.

    Where the program has traced numbers this is not known, and False.
    """
    if not is_concrete(program.consts):
        return False
    with jax.ensure_compile_time_eval():
        fn = jax.jit(jaxpr_as_fun(program))
        dtype = program.in_avals[0].dtype

        def outcome(x: np.ndarray) -> np.ndarray:
            return np.asarray(fn(jnp.asarray(x, dtype))[0])

        whole = outcome(_ENTRIES)
        kept = [outcome(np.where(np.arange(3) == i, _ENTRIES, _OTHERS))[i] for i in range(3)]
    return not np.allclose(whole, kept, rtol=_SAME, atol=_SAME, equal_nan=True)


def _turned(flip: Float[Array, ""], zeta: Scalar) -> tuple[Scalar, Scalar]:
    """-1 with probability `flip`, else 1, and a N(0, 1) number that is independent of it.

    Both come from zeta ~ N(0, 1): Phi(zeta) is uniform, and so is its place within [0, flip) or
    within [flip, 1]. For flip = 0 the number is zeta itself.
    """
    uniform = jax.scipy.special.ndtr(zeta)
    is_turned = uniform < flip
    inside = jnp.where(is_turned, uniform / flip, (uniform - flip) / (1.0 - flip))
    other = jnp.where(flip > 0, jax.scipy.special.ndtri(inside), zeta)
    return jnp.where(is_turned, -1.0, 1.0).astype(zeta.dtype), other.astype(zeta.dtype)


def _is_positive(value: Any) -> bool:
    """Whether a number is known to be positive, or some entry of an array is."""
    return is_concrete(value) and bool((np.asarray(value) > 0).any())


def _shifted(field: Float[Array, " k"], bias: Float[Array, " k"] | None) -> Float[Array, " k"]:
    return field if bias is None else field + bias
