"""Recipes: loading, merging, wildcard rules, round trips and what bad input says."""

from __future__ import annotations

import json

import pytest
import yaml

from qcompiler.errors import UsageError
from qcompiler.recipe import Recipe, load_recipe, matches, recipe_names


def test_shipped_recipes_load_and_carry_their_own_name():
    shipped = {"w3a16", "w4a16", "w4a4", "w4a8", "w8a8", "w8a8-dynamic", "w8a8-int", "w8a8-pow2"}
    assert shipped <= set(recipe_names())
    for name in recipe_names():
        recipe = load_recipe(name)
        assert recipe.name == name
        assert recipe.description


def test_shipped_recipes_differ_in_scheme():
    assert load_recipe("w8a8").scheme == "static"
    assert load_recipe("w8a8-dynamic").scheme == "dynamic"


def test_round_trips_through_json_yaml_and_dict():
    recipe = load_recipe(
        {
            "base": "w8a8",
            "rules": [{"match": "blocks.*", "rounding": "adaround"}, {"match": "head", "scheme": "float"}],
            "ignore": ["stem"],
            "passes": {"equalize_layers": {"enabled": False}},
        }
    )
    assert load_recipe(json.loads(recipe.to_json())) == recipe
    assert load_recipe(yaml.safe_load(recipe.to_yaml())) == recipe
    assert load_recipe(recipe) is recipe


def test_file_with_base_overrides_fields_and_appends_rules(tmp_path):
    parent = tmp_path / "parent.yaml"
    parent.write_text("base: w8a8\nname: parent\nrules: [{match: 'a.*', rounding: hessian}]\n")
    child = tmp_path / "child.yaml"
    child.write_text(
        f"base: {parent}\nrules: [{{match: 'a.b', rounding: nearest}}]\ncalibration: {{max_samples: 7}}\n"
    )
    recipe = load_recipe(child)
    assert [rule.match for rule in recipe.rules] == ["a.*", "a.b"]
    assert recipe.calibration.max_samples == 7
    assert recipe.calibration.held_back == Recipe().calibration.held_back
    assert recipe.settings_for("a.b", "conv2d").rounding == "nearest"
    assert recipe.settings_for("a.c", "conv2d").rounding == "hessian"


def test_later_rule_wins_and_ignore_comes_first():
    recipe = load_recipe(
        {
            "base": "w8a8",
            "ignore": ["head"],
            "rules": [
                {"match": "blocks.*", "weight_bits": 4},
                {"match": "blocks.0", "weight_bits": 6, "activation_range": {"method": "mse"}},
                {"match": "head.fc", "scheme": "dynamic"},
            ],
        }
    )
    assert recipe.settings_for("blocks.0.conv", "conv2d").weight_bits == 6
    assert recipe.settings_for("blocks.0.conv", "conv2d").activation_range.method == "mse"
    assert recipe.settings_for("blocks.1.conv", "conv2d").weight_bits == 4
    assert recipe.settings_for("stem", "conv2d").weight_bits == 8
    assert recipe.settings_for("head.norm", "linear").scheme == "float"
    assert recipe.settings_for("head.fc", "linear").scheme == "dynamic"


def test_rule_limited_to_ops():
    recipe = load_recipe({"base": "w8a8", "rules": [{"match": "*", "ops": ["linear"], "scheme": "float"}]})
    assert recipe.settings_for("a", "linear").scheme == "float"
    assert recipe.settings_for("a", "conv2d").scheme == "static"


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("head", "head", True),
        ("head", "head.fc", True),
        ("head", "header", False),
        ("blocks.?", "blocks.3.conv", True),
        ("*.attn", "blocks.0.attn.proj", True),
        ("blocks", "", False),
        ("*", "", True),
    ],
)
def test_patterns(pattern, path, expected):
    assert matches(pattern, path) is expected


def test_patterns_that_match_nothing_are_found():
    recipe = load_recipe(
        {"base": "w8a8", "ignore": ["haed"], "rules": [{"match": "body.*", "scheme": "float"}]}
    )
    assert recipe.unmatched_patterns(["head.fc", "body.0"]) == ["haed"]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"roundin": "nearest"}, "roundin: unknown field. Did you mean 'rounding'?"),
        ({"rounding": "adaroud"}, "Did you mean 'adaround'?"),
        (
            {"rules": [{"match": "a", "weight_bit": 4}]},
            "rules.0.weight_bit: unknown field. Did you mean 'weight_bits'?",
        ),
        (
            {"calibration": {"max_sample": 4}},
            "calibration.max_sample: unknown field. Did you mean 'max_samples'?",
        ),
        ({"weight_bits": 9}, "weight_bits: Input should be less than or equal to 8 (found 9)"),
        ({"rules": [{"scheme": "float"}]}, "rules.0.match is missing"),
        ({"schema_version": 2}, "schema_version: 2 is not one of 1"),
    ],
)
def test_bad_fields_name_the_field_and_the_nearest(data, expected):
    with pytest.raises(UsageError) as error:
        load_recipe(data)
    assert expected in str(error.value)


def test_unknown_name_suggests_the_nearest():
    with pytest.raises(UsageError, match="unknown recipe 'w8a8-dynamik'.*Did you mean 'w8a8-dynamic'?"):
        load_recipe("w8a8-dynamik")


def test_base_that_leads_back_is_refused(tmp_path):
    a, b = tmp_path / "a.yaml", tmp_path / "b.yaml"
    a.write_text(f"base: {b}\n")
    b.write_text(f"base: {a}\n")
    with pytest.raises(UsageError, match="leads back"):
        load_recipe(a)


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "\x00"])
def test_unreadable_files_are_usage_errors(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match="r.yaml"):
        load_recipe(path)


def test_with_changes_validates_again():
    recipe = load_recipe("w8a8").with_changes({"rounding": "nearest"})
    assert recipe.rounding == "nearest"
    with pytest.raises(UsageError, match="rounding"):
        recipe.with_changes({"rounding": 3})
