from __future__ import annotations

import dataclasses
import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

from gamma_nlp import make_optimizer
from gamma_nlp.decay.policies.keys import CATEGORY_KEYS, ROLE_KEYS
from gamma_nlp.decay.policy import PRESETS, DecayPolicy
from gamma_nlp.decay.schedule import LR, Schedule
from gamma_nlp.errors import GammaError
from gamma_nlp.gains.category import Category, Role
from tests.support.optim_models import Toy, gain, toy_table

GAINS = {
    "guidelines": (1, 1, 0, 0),
    "input_only": (0, 1, 0, 0),
    "iwd": (0, 1, 0, 0),
    "none": (0, 0, 0, 0),
}
SHIFTS_AND_THE_REST = {
    **{key: [1] * 5 for key in ("all_params", "torchtitan", "hugging_face", "timm")},
    "olmo": [1, 0, 1, 1, 1],
}
TARGETS = {**dict.fromkeys(SHIFTS_AND_THE_REST, "stored"), "qwen3_next": "one"}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_set_the_gains_of_the_design(name: str) -> None:
    policy = DecayPolicy.load(name)
    assert policy.name == name
    assert tuple(getattr(policy, key) for key in CATEGORY_KEYS) == GAINS.get(name, (1, 1, 1, 1))
    rest = [policy.multiplier("x", Role(key), spared=()) for key in ROLE_KEYS]
    assert rest == SHIFTS_AND_THE_REST.get(name, [1, 1, 0, 0, 0])
    assert policy.target == TARGETS.get(name, "zero")
    assert policy.rule == (name if name in ("hugging_face", "timm") else "position")
    rounding = "keep" if policy.target == "stored" else "defer"  # as the library does it
    assert (policy.mode, policy.rounding, policy.schedule) == ("native", rounding, LR)


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
        ({"mode": None}, "unknown mode None .valid: native, decoupled, coupled"),
        ({"mode": ["native"]}, r"unknown mode \['native'\]"),
        ({"rule": "Timm"}, "unknown rule 'Timm'; did you mean 'timm'"),
        ({"rounding": "deferred"}, "unknown rounding 'deferred'; did you mean 'defer'"),
        ({"target": "ones"}, "unknown target 'ones'; did you mean 'one'"),
        ({"target": 1}, "unknown target 1 .valid: zero, one, start, stored"),
        ({"targets": ["start"]}, r"targets must map .*write for example .\"branch_inner\": \"one"),
        ({"targets": "start"}, "targets must map categories, kinds or name patterns"),
        ({"targets": {"weight": "one"}}, r"targets\['weight'\] is no gain; targets are for gains"),
        ({"targets": {"embedding": "start"}}, r"targets\['embedding'\] is no gain"),
        ({"targets": {"normalized": "one"}}, r"targets\['normalized'\] is no gain"),
        ({"targets": {"shift": "one"}}, "a shift is no gain"),
        ({"targets": {"heads": "one"}}, r"targets: unknown key 'heads'; did you mean 'head'\?"),
        ({"targets": {"trunk": "one"}}, r"unknown key 'trunk' .*or a pattern on names, with a dot"),
        ({"targets": {1: "one"}}, "the keys of targets must be strings, got 1"),
        ({"targets": {"head": None}}, r"unknown targets\['head'\] None"),
        ({"schedules": "cosine"}, 'schedules must map .*write for example .*"lr_squared"'),
        (
            {"schedules": {"normalised": "lr"}},
            "unknown key 'normalised'; did you mean 'normalized",
        ),
        ({"schedules": {"weight": "lr2"}}, r"schedules\['weight'\]: unknown schedule 'lr2'"),
        ({"schedules": {"weight": None}}, r"schedules\['weight'\]: write a word .*, not None"),
        ({"schedules": {None: "lr"}}, "the keys of schedules must be strings, got None"),
        ({"schedule": "cosin"}, "schedule: unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"schedule": 0.5}, "schedule: write a word such as lr_squared, or a mapping .*, not 0.5"),
        ({"schedule": {"kind": "cosine", "stop": 1}}, "unknown key 'stop'; did you mean 'steps'"),
        ({"schedule": {"end": 0.5}}, "schedule: the kind is missing, one of lr, lr_squared, con"),
        ({"schedule": {}}, "the kind is missing"),
        ({"schedule": {"kind": ["cosine"]}}, r"unknown schedule \['cosine'\]"),
        (
            {"schedule": {"kind": "lr", "end": 0}},
            "'lr' takes no end and no steps; cosine and",
        ),
        ({"schedule": {"kind": "constant", "steps": 5}}, "'constant' takes no end and no steps"),
        ({"schedule": {"kind": "linear", "steps": 0}}, "steps must be a whole number > 0, got 0"),
        ({"schedule": {"kind": "linear", "steps": 1.5}}, "steps must be a whole number > 0"),
        ({"schedule": {"kind": "linear", "steps": True}}, "steps must be a whole number > 0"),
        ({"schedule": {"kind": "linear", "end": -1}}, "end must be finite and >= 0, got -1"),
        ({"schedule": {"kind": "linear", "end": float("nan")}}, "end must be finite"),
        (
            {"schedule": {"kind": "linear", "end": 10**400}},
            "end must be finite .* about 401 dig",
        ),
        ({"schedule": {"kind": "linear", "end": "0"}}, "end must be a number >= 0, got '0'"),
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
        ("p.yaml", "target: 1", "p.yaml: policy 'p': unknown target 1 .valid: zero, one"),
        ("p.yaml", "traget: one", "p.yaml: unknown key 'traget'; did you mean 'target'"),
        ("p.yaml", "targets: {q_norm: one}", "targets: unknown key 'q_norm'; did you mean 'qk_no"),
        ("p.yaml", "schedule: {kind: cosine, stop: 1}", "p.yaml: .*schedule: unknown key 'stop'"),
        ("p.json", '{"schedules": {"weight": {"kind": "cosin"}}}', r"p.json: .*\['weight'\]: unkn"),
        ("p.yaml", "base: tim", "base: unknown preset 'tim'; did you mean 'timm'"),
        ("p.yaml", "rule: no", "unknown rule False .valid: position, hugging_face, timm"),
        ("p.yaml", "schedule:", "schedule: write a word such as lr_squared"),
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


def test_a_file_may_start_from_a_rule_and_leave_sections_empty(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("base: timm\ntargets:\nschedules:\nschedule: {kind: linear, steps: 9}\n")
    policy = DecayPolicy.load(path)
    assert (policy.rule, policy.target, policy.targets, policy.schedules) == (
        "timm", "stored", {}, {},
    )  # fmt: skip
    assert policy.schedule == Schedule(kind="linear", steps=9)


def test_targets_go_by_pattern_then_kind_then_category() -> None:
    policy = DecayPolicy(
        target="one", targets={"branch_inner": "start", "qk_norm": "zero", "*.q.*": "stored"}
    )
    plain, qk = gain("x", Category.BRANCH_INNER), gain("x", Category.BRANCH_INNER, kind="qk_norm")
    assert policy.target_of("x", plain) == "start"
    assert policy.target_of("x", qk) == "zero"
    assert policy.target_of("a.q.weight", qk) == "stored"
    assert policy.target_of("x", gain("x", Category.HEAD)) == "one"
    assert policy.target_of("x", gain("x", None)) == "one"
    for role in Role:
        assert policy.target_of("x", role) == "zero"


def test_shifts_follow_start_unless_told_otherwise() -> None:
    assert DecayPolicy(target="start").target_of("x", Role.SHIFT) == "start"
    kept = DecayPolicy(target="start", targets={"shift": "zero"})
    assert kept.target_of("x", Role.SHIFT) == "zero"
    assert DecayPolicy(targets={"*.bias": "start"}).target_of("a.bias", Role.SHIFT) == "start"


@pytest.mark.parametrize(
    ("target", "role"),
    [("one", Role.WEIGHT), ("start", Role.BIAS), ("start", Role.EMBEDDING), ("one", Role.SHIFT)],
)
def test_a_pattern_of_targets_that_matches_no_gain_is_named(target: str, role: Role) -> None:
    policy = DecayPolicy(targets={"a.*": target})  # type: ignore[dict-item]
    with pytest.raises(GammaError, match=rf"'a\.\*'\] is '{target}' and matches 'a.w', whose role"):
        policy.target_of("a.w", role)
    for harmless in ("zero", "stored"):
        same = dataclasses.replace(policy, targets={"a.*": harmless})
        assert same.target_of("a.w", role) == harmless


def test_schedules_go_by_pattern_then_normalized_then_role_or_kind() -> None:
    policy = DecayPolicy(
        schedule="constant",  # type: ignore[arg-type]
        schedules={"weight": "linear", "normalized": "lr_squared", "b.*": "cosine", "head": "lr"},
    )

    def kind(name: str, what: object, **said: bool) -> str:
        return policy.schedule_of(name, what, **said).kind  # type: ignore[arg-type]

    assert kind("a", Role.WEIGHT) == "linear"
    assert kind("a", Role.EMBEDDING) == "linear"
    assert kind("a", Role.WEIGHT, normalized=True) == "lr_squared"
    assert kind("b.a", Role.WEIGHT, normalized=True) == "cosine"
    assert kind("a", gain("a", Category.HEAD)) == "lr"
    assert kind("a", gain("a", Category.SHORTCUT)) == "constant"
    assert kind("a", Role.OTHER) == "constant"


def test_a_rule_without_the_model_is_named_and_a_pattern_wins_over_it() -> None:
    policy = DecayPolicy(rule="timm", patterns={"a": 2.0})
    with pytest.raises(GammaError, match="'timm' decides by name, class and shape"):
        policy.multiplier("w", Role.WEIGHT)
    assert policy.multiplier("w", Role.WEIGHT, spared={"w"}) == 0.0
    assert policy.multiplier("w", Role.WEIGHT, spared=set()) == 1.0
    assert policy.multiplier("a", Role.WEIGHT, spared={"a"}) == 2.0


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_a_ramp_needs_steps_from_the_policy_or_from_the_plan(kind: str) -> None:
    make = partial(
        make_optimizer, torch.optim.AdamW, Toy(), weight_decay=0.1, lr=0.1, table=toy_table()
    )
    ramp = DecayPolicy(schedule=kind)  # type: ignore[arg-type]
    with pytest.raises(
        GammaError, match=rf"needs the number .* write {{kind: {kind}, steps: ...}}"
    ):
        make(policy=ramp)
    make(policy=ramp, rates=[0.1] * 5)
    make(policy=DecayPolicy(schedule=Schedule(kind=kind, steps=5)))  # type: ignore[arg-type]
