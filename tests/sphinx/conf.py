"""Builds the documentation on its own, without a network; PyTerrier's site builds it with its own settings."""

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
# References to other projects cannot be resolved here.
nitpicky = False


# Links to PyTerrier's own pages would be looked up over the network.
pt.documentation.url_for_class = lambda transformer: None


class Schematic(Directive):
    """PyTerrier's directive, which draws the transformer on the last line of its code."""

    has_content = True
    option_spec = {"show_code": directives.flag, "input_columns": directives.unchanged}

    def run(self):
        """Runs the code and returns the drawing, after the code if ``show_code`` is set."""
        code = "\n".join(self.content)
        *body, last = ast.parse(code).body
        namespace = {"pt": pt}
        exec(compile(ast.Module(body, []), "schematic", "exec"), namespace)
        transformer = eval(compile(ast.Expression(last.value), "schematic", "eval"), namespace)
        columns = self.options.get("input_columns")
        drawn = pt.schematic.draw(transformer, input_columns=columns.split(",") if columns else None)
        listing = []
        if "show_code" in self.options:
            visible = code.split("# FOLD\n")[-1]
            listing.append(nodes.literal_block(visible, visible, language="python"))
        return [*listing, nodes.raw("", drawn, format="html")]


def setup(app):
    """Registers the directive."""
    app.add_directive("schematic", Schematic)
