"""Initial states of the entries, as Q, R, T and the second layers, from `starts.json`.

They were drawn once, by `drawn_start` with the recipes below, and stored, because a seed gives the
same state only as long as no random number generator changes. "arnaboldi2023-classic" is the first
row that the authors' repository stores.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import learndyn

FILE = Path(__file__).with_name("starts.json")
FIELDS = ("Q", "R", "T", "v", "v_teacher")


def start(name: str) -> "learndyn.Overlaps":
    """The stored initial state of this name.

    Args:
        name: such as "goldt2020-fig2b"; `starts.json` has them.

    Returns:
        `Overlaps`: Q, R, T and both second layers.

    Raises:
        KeyError: for a name that is not stored.

    Example:
        >>> np.round(ld.atlas.start("goldt2020-fig2b").R[:2], 3)
        Array([[ 0.058, -0.056],
               [ 0.009, -0.021]], dtype=float64)
    """
    import learndyn as ld

    return ld.Overlaps(**json.loads(FILE.read_text())[name])


def drawn_start(
    seed: int, n: int, k: int, m: int, *, in_span: bool = False, **options: Any
) -> "learndyn.Overlaps":
    """The overlaps of random weights: how the stored states were made.

    Args:
        seed: of the weights.
        n: input dimension.
        k: student units.
        m: teacher units.
        in_span: rows of the student are random unit vectors in the span of an orthonormal teacher.
        options: those of `ld.init_weights`, such as scale and v_teacher.

    Returns:
        `Overlaps` of these weights.

    Example:
        >>> np.round(ld.atlas.drawn_start(seed=0, n=784, k=5, m=2).T, 2)
        Array([[ 0.97, -0.03],
               [-0.03,  0.93]], dtype=float64)
    """
    import jax
    import numpy as np

    import learndyn as ld

    if in_span:
        r = np.random.default_rng(seed).normal(size=(k, m))
        r /= np.linalg.norm(r, axis=1, keepdims=True)
        return ld.Overlaps(r @ r.T, r, np.eye(m), np.ones(k) / k, np.ones(m) / m)
    return ld.overlaps(ld.init_weights(jax.random.key(seed), n, k, m, **options))


def write_starts() -> None:
    """Draw the states of `RECIPES` that are not stored yet, and add them."""
    found = json.loads(FILE.read_text())
    for name, recipe in RECIPES.items():
        if name not in found:
            found[name] = _as_lists(drawn_start(**recipe))
    lines = (f" {json.dumps(name)}: {json.dumps(state)}" for name, state in found.items())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def _as_lists(state: "learndyn.Overlaps") -> dict[str, Any]:
    import numpy as np

    return {name: np.asarray(getattr(state, name)).tolist() for name in FIELDS}


RECIPES: Mapping[str, dict[str, Any]] = {
    **{f"goldt2020-fig1b-k{k}": {"seed": 0, "n": 784, "k": k, "m": 4} for k in (2, 3, 4, 5, 6, 8)},
    "goldt2020-fig2b": {"seed": 0, "n": 784, "k": 5, "m": 2},
    **{
        f"goldt2020-fig3ab-k{k}": {
            "seed": 0,
            "n": 500,
            "k": k,
            "m": 2,
            "v": "gaussian",
            "v_teacher": 4.0,
        }
        for k in (2, 3, 5, 10)
    },
    **{
        f"goldt2020-fig4-k{k}": {
            "seed": 0,
            "n": 100,
            "k": k,
            "m": 4,
            "scale": 100**-0.25,
            "v": "gaussian",
        }
        for k in (4, 6, 8, 12)
    },
    "saadrattray1997": {
        "seed": 0,
        "n": 784,
        "k": 2,
        "m": 2,
        "scale": 0.5,
        "orthonormal_teacher": True,
    },
    "veiga2022-fig3": {"seed": 2, "n": 0, "k": 8, "m": 4, "in_span": True},
    **{
        f"simsek2023-{n}of{k}": {
            "seed": 0,
            "n": 1000,
            "k": n,
            "m": k,
            "scale": 0.3,
            "orthonormal_teacher": True,
        }
        for n, k in ((1, 2), (1, 3), (2, 3), (2, 4), (3, 4))
    },
    **{
        f"richert2021-{k}to{m}": {
            "seed": 0,
            "n": 784,
            "k": k,
            "m": m,
            "orthonormal_teacher": True,
            "v": "mean",
            "v_teacher": "mean",
        }
        for k, m in ((4, 2), (2, 1))
    },
}
"""Name -> how it was drawn."""
