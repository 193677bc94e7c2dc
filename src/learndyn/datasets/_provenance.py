"""Where a dataset comes from: problem, rule, versions, revision, seed, time and device."""

import functools
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learndyn._version import __version__, versions
from learndyn.datasets._schema import SCHEMA_VERSION
from learndyn.problems import to_json


def provenance(
    problem: Any = None,
    rule: Any = None,
    *,
    level: str | None = None,
    n: int | None = None,
    seed: Any = None,
    key: jax.Array | None = None,
    tasks: Any = None,
) -> dict[str, Any]:
    """Attributes of a dataset as strings and numbers; what is not known is left out.

    seed: what the user began with. key: that of the run itself, from which it can go on. tasks:
    `Lessons` of several tasks.
    """
    attributes = {
        "problem": None if problem is None else to_json(problem),
        "rule": None if rule is None else to_json(rule),
        "tasks": None if tasks is None else to_json(tasks),
        "level": level,
        "n": None if n is None else int(n),
        "seed": None if seed is None else seed_attribute(seed),
        "key": None if key is None else _words(key),
        "schema": SCHEMA_VERSION,
        "creation_library": "learndyn",
        "creation_library_version": __version__,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "git_revision": git_revision(),
        "versions": json.dumps(_versions()),
        "device": device(),
        "x64": int(jnp.result_type(float) == jnp.float64),
    }
    return {name: value for name, value in attributes.items() if value is not None}


def seed_attribute(seed: Any) -> int | str:
    """A seed as an attribute: an integer, or the words of a key that no integer made.

    `jax.random.key(7)` gives 7; any other key gives its kind and words, from which
    `jax.random.wrap_key_data` makes it again.
    """
    if isinstance(seed, int | np.integer):
        return int(seed)
    if not isinstance(seed, jax.Array):
        raise ValueError(f"seed must be an integer or a JAX random key; got {seed!r}.")
    kind, *words = _words(seed).split()
    if kind == "fry" or "threefry" in kind:
        # jax.random.key(seed) puts a seed below 2**32 into the second word.
        if len(words) == 2 and words[0] == "0":
            return int(words[1])
    return " ".join([kind, *words])


def key_of(attributes: dict[Any, Any]) -> jax.Array | None:
    """The random key of the run that has these attributes; None where they name none."""
    if "key" not in attributes:
        return None
    kind, *words = str(attributes["key"]).split()
    return jax.random.wrap_key_data(jnp.asarray([int(x) for x in words], jnp.uint32), impl=kind)


def _words(key: jax.Array) -> str:
    """The generator of a key and its words."""
    is_key = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    kind = str(jax.random.key_impl(key)) if is_key else "raw"
    words = np.asarray(jax.random.key_data(key) if is_key else key).ravel()
    return " ".join([kind, *map(str, words)])


_versions = functools.cache(versions)
"""They stay the same in one process, and to look them up takes milliseconds."""


@functools.cache
def git_revision() -> str | None:
    """The commit of the library's source, with "-dirty" after changes; None outside of git."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        # An installed copy may lie inside somebody else's repository.
        git("ls-files", "--error-unmatch", "__init__.py")
        return git("describe", "--always", "--abbrev=40", "--exclude=*", "--dirty")
    except (OSError, subprocess.SubprocessError):
        return None


def device() -> str:
    """The default device, for example "cpu: cpu" or "gpu: NVIDIA H200"."""
    first = jax.devices()[0]
    return f"{first.platform}: {first.device_kind}"
