"""What is published: the rows of ``published.yaml``, with their sources."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib.resources import files

#: Words by which checkpoints and published rows name the same model differently.
_ALIASES = {
    "jacolbertv1": "jacolbert",
    "multilinguale5large": "me5large",
    "multilinguale5base": "me5base",
    "multilinguale5small": "me5small",
    "japanesebm25": "bm25",
}


@dataclass(frozen=True)
class Published:
    """A published row.

    Attributes:
        model: the model's name.
        source: the key of the source.
        source_title: the source in words.
        url: where it is.
        scores: ``{task: {measure: value}}``.
        in_domain: the tasks whose training split the model has seen.
        without_projection: the tasks whose values were made without the model's projection.
        mean: over the paper's five tasks, as published.
    """

    model: str
    source: str
    source_title: str
    url: str
    scores: dict[str, dict[str, float]]
    in_domain: tuple[str, ...] = ()
    without_projection: tuple[str, ...] = ()
    mean: float | None = None


@functools.cache
def published() -> tuple[Published, ...]:
    """All rows.

    Raises:
        ImportError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError:
        raise ImportError("Published results need PyYAML: pip install 'pyterrier-jacolbert[evaluate]'.") from None
    content = yaml.safe_load(files("pyterrier_jacolbert").joinpath("published.yaml").read_text(encoding="utf-8"))
    sources = content["sources"]
    return tuple(
        Published(
            model=row["model"],
            source=row["source"],
            source_title=sources[row["source"]]["title"],
            url=sources[row["source"]]["url"],
            scores=row["scores"],
            in_domain=tuple(row.get("in_domain", ())),
            without_projection=tuple(row.get("without_projection", ())),
            mean=row.get("mean"),
        )
        for row in content["results"]
    )


def same_model(one: str, other: str) -> bool:
    """Whether two names are of one model: the owner, case and punctuation make no difference."""
    return _plain(one) == _plain(other)


def _plain(name: str) -> str:
    # "bclavie/JaColBERT" and "JaColBERT" are one; so are "v2.5" and "v2_5", but not "v2" and "v2.5".
    plain = re.sub(r"[^a-z0-9]+", "", name.rstrip("/").split("/")[-1].lower())
    return _ALIASES.get(plain, plain)
