"""Every declared entry point loads, and is of the type that its group requires."""

import importlib.metadata
import inspect

import pyterrier as pt
import pytest

DISTRIBUTION = "pyterrier-jacolbert"
GROUPS = ("pyterrier.artifact", "pyterrier.dataset_provider", "console_scripts")
ENTRY_POINTS = [
    entry_point
    for group in GROUPS
    for entry_point in importlib.metadata.distribution(DISTRIBUTION).entry_points.select(group=group)
]


def test_every_group_has_an_entry_point():
    assert {entry_point.group for entry_point in ENTRY_POINTS} == set(GROUPS)


@pytest.mark.parametrize("entry_point", ENTRY_POINTS, ids=lambda entry_point: f"{entry_point.group} {entry_point.name}")
def test_entry_point_loads_the_required_type(entry_point):
    loaded = entry_point.load()
    if entry_point.group == "pyterrier.artifact":
        assert issubclass(loaded, pt.Artifact)
        assert entry_point.name == f"{loaded.ARTIFACT_TYPE}.{loaded.ARTIFACT_FORMAT}"
        assert loaded.ARTIFACT_PACKAGE_HINT == DISTRIBUTION
    elif entry_point.group == "pyterrier.dataset_provider":
        assert issubclass(loaded, pt.datasets.DatasetProvider)
    else:
        assert callable(loaded)
        parameters = inspect.signature(loaded).parameters.values()
        assert all(parameter.default is not parameter.empty for parameter in parameters), "a script passes no arguments"
