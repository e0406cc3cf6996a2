"""Builds the documentation by itself, without a network; PyTerrier's site builds it with its own settings."""

import ast
import sys
from pathlib import Path

import pyterrier as pt
from docutils import nodes
from docutils.parsers.rst import Directive, directives

import pyterrier_jacolbert

sys.path.insert(0, str(Path(pyterrier_jacolbert.__file__).parents[1]))

project = "pyterrier_jacolbert"
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
autodoc_typehints = "none"
html_theme = "basic"
# Names of other projects, which this build does not look up.
nitpicky = False


# A link to PyTerrier's own pages would be looked up over the network.
pt.documentation.url_for_class = lambda transformer: None


class Schematic(Directive):
    """PyTerrier's directive: draws the transformer that the last line of its code makes."""

    has_content = True
    option_spec = {"show_code": directives.flag, "input_columns": directives.unchanged}

    def run(self):
        code = "\n".join(self.content)
        *body, last = ast.parse(code).body
        namespace = {"pt": pt}
        exec(compile(ast.Module(body, []), "schematic", "exec"), namespace)
        transformer = eval(compile(ast.Expression(last.value), "schematic", "eval"), namespace)
        columns = self.options.get("input_columns")
        drawn = pt.schematic.draw(transformer, input_columns=columns.split(",") if columns else None)
        shown = []
        if "show_code" in self.options:
            visible = code.split("# FOLD\n")[-1]
            shown.append(nodes.literal_block(visible, visible, language="python"))
        return [*shown, nodes.raw("", drawn, format="html")]


def setup(app):
    """Adds the directive."""
    app.add_directive("schematic", Schematic)
