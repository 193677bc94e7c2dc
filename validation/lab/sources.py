"""What a stored claim depends on: digests of the library, the tools, and the file of the claim."""

import hashlib
import importlib.metadata
import json
from pathlib import Path

import learndyn

LIBRARY, VALIDATION = Path(learndyn.__file__).parent, Path(__file__).parent.parent

TOOLS = ("lab", "measure")
"""The folders of what claims share."""

PRESENTATION = {
    "library": ("plot", "claims", "cli"),
    "tools": ("measure/figures.py", "lab/progress.py", "lab/false_alarms.py"),
}
"""What no measurement and no verdict depends on, by its first folder in the library and by its
path in the folder of claims: changing it leaves stored claims as they are."""

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "equinox", "diffrax")
"""The packages whose versions decide numbers."""


def shared_sources(mutant: str | None = None) -> str:
    """Digest of what all claims share: the library, the tools, the versions of `PACKAGES`, and a
    deliberate fault, with the texts of all faults.

    mutant: the name of the fault; None: there is none.
    """
    versions = [importlib.metadata.version(name) for name in PACKAGES]
    files = [*_of_library(), *_of_tools(), *(_of_mutants() if mutant else [])]
    texts = [file.read_bytes() for file in sorted(files)]
    return digest(json.dumps([mutant, versions]).encode(), *texts)


def digest(*texts: bytes) -> str:
    """Sixteen hexadecimal digits that change with any of the texts, and with where each ends."""
    total = hashlib.sha256()
    for text in texts:
        total.update(hashlib.sha256(text).digest())
    return total.hexdigest()[:16]


def _of_library() -> list[Path]:
    aside = PRESENTATION["library"]
    files = [*LIBRARY.rglob("*.py"), *LIBRARY.rglob("*.pyi")]
    return [file for file in files if file.relative_to(LIBRARY).parts[0] not in aside]


def _of_tools() -> list[Path]:
    aside = [VALIDATION / name for name in PRESENTATION["tools"]]
    files = (file for folder in TOOLS for file in (VALIDATION / folder).rglob("*.py"))
    return [file for file in files if file not in aside]


def _of_mutants() -> list[Path]:
    return list((VALIDATION / "mutants").glob("*.py"))
