"""Checkpoints of fairseq as folders of translation runs, and back."""

from __future__ import annotations

import importlib.util
import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from gamma_nlp import GammaError
from gamma_nlp.fairseq import commands, shims

if importlib.util.find_spec("fairseq") is None:
    pytest.skip(f"fairseq is not installed: {shims.INSTALL}", allow_module_level=True)

from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM

from gamma_nlp.cli import main as cli
from gamma_nlp.fairseq import __main__ as main
from gamma_nlp.fairseq.convert.files import from_transformers, to_transformers
from gamma_nlp.tasks.translation.architecture import build_translator
from gamma_nlp.tasks.translation.checkpoints import load_saved
from gamma_nlp.tasks.translation.text import TranslationText, read_prepared
from tests.support.fairseq_models import (
    PRENORM,
    TINY,
    Corpus,
    as_older_release,
    binarised,
    fairseq_logits,
    load,
    model_state,
    our_logits,
    save,
)
from tests.support.fairseq_runs import call, quiet
from tests.support.translation_runs import prepared_corpus

SOURCES = [["Der", "x", "."], ["Frau"], ["den", "Hund", ".", "sieht", "Der", "Mann", "."]]
TARGETS = [["The", "dog", "sees", "."], ["the", "x", "cat", "."], ["ball"]]
SHARING = {
    "all": ["--share-all-embeddings"],
    "output": ["--share-decoder-input-output-embed"],
    "none": [],
}
ENDS = [len(words) + 1 for words in TARGETS]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = tmp_path_factory.mktemp("convert")
    with quiet():
        commands.prepare("fairseq_cli.preprocess")
    return binarised(prepared_corpus(folder), folder)


def convert(state: dict[str, Any], data: Path, corpus: Corpus, folder: Path) -> Path:
    checkpoint = save(state, folder / "checkpoint_best.pt")
    to_transformers(checkpoint, data, corpus.prepared, folder / "run")
    return folder / "run"


def difference(checkpoint: Path, data: Path, run: Path) -> float:
    """The largest between the logits of both, for every token that both have."""
    theirs = load(checkpoint, data)
    text = TranslationText.load(run)
    model = AutoModelForSeq2SeqLM.from_pretrained(run / "averaged")
    order = [theirs.decoder.dictionary.index(word) for word in ids(text.target)]
    left = fairseq_logits(theirs, SOURCES, TARGETS)[:, :, order]
    right = our_logits(model, text, SOURCES, TARGETS)
    assert left.shape == right.shape
    return max(
        float((one - other)[:end].abs().max())
        for one, other, end in zip(left, right, ENDS, strict=True)
    )


def ids(tokenizer: Any) -> list[str]:
    vocabulary = tokenizer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


# From fairseq.


@pytest.mark.parametrize("norm", [[], PRENORM], ids=["postnorm", "prenorm"])
@pytest.mark.parametrize("sharing", SHARING)
def test_a_checkpoint_gives_the_same_logits_in_transformers(
    corpus: Corpus, tmp_path: Path, norm: list[str], sharing: str
) -> None:
    state = model_state(corpus.joined, *norm, *SHARING[sharing])
    run = convert(state, corpus.joined, corpus, tmp_path)
    assert difference(tmp_path / "checkpoint_best.pt", corpus.joined, run) < 1e-5


@pytest.mark.parametrize("sharing", ["output", "none"])
def test_a_dictionary_for_each_language_stays_one_for_each(
    corpus: Corpus, tmp_path: Path, sharing: str
) -> None:
    state = model_state(corpus.separate, *SHARING[sharing])
    run = convert(state, corpus.separate, corpus, tmp_path)
    text = TranslationText.load(run)
    assert len(text.source) != len(text.target)
    assert difference(tmp_path / "checkpoint_best.pt", corpus.separate, run) < 1e-5


@pytest.mark.parametrize(
    "options",
    [
        ["--no-scale-embedding"],
        ["--no-token-positional-embeddings"],
        ["--encoder-learned-pos", "--decoder-learned-pos"],
        ["--decoder-learned-pos"],
        ["--activation-fn", "gelu"],
        ["--activation-fn", "gelu_accurate"],
        ["--activation-fn", "tanh"],
        ["--activation-fn", "linear"],
        ["--encoder-layerdrop", "0.5", "--decoder-layerdrop", "0.5"],
    ],
    ids=lambda words: " ".join(words),
)
def test_options_that_both_know_change_nothing(
    corpus: Corpus, tmp_path: Path, options: list[str]
) -> None:
    state = model_state(corpus.joined, *SHARING["all"], *options)
    run = convert(state, corpus.joined, corpus, tmp_path)
    assert difference(tmp_path / "checkpoint_best.pt", corpus.joined, run) < 1e-5


@pytest.mark.parametrize("norm", [[], PRENORM], ids=["postnorm", "prenorm"])
def test_a_checkpoint_of_an_older_fairseq_is_the_same_model(
    corpus: Corpus, tmp_path: Path, norm: list[str]
) -> None:
    state = model_state(corpus.joined, *norm, *SHARING["all"])
    expected = convert(state, corpus.joined, corpus, tmp_path)
    (tmp_path / "old").mkdir()
    found = convert(as_older_release(state), corpus.joined, corpus, tmp_path / "old")
    assert same(found, expected)


def test_weights_that_plain_fairseq_saves_and_never_uses_are_left_out(
    corpus: Corpus, tmp_path: Path
) -> None:
    state = model_state(corpus.joined, *SHARING["all"])
    expected = convert(state, corpus.joined, corpus, tmp_path)
    for name in ("in_proj", "out_proj", "fc1", "fc2"):
        for kind in ("weight", "bias"):
            state["model"][f"encoder.layers.0.{name}_{kind}"] = torch.ones(2)
    (tmp_path / "plain").mkdir()
    assert same(convert(state, corpus.joined, corpus, tmp_path / "plain"), expected)


def test_languages_come_from_the_names_of_the_data_where_the_run_was_not_told(
    corpus: Corpus, tmp_path: Path
) -> None:
    state = model_state(corpus.joined, *SHARING["all"])
    for name in ("source_lang", "target_lang"):
        state["cfg"]["task"][name] = None
    text = TranslationText.load(convert(state, corpus.joined, corpus, tmp_path))
    assert (text.source_language, text.target_language) == ("de", "en")
    bare = tmp_path / "bare"
    bare.mkdir()
    with pytest.raises(GammaError, match=r"nor the files in .*bare tell the languages"):
        to_transformers(tmp_path / "checkpoint_best.pt", bare, corpus.prepared, tmp_path / "other")


def same(one: Path, other: Path) -> bool:
    first, second = (load_file(run / "averaged" / "model.safetensors") for run in (one, other))
    return first.keys() == second.keys() and all(first[n].equal(second[n]) for n in first)


def test_the_run_has_the_recipes_ids_and_the_longer_of_both_lengths(
    corpus: Corpus, tmp_path: Path
) -> None:
    state = model_state(corpus.joined, *SHARING["all"])
    run = convert(state, corpus.joined, corpus, tmp_path)
    text = TranslationText.load(run)
    assert ids(text.source)[:4] == ["<pad>", "</s>", "<unk>", "<s>"]
    config = json.loads((run / "averaged" / "config.json").read_text())
    assert config["max_position_embeddings"] == 40
    settings = json.loads((run / "averaged" / "generation_config.json").read_text())
    wanted = {"pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 1}
    assert {name: settings[name] for name in wanted} == wanted
    assert settings.get("forced_eos_token_id") is None


def test_a_learned_table_limits_the_positions(corpus: Corpus, tmp_path: Path) -> None:
    options = ["--encoder-learned-pos", "--decoder-learned-pos"]
    run = convert(model_state(corpus.joined, *options), corpus.joined, corpus, tmp_path)
    config = json.loads((run / "averaged" / "config.json").read_text())
    assert config["max_position_embeddings"] == 32


def test_positions_survive_being_loaded_and_saved_again(corpus: Corpus, tmp_path: Path) -> None:
    state = model_state(corpus.joined, *SHARING["all"])
    run = convert(state, corpus.joined, corpus, tmp_path)
    load_saved(run / "averaged").save_pretrained(tmp_path / "again" / "averaged")
    shutil.copytree(run / "text", tmp_path / "again" / "text")
    assert same(run, tmp_path / "again")


# To fairseq.


def our_run(corpus: Corpus, folder: Path, kind: str, *, joint: bool, **fields: Any) -> Path:
    """A run's folder with random weights, gains and biases."""
    text = read_prepared(corpus.prepared, "de", "en", joint=joint)
    sizes = {
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 2,
        "encoder_ffn_dim": 24,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 24,
    }
    torch.manual_seed(1)
    model = build_translator({"model_type": kind, **sizes, **fields}, text)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter), alpha=0.2)
    text.save(folder)
    model.save_pretrained(folder / "averaged")
    return folder


@pytest.mark.parametrize(
    ("kind", "joint", "fields"),
    [
        ("marian", True, {}),
        ("marian", True, {"scale_embedding": True, "activation_function": "relu"}),
        ("marian", False, {"activation_function": "gelu_new"}),
        ("marian", False, {"tie_word_embeddings": False}),
        ("pegasus", True, {"scale_embedding": True}),
        ("pegasus", True, {"tie_word_embeddings": False}),
    ],
)
def test_a_run_gives_the_same_logits_in_fairseq(
    corpus: Corpus, tmp_path: Path, kind: str, joint: bool, fields: dict[str, Any]
) -> None:
    run = our_run(corpus, tmp_path / "run", kind, joint=joint, **fields)
    from_transformers(run, tmp_path / "out")
    assert difference(tmp_path / "out" / "checkpoint.pt", tmp_path / "out", run) < 1e-5


@pytest.mark.parametrize("kind", ["marian", "pegasus"])
def test_there_and_back_again_is_bit_for_bit_the_run(
    corpus: Corpus, tmp_path: Path, kind: str
) -> None:
    run = our_run(corpus, tmp_path / "run", kind, joint=True)
    from_transformers(run, tmp_path / "out")
    back = tmp_path / "back"
    to_transformers(tmp_path / "out" / "checkpoint.pt", tmp_path / "out", corpus.prepared, back)
    text, other = TranslationText.load(run), TranslationText.load(back)
    first, second = (
        AutoModelForSeq2SeqLM.from_pretrained(run / "averaged"),
        load_saved(back / "averaged"),
    )
    found, order = second.state_dict(), [ids(other.source).index(w) for w in ids(text.source)]
    for name, tensor in first.state_dict().items():
        tokens = tensor.dim() > 1 and len(found[name]) == len(other.source)
        assert torch.equal(found[name][order] if tokens else found[name], tensor) or (
            name == "final_logits_bias" and not found[name].any()
        ), name


@pytest.mark.parametrize("norm", [[], PRENORM], ids=["postnorm", "prenorm"])
@pytest.mark.parametrize("sharing", ["all", "none"])
def test_fairseqs_checkpoint_comes_back_bit_for_bit(
    corpus: Corpus, tmp_path: Path, norm: list[str], sharing: str
) -> None:
    state = model_state(corpus.joined, *norm, *SHARING[sharing])
    words = from_transformers(convert(state, corpus.joined, corpus, tmp_path), tmp_path / "out")
    assert "--encoder-learned-pos" not in words
    back = load(tmp_path / "out" / "checkpoint.pt", tmp_path / "out").state_dict()
    assert back.keys() == state["model"].keys()
    floats = [name for name in back if not name.endswith("_float_tensor")]  # never initialised
    assert all(torch.equal(back[name], state["model"][name]) for name in floats)
    for language in ("de", "en"):
        written, given = (
            [
                line.split(" ")[0]
                for line in (folder / f"dict.{language}.txt").read_text().split("\n")
            ]
            for folder in (tmp_path / "out", corpus.joined)
        )
        assert written == given


def test_without_a_start_token_fairseqs_has_the_weights_of_the_padding(
    corpus: Corpus, tmp_path: Path
) -> None:
    run = our_run(corpus, tmp_path / "run", "marian", joint=False)
    from_transformers(run, tmp_path / "out")
    weights = load(tmp_path / "out" / "checkpoint.pt", tmp_path / "out").state_dict()
    for name in ("encoder.embed_tokens.weight", "decoder.output_projection.weight"):
        assert torch.equal(weights[name][0], weights[name][1])


# Both commands, and what follows them.


def command(*words: object) -> int:
    """``python -m gamma_nlp.fairseq ...``."""
    with quiet(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["gamma_nlp.fairseq", *map(str, words)])
        return main.main()


def hypotheses(output: str) -> list[str]:
    """What fairseq-generate printed, in the order of the input."""
    lines = [line.split("\t") for line in output.splitlines() if line.startswith("H-")]
    return [line[2] for line in sorted(lines, key=lambda line: int(line[0][2:]))]


@pytest.mark.slow
@pytest.mark.parametrize("norm", [[], PRENORM], ids=["postnorm", "prenorm"])
def test_a_trained_model_translates_the_same_there_here_and_back_there(
    corpus: Corpus, tmp_path: Path, norm: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    model = [*TINY, *norm, *SHARING["all"], "--encoder-embed-dim", "32"]
    model += ["--decoder-embed-dim", "32", "--dropout", "0"]
    training = ["--criterion", "label_smoothed_cross_entropy", "--optimizer", "adam", "--lr"]
    training += ["0.01", "--max-tokens", "600", "--num-workers", "0", "--disable-validation"]
    training += ["--cpu", "--no-epoch-checkpoints"]
    save_dir = ["--save-dir", tmp_path / "there"]
    assert call("train", corpus.joined, *model, *training, *save_dir, "--max-update", 60) == 0
    checkpoint = tmp_path / "there" / "checkpoint_last.pt"
    words = ["--data", corpus.joined, "--prepared", corpus.prepared, "--output", tmp_path / "run"]
    assert command("to-transformers", checkpoint, *words) == 0
    out = tmp_path / "out"
    capsys.readouterr()
    assert command("from-transformers", tmp_path / "run", "--output", out) == 0
    told = capsys.readouterr().out
    # What the command tells to do next, with the folders filled in.
    filled = told.replace("PREPARED/TEST", "PREPARED/test")
    filled = filled.replace("PREPARED", str(corpus.prepared)).replace("DATA_BIN", f"{tmp_path}/bin")
    steps = [line.split() for line in filled.splitlines() if line.startswith("  gamma-fairseq-")]
    preprocess, generate, train = (step[1:] for step in steps)
    assert call("preprocess", *preprocess) == 0
    raw = corpus.prepared / "raw" / "test.de"
    for beams in (1, 4):
        search = ["--gen-subset", "test", "--beam", beams, "--remove-bpe", "--cpu"]
        capsys.readouterr()
        assert call("generate", corpus.joined, "--path", checkpoint, *search) == 0
        there = hypotheses(capsys.readouterr().out)
        beam = ["--beam", str(beams), "--cpu"]
        assert call("generate", *generate, *beam) == 0
        back = hypotheses(capsys.readouterr().out)
        ours = ["translate", str(tmp_path / "run"), str(raw), "--tokens", "--beams", str(beams)]
        assert cli.main(ours) == 0
        assert capsys.readouterr().out.splitlines() == there == back
        assert len(there) == 7 and len(set(there)) > 1
    # The rest of the last line is the user's own.
    save_dir = ["--save-dir", tmp_path / "on", "--max-update", 1]
    assert call("train", *train[:-1], *training, *save_dir) == 0
    resets = [f"--reset-{what}" for what in ("optimizer", "dataloader", "meters", "lr-scheduler")]
    restored = [tmp_path / "bin", *train[3:-1], "--restore-file", out / "checkpoint.pt", *resets]
    save_dir = ["--save-dir", tmp_path / "restored", "--max-update", 1]
    assert call("train", *restored, *training, *save_dir) == 0
    first, second = (
        load(tmp_path / name / "checkpoint_last.pt", tmp_path / "bin").state_dict()
        for name in ("on", "restored")
    )
    assert all(torch.equal(first[n], second[n]) for n in first if "_float_tensor" not in n)


def test_commands_that_are_printed_can_be_pasted(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, out = our_run(corpus, tmp_path / "my run", "marian", joint=True), tmp_path / "my out"
    assert command("from-transformers", run, "--output", out) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()[2:5]]
    assert [line[-1] for line in lines] == ["DATA_BIN", "--remove-bpe", "..."]
    assert f"{out}/dict.de.txt" in lines[0] and f"{out}/dict.en.txt" in lines[0]
    assert all(f"{out}/checkpoint.pt" in line for line in lines[1:])
    back = tmp_path / "and back"
    words = ["--data", out, "--prepared", corpus.prepared, "--output", back]
    assert command("to-transformers", out / "checkpoint.pt", *words) == 0
    told = shlex.split(capsys.readouterr().out.splitlines()[1])
    assert told == ["gamma-nlp", "translate", str(back), "FILE"]


def test_learned_positions_are_announced(
    corpus: Corpus, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = our_run(corpus, tmp_path / "run", "marian", joint=True)
    assert command("from_transformers", run, "--output", tmp_path / "out") == 0
    told = capsys.readouterr().out
    assert "--encoder-learned-pos --decoder-learned-pos" in told
    assert "which fairseq goes on to train" in told


# What cannot be converted.


@pytest.mark.parametrize(
    "options",
    [
        "--layernorm-embedding",
        "--adaptive-softmax-cutoff 8",
        "--no-cross-attention",
        "--cross-self-attention",
        "--quant-noise-pq 0.1",
        "--quant-noise-scalar 0.1",
        "--encoder-layers-to-keep 0",
        "--decoder-layers-to-keep 0",
        "--encoder-normalize-before with one side only",
        "--decoder-embed-dim 24",
        "--decoder-output-dim 8",
        "--base-layers 1",
    ],
)
def test_an_option_that_transformers_lacks_is_named(
    corpus: Corpus, tmp_path: Path, options: str
) -> None:
    state = model_state(corpus.joined)
    name, *values = options.split(" ")
    field = name.removeprefix("--").replace("-", "_")
    value: Any = True if not values or values[0] == "with" else values[0]
    numeric = ("dim", "noise_pq", "scalar", "base_layers")
    setattr(state["cfg"]["model"], field, float(value) if field.endswith(numeric) else value)
    if field.endswith("dim") or field == "base_layers":
        setattr(state["cfg"]["model"], field, int(values[0]))
    with pytest.raises(GammaError, match=f"trained with {name}.*Train without it, or translate"):
        convert(state, corpus.joined, corpus, tmp_path)
    assert not (tmp_path / "run").exists()


def test_prenorm_without_a_last_norm_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    state = model_state(corpus.joined, *PRENORM, "--no-decoder-final-norm")
    with pytest.raises(GammaError, match="--no-decoder-final-norm"):
        convert(state, corpus.joined, corpus, tmp_path)
    state = model_state(corpus.joined, *PRENORM)
    for side in ("encoder", "decoder"):
        state["model"][f"{side}.version"] = torch.ones(1)
        for kind in ("weight", "bias"):
            del state["model"][f"{side}.layer_norm.{kind}"]
    with pytest.raises(GammaError, match="did not normalise after the last layer"):
        convert(state, corpus.joined, corpus, tmp_path)


def test_prenorm_with_two_dictionaries_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    state = model_state(corpus.separate, *PRENORM)
    with pytest.raises(GammaError, match="train with --joined-dictionary"):
        convert(state, corpus.separate, corpus, tmp_path)


def test_another_architecture_or_task_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    state = model_state(corpus.joined)
    state["cfg"]["model"].arch = "lstm"
    with pytest.raises(GammaError, match="--arch lstm and --task translation; only"):
        convert(state, corpus.joined, corpus, tmp_path)
    state["cfg"]["model"].arch = "transformer_iwslt_de_en"
    state["cfg"]["task"]["_name"] = "translation_lev"
    with pytest.raises(GammaError, match="--task translation_lev; only"):
        convert(state, corpus.joined, corpus, tmp_path)


def test_an_activation_that_transformers_lacks_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    state = model_state(corpus.joined)
    state["cfg"]["model"].activation_fn = "swish"
    with pytest.raises(GammaError, match="--activation-fn swish; these can be converted: relu, "):
        convert(state, corpus.joined, corpus, tmp_path)


def test_wrong_files_and_folders_are_named(corpus: Corpus, tmp_path: Path) -> None:
    checkpoint = save(model_state(corpus.joined), tmp_path / "checkpoint.pt")
    run, junk = tmp_path / "run", tmp_path / "junk.pt"
    junk.write_bytes(b"junk")
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").touch()
    good = (checkpoint, corpus.joined, corpus.prepared, run)
    for place, wrong, message in (
        (0, tmp_path / "no.pt", "there is no checkpoint .*no.pt; give a .pt file"),
        (0, junk, "junk.pt cannot be loaded as a model of fairseq's transformer: "),
        (1, tmp_path / "no", "there is no folder .*no; give the --destdir"),
        (1, tmp_path, "--data .* has no dict.de.txt; give the --destdir"),
        (1, corpus.separate, "the encoder of .* tokens, the dictionary in .*; give the --data"),
        (2, tmp_path, "is not a prepared folder"),
        (3, full, "--output .*full is there and not empty; give a new folder"),
        (3, checkpoint, "--output .* is not a folder"),
    ):
        given = [wrong if index == place else path for index, path in enumerate(good)]
        with pytest.raises(GammaError, match=message):
            to_transformers(*given)
    assert not run.exists()


def test_subwords_of_other_data_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(corpus.prepared, other)
    (other / "vocab").write_text("Hund 1\n")
    checkpoint = save(model_state(corpus.joined), tmp_path / "checkpoint.pt")
    with pytest.raises(GammaError, match=r"words of .*dict.de.txt .* its subwords are others"):
        to_transformers(checkpoint, corpus.joined, other, tmp_path / "run")


def test_a_damaged_checkpoint_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    state = model_state(corpus.joined)
    del state["model"]["decoder.layers.0.fc1.weight"]
    with pytest.raises(GammaError, match=r"cannot be loaded .*decoder\.layers\.0\.fc1\.weight"):
        convert(state, corpus.joined, corpus, tmp_path)


def test_models_that_fairseq_lacks_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    for number, (fields, message) in enumerate(
        (
            ({"kind": "bart"}, "model_type bart has no counterpart in fairseq"),
            ({"kind": "marian", "activation_function": "silu"}, "activation_function silu is not"),
        )
    ):
        run = our_run(corpus, tmp_path / str(number), joint=True, **fields)
        with pytest.raises(GammaError, match=message):
            from_transformers(run, tmp_path / "out")
    run = our_run(corpus, tmp_path / "run", "pegasus", joint=True)
    model = load_saved(run / "averaged")
    model.final_logits_bias += 1
    model.save_pretrained(run / "averaged")
    with pytest.raises(GammaError, match="final_logits_bias to its output, which fairseq does not"):
        from_transformers(run, tmp_path / "out")
    model.final_logits_bias.zero_()
    model.resize_token_embeddings(99, mean_resizing=False)
    model.save_pretrained(run / "averaged")
    with pytest.raises(GammaError, match=r"a vocabulary of 99 tokens, text/ of"):
        from_transformers(run, tmp_path / "out")
    with pytest.raises(GammaError, match="is not the folder of a translation run"):
        from_transformers(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_error_of_the_commands_has_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--data", tmp_path, "--prepared", tmp_path, "--output", tmp_path / "out"]
    assert command("to-transformers", tmp_path / "no.pt", *words) == 2
    assert command("from-transformers", tmp_path, "--output", tmp_path / "out") == 2
    errors = capsys.readouterr().err.splitlines()
    assert [line.startswith("error: ") for line in errors] == [True, True]
    assert command("nonsense") == 2
    assert "to-transformers, from-transformers" in capsys.readouterr().err
