"""Parameters: the YAML file, the declared set, and messages about wrong values."""

import importlib.util

import numpy as np
import pytest
import yaml

from mosaic3d_core.data.sequences import reader_options
from mosaic3d_core.mapping import VoxelMapConfig
from mosaic3d_core.query import QueryConfig
from mosaic3d_ros import parameters

from .conftest import ROOT


def flat(values, prefix=""):
    out = {}
    for key, value in values.items():
        out |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return out


def test_yaml_file_has_exactly_the_declared_parameters_with_their_defaults():
    given = flat(yaml.safe_load((ROOT / "config" / "perception.yaml").read_text())["/**"]["ros__parameters"])
    declared = {spec.name: spec.default for spec in parameters.perception_specs()}
    assert given == declared
    assert {name: type(value) for name, value in given.items()} == {name: type(value) for name, value in declared.items()}


def test_yaml_file_and_the_page_of_parameters_are_as_declared():
    location = importlib.util.spec_from_file_location("write_parameters", ROOT / "scripts" / "write_parameters.py")
    writer = importlib.util.module_from_spec(location)
    location.loader.exec_module(writer)
    assert writer.YAML.read_text() == writer.yaml_text(parameters.perception_specs())
    assert writer.TABLES.read_text() == writer.tables_text()
    assert not [spec.name for spec in parameters.perception_specs() if "ValueError" in spec.description]


@pytest.mark.parametrize("spec", [*parameters.perception_specs(), *parameters.PLAYER], ids=lambda spec: spec.name)
def test_every_parameter_is_described_and_its_default_is_allowed(spec):
    assert len(spec.description) > 10
    if spec.low is not None:
        assert spec.low <= spec.default <= spec.high
    if spec.choices:
        assert spec.default in spec.choices


def test_config_classes_come_back_unchanged_from_the_defaults():
    defaults = {spec.name: spec.default for spec in parameters.perception_specs()}
    assert parameters.config_from("map", VoxelMapConfig, defaults) == VoxelMapConfig()
    assert parameters.config_from("query", QueryConfig, defaults) == QueryConfig()


def test_reader_options_are_typed():
    options = reader_options(["frames=40", "fx_at_640=525.5", "shadows=false", "kind=living room", ""])
    assert options == {"frames": 40, "fx_at_640": 525.5, "shadows": False, "kind": "living room"}
    assert np.isclose(options["fx_at_640"], 525.5)


@pytest.mark.parametrize("text", ["frames", "=3", "a b=3"])
def test_reader_option_without_a_name_is_refused(text):
    with pytest.raises(ValueError, match="NAME=VALUE"):
        reader_options([text])
