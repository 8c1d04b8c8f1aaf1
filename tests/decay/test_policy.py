from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import pytest

from gamma_nlp.decay.policy import CATEGORY_KEYS, PRESETS, ROLE_KEYS, DecayPolicy
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.category import Category, Role
from tests.support.optim_models import gain

GAINS = {
    "guidelines": (1, 1, 0, 0),
    "input_only": (0, 1, 0, 0),
    "none": (0, 0, 0, 0),
    "all": (1, 1, 1, 1),
    "all_params": (1, 1, 1, 1),
}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_set_the_gains_of_the_design(name: str) -> None:
    policy = DecayPolicy.load(name)
    assert policy.name == name
    assert tuple(getattr(policy, key) for key in CATEGORY_KEYS) == GAINS[name]
    rest = [policy.multiplier("x", Role(key)) for key in ROLE_KEYS]
    assert rest == ([1, 1, 1, 1, 1] if name == "all_params" else [1, 1, 0, 0, 0])


def test_default_policy_equals_guidelines() -> None:
    assert DecayPolicy(name="guidelines") == PRESETS["guidelines"]


def test_pattern_wins_over_kind_and_kind_over_category() -> None:
    policy = DecayPolicy(kinds={"qk_norm": 0.5}, patterns={"a.*": 3.0, "*.q": 4.0})
    inner = gain("x", Category.BRANCH_INNER, kind="qk_norm")
    assert policy.multiplier("b.k", inner) == 0.5
    assert policy.multiplier("b.q", inner) == 4.0
    assert policy.multiplier("a.q", inner) == 3.0  # the first match wins
    assert policy.multiplier("a.w", Role.BIAS) == 3.0


def test_unused_gain_is_not_decayed() -> None:
    assert PRESETS["all"].multiplier("x", gain("x", None)) == 0.0


def test_embedding_follows_weight_unless_set() -> None:
    assert DecayPolicy(weight=2.0).multiplier("x", Role.EMBEDDING) == 2.0
    assert DecayPolicy(weight=2.0, embedding=0.0).multiplier("x", Role.EMBEDDING) == 0.0


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"head": -1.0}, "head must be finite and >= 0, got -1.0"),
        ({"head": float("nan")}, "head must be finite"),
        ({"head": "1"}, "head must be a number >= 0, got '1'"),
        ({"head": True}, "head must be a number"),
        ({"head": None}, "head must be a number"),
        ({"kinds": {"qk_norms": 0}}, "unknown gain kind 'qk_norms'; did you mean 'qk_norm'"),
        ({"kinds": {"qk_norm": -1}}, r"kinds\['qk_norm'\] must be finite and >= 0"),
        ({"kinds": ["qk_norm"]}, "kinds must map names to multipliers"),
        ({"patterns": {"*.w": float("inf")}}, r"patterns\['\*.w'\] must be finite"),
        ({"patterns": {1: 1.0}}, "the keys of patterns must be strings"),
        ({"mode": "couple"}, "unknown mode 'couple'; did you mean 'coupled'"),
        ({"name": ""}, "name must be a non-empty string"),
    ],
)
def test_bad_value_is_named(keywords: dict, message: str) -> None:
    with pytest.raises(GammaError, match=message):
        DecayPolicy(**keywords)


def test_unknown_preset_gets_a_suggestion_and_the_list() -> None:
    with pytest.raises(GammaError, match=r"did you mean 'guidelines'.*valid: guidelines, input"):
        DecayPolicy.load("guideline")
    with pytest.raises(GammaError, match="name of a preset, a file or a DecayPolicy"):
        DecayPolicy.load(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", [".json", ".yaml"])
def test_file_starts_from_base_and_takes_the_file_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    path.write_text(json.dumps({"base": "all", "head": 0, "kinds": {"qk_norm": 0.5}}))
    policy = DecayPolicy.load(path)
    assert policy == DecayPolicy.load(str(path))
    assert (policy.name, policy.shortcut, policy.head) == ("mine", 1.0, 0)
    assert policy.kinds == {"qk_norm": 0.5}


def test_yaml_file_with_an_empty_section(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("name: own\npatterns:\nhead: 1\n")
    assert DecayPolicy.load(path) == DecayPolicy(name="own", head=1)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.yaml", "branch_lats: 1", "p.yaml: unknown key 'branch_lats'; did you mean 'branch_la"),
        ("p.json", '{"branch_last": -1}', "p.json: policy 'p': branch_last must be finite"),
        ("p.json", '{"head": 1,\n "weight" 2}', "p.json:2: not valid JSON"),
        ("p.yaml", "head: 1\nweight: [1", "p.yaml:2: not valid YAML"),
        ("p.yaml", "head: 1e-2", "must be a number >= 0, got '1e-2'; no quotes, and in YAML"),
        ("p.yaml", "- head", "expected keys such as"),
        ("p.yaml", "", "expected keys such as .*, got an empty file"),
        ("p.yml", "base: al", "base: unknown preset 'al'; did you mean 'all'"),
        ("p.yaml", "head: 1\nhead: 2", "p.yaml:2: not valid YAML: the key 'head' is there twice"),
        ("p.yaml", "kinds: {qk_norm: 0, 'qk_norm': 1}", "the key 'qk_norm' is there twice"),
        ("p.json", '{"head": 1, "head": 1}', "p.json: the key 'head' is there twice"),
        ("p.json", '{"kinds": {"qk_norm": 1, "qk_norm": 0}}', "the key 'qk_norm' is there twice"),
        ("p.yaml", "head: 010", "p.yaml:1: .*010 is a number to base 8 or 60"),
        ("p.yaml", "weight: 1\nhead: 1:30", "p.yaml:2: .*1:30 is a number to base 8 or 60"),
        ("p.yaml", "head: !!bool maybe", "p.yaml:1: .*'maybe' is no bool"),
        ("p.yaml", "head: !!timestamp 2024-13-45", "'2024-13-45' is no timestamp"),
        ("p.yaml", "head: !!python/object:os.system 1", "p.yaml:1: .*could not determine"),
        ("p.yaml", "head: " + "9" * 400, "head must be finite and >= 0, got a number of about 40"),
        ("p.yaml", "head: " + "9" * 5000, "p.yaml:1: .* is no int"),
        ("p.yaml", "base: {a: 1}", "base: unknown preset {'a': 1}"),
        ("p.yaml", "? {a: b}\n: 1", "p.yaml:1: .*unhashable"),
        ("p.yaml", "head: " + "[" * 5000, "p.yaml: not valid YAML: nested too deeply"),
        ("p.json", "[" * 100_000, "p.json: not valid JSON: nested too deeply"),
        ("p.yaml", "kinds: &a {qk_norm: *a}", "must be a number >= 0, got {'qk_norm': {"),
        ("p.yaml", "base: GUIDELINES", "did you mean 'guidelines'"),
        ("p.toml", "head = 1", "must end in .json, .yaml or .yml"),
    ],
)
def test_bad_file_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(GammaError, match=message):
        DecayPolicy.load(str(path))


def test_keys_of_a_merge_may_be_given_again(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("kinds: &one {qk_norm: 0.5, rms_norm: 1}\npatterns: {<<: *one, qk_norm: 2}\n")
    assert DecayPolicy.load(path).patterns == {"qk_norm": 2, "rms_norm": 1}


def test_a_value_that_shares_parts_a_million_times_is_shown_short(tmp_path: Path) -> None:
    rows = [f"&r{n} [{', '.join([f'*r{n - 1}'] * 9)}]" for n in range(1, 12)]
    path = tmp_path / "p.yaml"
    path.write_text("kinds: {qk_norm: [&r0 [1], " + ", ".join(rows) + "]}")
    with pytest.raises(GammaError) as error:
        DecayPolicy.load(path)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("code", ["utf-16", "utf-16-le", "utf-32"])
def test_another_encoding_is_named(code: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("head: 1\nweight: 1\n", encoding=code)
    with pytest.raises(GammaError, match=r"p\.yaml.*iconv -f utf-16 -t utf-8"):
        DecayPolicy.load(path)


def test_missing_and_binary_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(GammaError, match=r"policy file '.*no.yaml' does not exist"):
        DecayPolicy.load(str(tmp_path / "no.yaml"))
    (tmp_path / "b.json").write_bytes(b"\xff\xfe")
    with pytest.raises(GammaError, match="not UTF-8"):
        DecayPolicy.load(tmp_path / "b.json")


def test_yaml_without_its_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p.yaml").write_text("head: 1", encoding="utf-8")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(GammaError, match=r"YAML needs yaml: pip install 'gamma_nlp\[recipes\]'"):
        DecayPolicy.load(tmp_path / "p.yaml")


def test_a_kind_above_zero_decays_gains_too() -> None:
    none = dataclasses.replace(PRESETS["none"], kinds={"qk_norm": 0.0})
    assert not none.decays_gains
    assert dataclasses.replace(none, kinds={"qk_norm": 0.5}).decays_gains
