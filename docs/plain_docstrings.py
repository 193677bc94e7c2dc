"""Shows docstrings as the plain text they are: a star marks a teacher, not emphasis."""

import re

import griffe

CODE = re.compile(r"(```.*?```|`[^`]*`)", flags=re.DOTALL)


class PlainDocstrings(griffe.Extension):
    """Escapes Markdown's stars, underscores and angle brackets outside of code."""

    def on_instance(self, *, obj: griffe.Object, **kwargs) -> None:
        if obj.docstring:
            obj.docstring.value = escaped(obj.docstring.value)


def escaped(text: str) -> str:
    """`text` with every other part, the code, left as it is."""
    parts = CODE.split(text)
    parts[::2] = [re.sub(r"([*_<])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)
