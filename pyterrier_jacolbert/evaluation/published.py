"""Published results: the rows of ``published.yaml`` with their sources."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib.resources import files

#: Other names of models, mapped to the names in the published rows.
_ALIASES = {
    "jacolbertv1": "jacolbert",
    "multilinguale5large": "me5large",
    "multilinguale5base": "me5base",
    "multilinguale5small": "me5small",
    "japanesebm25": "bm25",
}


@dataclass(frozen=True)
class Published:
    """Published results of a model from one source.

    Attributes:
        model: name of the model.
        source: key of the source.
        source_title: description of the source.
        url: address of the source.
        scores: ``{task: {measure: value}}``.
        in_domain: tasks whose training split the model was trained on.
        without_projection: tasks whose values were computed without the model's projection.
        mean: published mean over the paper's five tasks.
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
    """Returns all published rows.

    Raises:
        ImportError: PyYAML is not installed.
    """
    try:
        import yaml
    except ImportError:
        raise ImportError("Published results need PyYAML: pip install 'pyterrier-jacolbert[evaluate]'.") from None
    content = yaml.safe_load(files(__package__).joinpath("published.yaml").read_text(encoding="utf-8"))
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
    """Tells whether two names denote the same model, regardless of owner, case and punctuation."""
    return _normalize(one) == _normalize(other)


def _normalize(name: str) -> str:
    # "bclavie/JaColBERT" and "JaColBERT" become equal, as do "v2.5" and "v2_5"; "v2" and "v2.5" do not.
    plain = re.sub(r"[^a-z0-9]+", "", name.rstrip("/").split("/")[-1].lower())
    return _ALIASES.get(plain, plain)
