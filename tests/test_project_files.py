"""The files about the project agree with it: citation, contribution guide, issue forms."""

import re
from pathlib import Path

import pytest
import yaml

import pyterrier_jacolbert as pj

ROOT = Path(__file__).resolve().parents[1]
FORMS = ROOT / ".github" / "ISSUE_TEMPLATE"


def test_the_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == pj.__version__
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors", "license"} <= set(citation)
    (paper,) = citation["references"]
    assert paper["url"] == "https://arxiv.org/abs/2407.20750"
    assert paper["authors"] == [{"family-names": "Clavié", "given-names": "Benjamin"}]
    assert " ".join(paper["title"].split()) in " ".join((pj.JaColBERT.__doc__ or "").split())


@pytest.mark.parametrize("name", ["bug_report", "feature_request"])
def test_an_issue_form_has_what_forms_need(name):
    form = yaml.safe_load((FORMS / f"{name}.yml").read_text(encoding="utf-8"))
    assert form["name"]
    assert form["description"]
    ids = [part["id"] for part in form["body"]]
    assert len(set(ids)) == len(ids) >= 3
    for part in form["body"]:
        assert part["type"] in {"textarea", "input", "dropdown", "checkboxes", "markdown"}
        assert part["attributes"]["label"]
    assert any(part["validations"]["required"] for part in form["body"])


def test_what_the_contribution_guide_names_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(
        re.findall(r"`((?:tests|benchmarks|examples|pyterrier_jacolbert|\.ci)/[\w./]*|[A-Z]+\.md|\w+\.txt)`", text)
    )
    assert {"tests/test_messages.py", "benchmarks/RESULTS.md", "constraints.txt"} <= named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_the_contribution_guide_sets_up_as_the_readme_does():
    install = 'pip install -c constraints.txt -e ".[dev]"'
    assert all(install in (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md"))
