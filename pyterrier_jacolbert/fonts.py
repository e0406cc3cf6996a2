"""A font with Japanese characters for matplotlib, whose own has none."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable
from pathlib import Path

#: A pip package that carries the font IPAexGothic, and the file in it.
FONT_PACKAGE, _FONT_FILE = "matplotlib-fontja", Path("fonts", "ipaexg.ttf")
#: Japanese fonts that systems have; taken where the package is not installed.
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
#: Comes with matplotlib, for what the Japanese font lacks.
_FALLBACK = "DejaVu Sans"


@functools.cache
def japanese_fonts() -> list[str]:
    """The font families for Japanese text, best first, as matplotlib's ``fontfamily`` takes them.

    Nothing global changes: importing the font's package would make it the font of all the user's figures.

    Raises:
        ImportError: matplotlib is not installed, or there is no Japanese font.
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
    there = set(font_manager.get_font_names())
    for name in _SYSTEM_FONTS:
        if name in there:
            return [name, _FALLBACK]
    raise ImportError(f"There is no font with Japanese characters for matplotlib; pip install {FONT_PACKAGE}")


def drawable() -> Callable[[str], str]:
    """A function that puts what no font can draw in other words: ``U+1F468`` for an emoji, ``␣`` for white space.

    Raises:
        ImportError: as :func:`japanese_fonts`.
    """
    known = _characters(tuple(japanese_fonts()))

    def draw(text: str) -> str:
        shown = (c if ord(c) in known and c.isprintable() else "␣" if c.isspace() else f"U+{ord(c):04X}" for c in text)
        return "".join(shown)

    return draw


@functools.cache
def _characters(families: tuple[str, ...]) -> frozenset[int]:
    """The code points that fonts have glyphs for."""
    from matplotlib import font_manager

    files = [font_manager.findfont(font_manager.FontProperties(family=family)) for family in families]
    return frozenset(point for file in files for point in font_manager.get_font(file).get_charmap())
