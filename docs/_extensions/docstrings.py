"""Shows docstrings as they are written, and signatures with the annotations of the source.

Docstrings are plain text with Google's sections. A star in them marks a teacher, not emphasis;
bars are moduli; an indented block is a formula; single backquotes mark code.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from types import ModuleType

from docutils import nodes
from sphinx.addnodes import literal_strong
from sphinx.application import Sphinx

CODE = re.compile(r"``.+?``|`[^`]+`")
SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises|Warns|Source|Example):$")
ITEM = re.compile(r"\s*(-|\*|\d+\.) ")


def setup(app: Sphinx) -> dict:
    # Before napoleon makes field lists of the sections, at the default priority of 500.
    app.connect("autodoc-process-docstring", as_written, priority=100)
    app.connect("autodoc-process-signature", short_signature)
    app.connect("doctree-read", tabulate)
    return {"parallel_read_safe": True}


def as_written(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list
) -> None:
    """Change `lines`, the docstring, into markup that shows the same text, with types."""
    if what == "data":  # a constant has but the docstring of its type
        lines.clear()
        return
    types = {} if isinstance(obj, ModuleType) else annotations(obj)
    text = with_formulas("\n".join(lines))
    section, lines[:] = "", []
    for line in text.splitlines():
        section = found[1] if (found := SECTION.match(line)) else section
        of_names = section in ("Args", "Attributes")
        lines.append(typed(escaped(line), types) if of_names else escaped(line))
    lines.append("")


def with_formulas(text: str) -> str:
    """`text` with indented blocks before its first section marked as they stand."""
    out, section, formula, listed = [], False, False, False
    for line in text.splitlines():
        section = section or bool(SECTION.match(line))
        indented = line.startswith(" ")
        if line and not indented:
            formula, listed = False, bool(ITEM.match(line))
        if indented and not (section or formula or listed):
            formula = True
            out += ["", "::", ""]
        out.append(f"\0{line}" if formula and line else line)
    return "\n".join(out)


def escaped(line: str) -> str:
    """`line` without markup but code, which gets the double backquotes of reStructuredText."""
    if line.startswith("\0"):
        return line[1:]
    if line.lstrip().startswith((">>>", "...")):
        return line
    mark = ITEM.match(line)
    start = mark.end() if mark else 0
    codes = [f"``{code.strip('`')}``" for code in CODE.findall(line[start:])]
    texts = [re.sub(r"([*|\\`]|(?<=\w)_(?!\w))", r"\\\1", t) for t in CODE.split(line[start:])]
    return line[:start] + "".join(t + c for t, c in zip(texts, [*codes, ""], strict=True))


def typed(line: str, types: dict[str, str]) -> str:
    """A line of Args, "    lr: ...", with the type in the source, "    lr (RealLike): ..."."""
    found = re.match(r"    (\w+(?:, \w+)*): ", line)
    if not found:
        return line
    names = found[1].split(", ")
    known = {types.get(name) for name in names}
    kind = known.pop() if len(known) == 1 else None
    # No space between names: the field would be read as a type and a name.
    written = f"    {','.join(names)}" + (f" (``{kind}``)" if kind else "")
    return f"{written}: {line[found.end() :]}"


def short_signature(
    app: Sphinx, what: str, name: str, obj: object, options: object, given: str, result: str
) -> tuple[str | None, str | None] | None:
    """Names and defaults; the types stand in the table below."""
    if given is None:
        return None
    if what == "class" and "\nAttributes:\n" in inspect.cleandoc(obj.__doc__ or ""):
        return "", None  # a result: people read its fields and seldom make one
    try:
        signature = inspect.signature(obj)
    except (TypeError, ValueError):
        return None
    parameters = [p.replace(annotation=p.empty) for p in signature.parameters.values()]
    if what == "method" and parameters and parameters[0].name in ("self", "cls"):
        parameters = parameters[1:]
    signature = signature.replace(parameters=parameters, return_annotation=signature.empty)
    return str(signature), returned(obj)


def returned(obj: object) -> str | None:
    node = source(inspect.unwrap(obj))
    return text(node.returns) if getattr(node, "returns", None) else None


def text(annotation: ast.expr) -> str:
    """An annotation as it is written, without the quotes of a forward reference."""
    forward = isinstance(annotation, ast.Constant) and isinstance(annotation.value, str)
    return annotation.value if forward else ast.unparse(annotation)


def annotations(obj: object) -> dict[str, str]:
    """The annotation of each parameter and field as it is written, `Float[Array, " k"]`."""
    if not inspect.isclass(obj):
        return dict(written(source(inspect.unwrap(obj))))
    types = {}
    for cls in reversed(obj.__mro__):
        if cls.__module__.startswith("learndyn"):
            types |= dict(written(source(cls)))
    return types


def written(node: ast.AST | None) -> Iterator[tuple[str, str]]:
    """(name, annotation) of the parameters of a function, or of the fields of a class and the
    parameters of its constructor."""
    if isinstance(node, ast.ClassDef):
        for part in node.body:
            if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name):
                yield part.target.id, text(part.annotation)
            elif isinstance(part, ast.FunctionDef) and part.name == "__init__":
                yield from written(part)
    elif isinstance(node, ast.FunctionDef):
        given = node.args
        for arg in (*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg):
            if arg is not None and arg.annotation is not None:
                yield arg.arg, text(arg.annotation)


def source(obj: object) -> ast.AST | None:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(obj))).body[0]
    except (OSError, TypeError, SyntaxError):
        return None


def tabulate(app: Sphinx, content: nodes.document) -> None:
    """Make a table of every list of parameters or fields: names on the left, the rest right."""
    titles = {"Parameters": "Parameters", "Variables": "Attributes"}
    for dash in [text for text in content.findall(nodes.Text) if text == " -- "]:
        dash.parent.replace(dash, nodes.Text(" – "))
    for field in list(content.findall(nodes.field)):
        title, body = field.children
        if title.astext() in titles:
            name = nodes.field_name("", titles[title.astext()])
            rows = [row(p) for p in body.findall(nodes.paragraph) if begins_with_name(p)]
            field.replace_self(nodes.field("", name, nodes.field_body("", table(rows))))


def begins_with_name(paragraph: nodes.paragraph) -> bool:
    return bool(paragraph.children) and isinstance(paragraph[0], literal_strong)


def row(paragraph: nodes.paragraph) -> nodes.row:
    """name (type) – meaning: the name in one cell, meaning and type in the other."""
    texts = [node.astext() for node in paragraph.children]
    end = next(i for i, text in enumerate(texts) if text in (" (", " – "))
    name = literal_strong("", "".join(texts[:end]).replace(",", ", "))
    rest = paragraph.children[end:]
    kind = [node for node in rest[:-1] if node.astext() not in (" (", ")", " – ")]
    meaning = [nodes.paragraph("", "", rest[-1])]
    if kind:
        meaning.append(nodes.paragraph("", "", *kind, classes=["type"]))
    cells = nodes.entry("", nodes.paragraph("", "", name)), nodes.entry("", *meaning)
    return nodes.row("", *cells)


def table(rows: list[nodes.row]) -> nodes.table:
    columns = [nodes.colspec(colwidth=width) for width in (20, 80)]
    group = nodes.tgroup("", *columns, nodes.tbody("", *rows), cols=2)
    return nodes.table("", group, classes=["parameters"])
