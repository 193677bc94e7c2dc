"""Shows the library as it is written: docstrings are plain text, and re-exports are public."""

import re

import griffe

CODE = re.compile(r"(```.*?```|`[^`]*`)", flags=re.DOTALL)


class AsWritten(griffe.Extension):
    """A star in a docstring marks a teacher, not emphasis; `X as X` in a package is its API."""

    def on_instance(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = escaped(obj.docstring.value)

    def on_module_members(self, *, mod: griffe.Module, **kwargs) -> None:
        if mod.is_init_module and mod.exports is None:
            inside = [n for n, path in mod.imports.items() if path.startswith(f"{mod.path}.")]
            defined = [n for n, member in mod.members.items() if not member.is_alias]
            mod.exports = sorted(n for n in {*inside, *defined} if not n.startswith("_"))


def escaped(text: str) -> str:
    """`text` with every other part, the code, left as it is."""
    parts = CODE.split(text)
    parts[::2] = [re.sub(r"([*_<])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)
