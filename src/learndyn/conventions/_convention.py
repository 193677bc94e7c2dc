"""What a convention is: a problem and a rule of ours, and the scale of every quantity of theirs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from learndyn.problems import Problem
from learndyn.rules import AbstractRule

if TYPE_CHECKING:
    import xarray

QUANTITIES = {
    "time": "time; ours is alpha = steps / n",
    "eg": "generalisation error; ours has the factor 1/2",
    "noise": "label noise; ours is a standard deviation",
    "lr": "learning rate of the first layer",
    "lr_second": "learning rate of the second layer",
    "lr_bias": "learning rate of the biases",
    "weight_decay": "weight decay of the first layer",
    "w": "first layer; ours has entries of order one",
    "v": "second layer; ours multiplies the units as it is",
    "b": "biases",
    "overlaps": "overlaps Q, R and T; ours are sums over n inputs, divided by n",
}
"""What can be converted, and what ours is."""

_VARIABLES = {
    **dict.fromkeys(("Q", "R", "T", "Q_field", "R_field", "T_field"), "overlaps"),
    "eg": "eg",
    "alpha_actual": "time",
    **dict.fromkeys(("v", "v_teacher"), "v"),
    **dict.fromkeys(("b", "b_teacher"), "b"),
}
"""Which quantity a variable of a dataset is."""

_COORDINATES = {
    "alpha": "time",
    **{name: name for name in ("noise", "lr", "lr_second", "lr_bias", "weight_decay")},
}
"""Which quantity a coordinate of a dataset is."""


class Scale(NamedTuple):
    """ours = factor * theirs ** power."""

    factor: float = 1.0
    power: float = 1.0

    def ours(self, theirs: Any) -> Any:
        """A number or array of theirs in our scaling."""
        return self.factor * theirs**self.power

    def theirs(self, ours: Any) -> Any:
        """A number or array of ours in their scaling."""
        return (ours / self.factor) ** (1.0 / self.power)


@dataclass(frozen=True)
class Convention:
    """Somebody else's scaling: what was asked for, in ours, and the way there and back.

    The quantities: time, eg, noise, lr, lr_second, lr_bias, weight_decay, w, v, b, overlaps.

    Args:
        source: whose it is.
        problem, rule: what was given, in our scaling, ready for every level.
        scales: ours = factor * theirs ** power, by quantity; a quantity that is not there has the
            same numbers on both sides.
        data: results that came with it, as a dataset in our scaling; None where there are none.

    Example:
        >>> paper = conventions.from_torch(lr=0.001, n=784)
        >>> paper.problem, paper.rule
        (Problem(student=Erf(), teacher=Erf(), loss=Squared()), SGD(lr=1.568))
        >>> round(float(paper.theirs("lr", 0.2)), 7)
        0.0001276
    """

    source: str
    problem: Problem
    rule: AbstractRule
    scales: Mapping[str, Scale]
    data: "xarray.Dataset | None" = None

    def ours(self, quantity: str, value: Any) -> Any:
        """A number or array of theirs in our scaling; elementwise, of any shape.

        Args:
            quantity: one of the quantities above, such as "time".
            value: a number or array of theirs.

        Raises:
            ValueError: for an unknown quantity.

        Example:
            >>> paper = conventions.from_torch(lr=0.001, n=784)
            >>> round(float(paper.ours("time", 78400)), 6)
            100.0
        """
        return self._scale(quantity).ours(_array(value))

    def theirs(self, quantity: str, value: Any) -> Any:
        """A number or array of ours in their scaling; elementwise, of any shape.

        Args:
            quantity: one of the quantities above, such as "eg".
            value: a number or array of ours.

        Raises:
            ValueError: for an unknown quantity.

        Example:
            >>> paper = conventions.from_torch(lr=0.001, n=784)
            >>> round(float(paper.theirs("lr", 0.2)), 7)
            0.0001276
        """
        return self._scale(quantity).theirs(_array(value))

    def dataset(self, dataset: "xarray.Dataset") -> "xarray.Dataset":
        """A dataset of ours with their numbers, to be drawn into their figures.

        The coordinate alpha holds their time, and swept rates and noise their values; variables
        keep their names. The attributes `problem` and `rule` stay ours.

        Args:
            dataset: one of `to_dataset`, `sweep` or `load`.
        """
        names = [name for name in (*_VARIABLES, *_COORDINATES) if name in dataset.variables]
        moved = {}
        for name in names:
            kind = _VARIABLES.get(name, _COORDINATES.get(name, ""))
            array = dataset[name]
            long_name = f"{array.attrs.get('long_name', name)}, scaled as in {self.source}"
            values = self.theirs(kind, array.values)
            moved[name] = (array.dims, values, {**array.attrs, "long_name": long_name})
        return dataset.assign_coords({x: moved.pop(x) for x in _COORDINATES if x in moved}).assign(
            moved
        )

    def _scale(self, quantity: str) -> Scale:
        if quantity not in QUANTITIES:
            raise ValueError(
                f"a quantity must be one of {', '.join(QUANTITIES)}; got {quantity!r}."
            )
        return self.scales.get(quantity, Scale())


def _array(value: Any) -> Any:
    return np.asarray(value, float) if isinstance(value, list | tuple) else value
