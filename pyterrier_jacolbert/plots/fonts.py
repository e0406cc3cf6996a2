"""Finds fonts with Japanese characters for matplotlib, whose own fonts have none."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

#: A pip package that contains the font IPAexGothic, and the path of the font within it.
FONT_PACKAGE, _FONT_FILE = "matplotlib-fontja", Path("fonts", "ipaexg.ttf")
#: Japanese fonts of operating systems, used if the package is not installed.
_SYSTEM_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans JP",
    "IPAexGothic",
    "IPAGothic",
    "Hiragino Sans",
    "Hiragino Maru Gothic Pro",
    "Yu Gothic",
    "Meiryo",
    "MS Gothic",
    "TakaoGothic",
    "VL Gothic",
)
#: A font that ships with matplotlib, for characters that the Japanese font lacks.
_FALLBACK = "DejaVu Sans"


@functools.cache
def japanese_fonts() -> list[str]:
    """Returns the font families for Japanese text, best first, as values for matplotlib's ``fontfamily``.

    Global settings stay unchanged, whereas importing the font's package would change the font of all the user's
    figures.

    Raises:
        ImportError: matplotlib or a font with Japanese characters is not installed.
    """
    try:
        from matplotlib import font_manager
    except ImportError as error:
        raise ImportError(f"Plots need matplotlib ({error}); pip install matplotlib {FONT_PACKAGE}") from error
    package = importlib.util.find_spec(FONT_PACKAGE.replace("-", "_"))
    for folder in (package.submodule_search_locations or []) if package else []:
        file = Path(folder) / _FONT_FILE
        if file.is_file():
            font_manager.fontManager.addfont(file)
            return [font_manager.FontProperties(fname=file).get_name(), _FALLBACK]
    installed = set(font_manager.get_font_names())
    for name in _SYSTEM_FONTS:
        if name in installed:
            return [name, _FALLBACK]
    raise ImportError(f"No font with Japanese characters is available to matplotlib; pip install {FONT_PACKAGE}")


def drawable() -> Callable[[str], str]:
    """Returns a function that replaces characters that no font can draw.

    White space becomes ``␣``, and any other such character its code point, such as ``U+1F468`` for an emoji.

    Raises:
        ImportError: matplotlib or a font with Japanese characters is not installed.
    """
    known = _code_points(tuple(japanese_fonts()))

    def draw(text: str) -> str:
        shown = (c if ord(c) in known and c.isprintable() else "␣" if c.isspace() else f"U+{ord(c):04X}" for c in text)
        return "".join(shown)

    return draw


@functools.cache
def _code_points(families: tuple[str, ...]) -> frozenset[int]:
    """Returns the code points for which the fonts have glyphs."""
    from matplotlib import font_manager

    files = [font_manager.findfont(font_manager.FontProperties(family=family)) for family in families]
    return frozenset(point for file in files for point in font_manager.get_font(file).get_charmap())
