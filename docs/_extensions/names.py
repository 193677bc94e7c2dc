"""Makes a link of every public name in code type: `ld.solve_ode`, `asymptotics.plateau`, `SGD`.

Names of other libraries become links where their inventory was fetched. What is no name stays code.
"""

import re

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform

NAME = re.compile(r"[A-Za-z_]\w*(\.\w+)*(\(\))?")
WORD = re.compile(r"[a-z]+")
"""Such names, `loss` or `student`, are those of fields and dimensions as well: not linked."""
LONG = {"ld": "learndyn", "jnp": "jax.numpy", "np": "numpy", "eqx": "equinox", "xr": "xarray"}
ROOMS = ["", "flow.", "asymptotics.", "rules.", "conventions.", "plot.", "testing.", "averages."]
ROOMS += ["inputs.", "datasets.", "atlas."]


def setup(app: Sphinx) -> dict:
    app.add_transform(LinkNames)
    app.connect("missing-reference", resolve, priority=100)
    return {"parallel_read_safe": True}


class LinkNames(SphinxTransform):
    default_priority = 300

    def apply(self) -> None:
        for literal in list(self.document.findall(nodes.literal)):
            inside = isinstance(literal.parent, nodes.reference | pending_xref | nodes.title)
            text = literal.astext()
            if not inside and NAME.fullmatch(text) and not WORD.fullmatch(text):
                literal.replace_self(self.link(literal, text.removesuffix("()")))

    def link(self, literal: nodes.literal, name: str) -> pending_xref:
        first, _, rest = name.partition(".")
        name = ".".join(filter(None, (LONG.get(first, first), rest)))
        where = {"refdomain": "py", "reftype": "obj", "refdoc": self.env.docname}
        return pending_xref("", literal.deepcopy(), reftarget=name, refwarn=False, **where)


def resolve(
    app: Sphinx, env: BuildEnvironment, node: pending_xref, content: nodes.Node
) -> nodes.Node | None:
    """The link of a name that is written shortly; one of the same page comes first."""
    objects = env.get_domain("py").objects
    full = [f"learndyn.{room}{node['reftarget']}" for room in ROOMS]
    found = [(name, objects[name]) for name in full if name in objects]
    found.sort(key=lambda pair: pair[1].docname != node.get("refdoc"))
    if not found:
        return None
    name, entry = found[0]
    uri = app.builder.get_relative_uri(node["refdoc"], entry.docname)
    link = nodes.reference("", "", content, internal=True, reftitle=name)
    link["refuri"] = f"{uri}#{entry.node_id}"
    return link
