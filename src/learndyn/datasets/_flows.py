"""Gradient flows, and the jumps that theory predicts of them, as labelled arrays.

`learndyn.flow` is imported inside functions: it takes half a second, and a dataset of anything else
should not wait for it.
"""

import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from learndyn._readable import value_text
from learndyn.datasets._variables import Labelled, as_numpy
from learndyn.states import TwoLayer

if TYPE_CHECKING:
    from learndyn.flow import Jumps, Run

_DIGITS = 6
"""Significant digits of an activation's numbers in an attribute, which is for people."""

LONG_NAMES = {
    "t": "time of gradient flow",
    "loss": "loss on the data",
    "speed": "norm of the weights' velocity",
    "end": "last time that the run reached",
    "maps": "end-to-end matrix",
    "beta": "coefficients of the inputs",
    "jump": "number of the jump",
    "plateau": "number of the plateau",
    "times": "time of the jump over the unit of time of the start's scale",
    "floor": "least loss that the model can reach",
    "dual": "dual variable at the jump that leads to the plateau",
    "relaxation_exponents": "power of the start's scale with which errors at the plateau fall",
    "frequencies": "frequency that is learned",
    "parameters": "parameters of the neurons that are awake",
    "active": "whether the neuron is awake",
    "utility": "utility that the neuron has accumulated",
    "ties": "whether the jump coincides with the one before or is not determined by it",
}
"""What the variables mean whose names say the same in every flow; all are dimensionless."""

_LAYERS: dict[str, dict[str, tuple[tuple[str, ...], str]]] = {
    "LinearNeuron": {"a": ((), "output weight"), "w": (("input",), "input weights")},
    "DiagonalNetwork": {
        "u": (("input",), "first factor of the coefficients"),
        "v": (("input",), "second factor of the coefficients"),
    },
    "ModularAddition": {
        "u": (("hidden", "site"), "template of the first input"),
        "v": (("hidden", "site"), "template of the second input"),
        "w": (("hidden", "site"), "template of the output"),
    },
    "TwoLayer": {
        "w": (("hidden", "input"), "input weights"),
        "b": (("hidden",), "biases"),
        "v": (("hidden",), "output weights"),
    },
}
"""Dimensions and long names of the layers of networks, by class and field."""

_JUMPS = {
    "times": ("jump",),
    "loss": ("plateau",),
    "floor": (),
    "beta": ("plateau", "input"),
    "dual": ("plateau", "input"),
    "maps": ("plateau", "output", "input"),
    "relaxation_exponents": ("jump",),
    "frequencies": ("jump",),
    "parameters": ("plateau", "neuron", "parameter"),
    "active": ("plateau", "neuron"),
    "utility": ("plateau", "neuron"),
    "ties": ("jump",),
}
"""Dimensions of a sequence of jumps."""


class Parts(NamedTuple):
    """What a dataset is built from. long_names: of variables and coordinates."""

    variables: dict[str, Labelled]
    coordinates: dict[str, np.ndarray]
    attributes: dict[str, Any]
    long_names: dict[str, str]


def is_flow(value: Any) -> bool:
    """Whether this is a `flow.Run` or a `flow.Jumps`."""
    if not type(value).__module__.startswith("learndyn.flow"):
        return False
    from learndyn.flow import Jumps, Run

    return isinstance(value, Run | Jumps)


def flow_parts(result: "Run | Jumps | Any", over: Mapping[str, np.ndarray]) -> Parts:
    """The variables of a run or of jumps. over: names and values of a run's batch axes.

    Raises: ValueError where axes and `over` disagree, or times differ between the runs of a batch.
    """
    from learndyn.flow import Run

    if isinstance(result, Run):
        return _of_run(result, over)
    if over:
        raise ValueError(
            f"over names the axes {list(over)}, but a sequence of jumps has no batch axes. Make a "
            "dataset of each one."
        )
    return _of_jumps(result)


def _of_run(run: "Run", over: Mapping[str, np.ndarray]) -> Parts:
    sizes = tuple(len(values) for values in over.values())
    batch, loss = len(over), as_numpy("loss", run.loss)
    if loss.shape[:-1] != sizes:
        raise ValueError(
            f"the run has the batch axes {loss.shape[:-1]}, but `over` names {tuple(over)} with "
            f"{sizes} values; name every batch axis, in order, in `over`."
        )
    ts = _times(as_numpy("t", run.t))
    own = {
        "loss": Labelled(("t",), loss),
        "speed": Labelled(("t",), as_numpy("speed", run.speed)),
        "result": Labelled((), as_numpy("result", run.result).astype(np.int8)),
        "end": Labelled((), as_numpy("end", run.end)),
    }
    own |= {name: Labelled((), as_numpy(name, value)) for name, value in run.stats.items()}
    own |= _end_to_end(run.model, batch)
    named = own | _leaves(run.model, batch, "", taken={*own, "t", *over})
    if run.velocity is not None:
        named |= _leaves(run.velocity, batch, "velocity_", taken={*named, "t", *over})
    _require_free(over, named)
    variables = {name: Labelled((*over, *dims), array) for name, (dims, array) in named.items()}
    clock = {"t": "step of gradient descent"} if run.kind == "descent" else {}
    attributes = {"kind": run.kind, "model": run.model_name} | _activation(run.model)
    long_names = LONG_NAMES | _layer_names(run.model) | clock
    return Parts(variables, {**over, "t": ts}, attributes, long_names)


def _of_jumps(jumps: "Jumps") -> Parts:
    left_out = {"relaxation_exponents"} if _waits(jumps) else set()
    found = {name: getattr(jumps, name) for name in _JUMPS if name not in left_out}
    variables = {
        name: Labelled(_JUMPS[name], as_numpy(name, value))
        for name, value in found.items()
        if value is not None
    }
    count = len(jumps.times)
    coordinates = {"jump": np.arange(1, count + 1), "plateau": np.arange(count + 1)}
    attributes = {"kind": "jumps", "degree": jumps.degree, "stopped": jumps.stopped}
    attributes |= {"clustered": jumps.clustered}
    attributes |= {} if jumps.alpha is None else {"alpha": float(jumps.alpha)}
    return Parts(variables, coordinates, attributes, LONG_NAMES)


def _waits(jumps: "Jumps") -> bool:
    """Whether relaxation exponents have not been asked for, and would keep a user waiting."""
    if jumps.relaxation is None or jumps.maps is None or jumps.relaxation.is_known:
        return False
    return len(jumps.times) * sum(jumps.maps.shape[1:]) > _QUICK


_QUICK = 400
"""Rows of the matrices whose eigenvalues relaxation exponents take: 20 ms for each jump."""


def _times(t: np.ndarray) -> np.ndarray:
    rows = t.reshape(-1, t.shape[-1])
    if (rows != rows[0]).any():
        raise ValueError(
            "the runs of this batch have different times, but a dataset has one axis t: make a "
            "dataset of each run, run[i]."
        )
    return rows[0]


def _require_free(over: Mapping[str, Any], named: Mapping[str, Labelled]) -> None:
    """Raises: ValueError where a batch axis is called as something else in the dataset."""
    taken = {"t", *named, *(dim for dims, _ in named.values() for dim in dims)}
    if clash := sorted(taken & set(over)):
        raise ValueError(
            f"over names batch axes {clash}, but the dataset has variables or dimensions of that "
            "name; choose other names."
        )


def _end_to_end(model: Any, batch: int) -> dict[str, Labelled]:
    """The matrix that a linear network is, or its only row."""
    from learndyn.flow import AbstractLinearModel

    if not isinstance(model, AbstractLinearModel):
        return {}
    one = type(model).end_to_end
    for _ in range(batch + 1):
        one = jax.vmap(one)
    maps = as_numpy("maps", one(model))
    if maps.shape[-2] == 1:
        return {"beta": Labelled(("t", "input"), maps[..., 0, :])}
    return {"maps": Labelled(("t", "output", "input"), maps)}


def _leaves(model: Any, batch: int, prefix: str, taken: set[str]) -> dict[str, Labelled]:
    """The arrays of a model along a run by their names, `batch` leading axes aside."""
    known, found = _layers_of(model), {}
    for name, leaf in _named_leaves(model):
        array = as_numpy(name, leaf)
        free = array.ndim - batch - 1
        # Arrays of the user's own models get dimensions by number.
        dims = known.get(name, (tuple(f"{name}_{i}" for i in range(free)), ""))[0]
        label = prefix + name
        label = f"model_{label}" if label in taken else label
        found[label] = Labelled(("t", *dims), array)
    return found


def _named_leaves(model: Any) -> Iterator[tuple[str, Any]]:
    from learndyn.flow import LinearNetwork

    is_linear = isinstance(model, LinearNetwork)
    for i, (path, leaf) in enumerate(jax.tree_util.tree_flatten_with_path(model)[0]):
        words = [jax.tree_util.keystr((key,), simple=True) for key in path]
        # Flows keep functions and keys of random numbers as they are.
        if eqx.is_array(leaf) and not jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            yield f"w{i + 1}" if is_linear else "_".join(words), leaf


def _layers_of(model: Any) -> dict[str, tuple[tuple[str, ...], str]]:
    from learndyn.flow import LinearNetwork

    if isinstance(model, LinearNetwork):
        depth = len(model.weights)
        hidden = ["hidden"] if depth == 2 else [f"hidden_{i}" for i in range(1, depth)]
        sides = itertools.pairwise(["input", *hidden, "output"])
        return {f"w{i}": ((out, into), f"layer {i}") for i, (into, out) in enumerate(sides, 1)}
    classes = type(model).__mro__
    return next((_LAYERS[cls.__name__] for cls in classes if cls.__name__ in _LAYERS), {})


def _layer_names(model: Any) -> dict[str, str]:
    names = {name: long_name for name, (_, long_name) in _layers_of(model).items()}
    return names | {f"velocity_{name}": f"velocity of: {text}" for name, text in names.items()}


def _activation(model: Any) -> dict[str, str]:
    if not isinstance(model, TwoLayer):
        return {}
    return {"activation": value_text(model.activation, _DIGITS)}
