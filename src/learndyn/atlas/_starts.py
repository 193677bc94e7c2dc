"""Initial states of the entries, as Q, R, T and the second layers, from `starts.json`.

They were drawn once, by `drawn_start` with the recipes below, and stored, because a seed gives the
same state only as long as no random number generator changes.
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
    """The stored initial state of this name. Raises: KeyError for one that is not stored."""
    import learndyn as ld

    return ld.Overlaps(**json.loads(FILE.read_text())[name])


def drawn_start(seed: int, n: int, k: int, m: int, **options: Any) -> "learndyn.Overlaps":
    """The overlaps of random weights: how the stored states were made.

    options: those of `ld.init_weights`, such as scale and v_teacher.
    """
    import jax

    import learndyn as ld

    return ld.overlaps(ld.init_weights(jax.random.key(seed), n, k, m, **options))


def write_starts() -> None:
    """Draw all states of `RECIPES` again and store them. Only for new recipes: see above."""
    found = {name: _as_lists(drawn_start(**recipe)) for name, recipe in RECIPES.items()}
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
}
"""Name -> how it was drawn."""
