"""Files about the project agree with the package: citation, contribution guide, issue forms."""

import re
from pathlib import Path

import pytest
import yaml

import pyterrier_jacolbert as pj

ROOT = Path(__file__).resolve().parents[1]
FORMS = ROOT / ".github" / "ISSUE_TEMPLATE"


def test_citation_has_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == pj.__version__
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license"} <= set(citation)
    (paper,) = citation["references"]
    assert paper["url"] == "https://arxiv.org/abs/2407.20750"
    assert paper["authors"] == [{"family-names": "Clavié", "given-names": "Benjamin"}]
    assert " ".join(paper["title"].split()) in " ".join((pj.JaColBERT.__doc__ or "").split())


@pytest.mark.parametrize("name", ["bug_report", "feature_request"])
def test_issue_forms_are_valid(name):
    form = yaml.safe_load((FORMS / f"{name}.yml").read_text(encoding="utf-8"))
    assert form["name"]
    assert form["description"]
    ids = [part["id"] for part in form["body"]]
    assert len(set(ids)) == len(ids)
    for part in form["body"]:
        assert part["type"] in {"textarea", "input", "dropdown", "checkboxes", "markdown"}
        assert part["attributes"]["label"]
    assert any(part["validations"]["required"] for part in form["body"])


def test_files_named_in_the_contribution_guide_exist():
    guide = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    pattern = r"`((?:tests|benchmarks|examples|pyterrier_jacolbert|\.ci)/[\w./]*|[A-Z]+\.md|\w+\.(?:txt|toml))`"
    files = set(re.findall(pattern, guide))
    assert files
    assert [name for name in sorted(files) if not (ROOT / name).exists()] == []
