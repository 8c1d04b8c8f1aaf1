"""The kinds of input, one for each reader: good files to damage, and the way a user meets them."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import nn

from gamma_nlp import DecayPolicy
from gamma_nlp.errors import GammaError
from tests.support.fuzz.inputs import Files, Link, read

POLICY = {
    "base": "all", "name": "mine", "branch_inner": 0.5, "embedding": None,
    "kinds": {"qk_norm": 0}, "patterns": {"*.bias": 0.1, "h.*": 2}, "mode": "coupled",
    "targets": {"branch_last": "one", "*.b": "start"}, "rounding": "keep",
    "schedule": {"kind": "cosine", "end": 0.1}, "schedules": {"head": "lr_squared"},
}  # fmt: skip
SMALL = {"hidden_size": 8, "intermediate_size": 16, "num_attention_heads": 2, "vocab_size": 16,
         "num_hidden_layers": 2, "max_position_embeddings": 8}  # fmt: skip
BERT = {
    "model_type": "bert", "architectures": ["BertForSequenceClassification"], **SMALL,
    "layer_norm_eps": 1e-12, "hidden_act": "gelu", "dtype": "float32", "pad_token_id": 0,
    "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
}  # fmt: skip
CONFIGS = (
    BERT,
    {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **SMALL,
     "num_key_value_heads": 1, "rope_theta": 1e4, "tie_word_embeddings": False},
    {"model_type": "bart", "d_model": 8, "encoder_layers": 1, "decoder_layers": 1,
     "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 8,
     "decoder_ffn_dim": 8, "vocab_size": 16, "max_position_embeddings": 16},
    {"model_type": "marian", "architectures": ["MarianMTModel"], "d_model": 8,
     "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
     "decoder_attention_heads": 2, "vocab_size": 16, "pad_token_id": 1,
     "decoder_start_token_id": 1,
     "max_position_embeddings": 16},
    {"model_type": "mixtral", **SMALL, "num_local_experts": 2, "num_experts_per_tok": 1,
     "num_key_value_heads": 1},
    {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", **SMALL, "head_dim": 4,
     "num_key_value_heads": 1, "layer_types": ["sliding_attention", "full_attention"]},
     "vision_config": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
     "intermediate_size": 8, "image_size": 16, "patch_size": 8}},
    {"model_type": "swin", "depths": [1, 1], "num_heads": [1, 2], "embed_dim": 8,
     "image_size": 32, "patch_size": 4, "window_size": 4},
    {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.C", "AutoModel": "theirs.M"}},
)  # fmt: skip
LOG = "".join(f"S-{n}\tein Hund {n}\nT-{n}\ta dog {n}\nH-{n}\t-0.5\ta dog {n}\n" for n in range(4))
LOG += "Generate test with beam=5: BLEU4 = 100.00, 100.0/100.0/100.0/100.0 (BP=1.000)\n"
THEIRS = b"open('ran', 'w').close()\nclass C: pass\nclass M: pass\n"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of input.

    Attributes:
        good: Makes sets of whole files, in turn the base of an input.
        read: Reads a folder that holds such files, possibly damaged.
        share: How much of a fuzz run it gets, beside the others.
        hostile: Inputs that are tried as they are, besides.
    """

    good: Callable[[], tuple[dict[str, bytes], ...]]
    read: Callable[[Path], None]
    share: float = 1.0
    hostile: Callable[[], tuple[Files, ...]] = lambda: ()


class _Touch:
    """Runs a command where somebody unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, ("touch ran",)


def _dump(content: Any) -> bytes:
    return json.dumps(content, indent=1).encode()


def _torch(content: Any) -> bytes:
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def _made(make: Callable[[Path], object]) -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        return read(Path(folder))


def _policy(folder: Path) -> None:
    for file in folder.iterdir():
        found = DecayPolicy.load(file)
        assert all(0 <= value < float("inf") for value in found.patterns.values())


@cache
def _tokenizer() -> Any:
    from gamma_nlp.tasks.glue.tokenizer import train_tokenizer

    return train_tokenizer(["a dog sees a cat", "the ball"], 60)


def _recipe(folder: Path) -> None:
    from gamma_nlp.tasks.glue.arguments import read_arguments
    from gamma_nlp.tasks.glue.model import build_classifier
    from gamma_nlp.tasks.glue.ready import fields_of
    from gamma_nlp.tasks.glue.tasks import glue_task

    recipe, _ = read_arguments([str(folder / "recipe.yaml"), "--use_cpu"])
    fields = fields_of(recipe)
    if fields is not None:
        build_classifier(fields, glue_task(recipe.task), _tokenizer())


def _translation_recipe(folder: Path) -> None:
    from gamma_nlp.tasks.run.model_config import model_fields
    from gamma_nlp.tasks.translation.arguments import read_arguments

    recipe, _ = read_arguments([str(folder / "recipe.yaml"), "--use_cpu"])
    model_fields(recipe.model_config or {})


def _glue(folder: Path) -> None:
    from gamma_nlp.tasks.glue.data import read_tsv
    from gamma_nlp.tasks.glue.tasks import glue_task

    for file in folder.iterdir():
        read_tsv(file, glue_task(file.name.partition("-")[0]))


def _parallel(folder: Path) -> None:
    from gamma_nlp.tasks.translation.prepare.cleaning import Cleaning, Preparation
    from gamma_nlp.tasks.translation.prepare.prepare import prepare, read_corpus

    corpus = read_corpus(folder / "text", ("de", "en"))
    recipe = Preparation(merges=20, cleaning=Cleaning(max_ratio=3), valid_every=5)
    try:
        prepare(corpus, recipe, folder / "out", source=folder / "text")
    except GammaError:
        left = sorted(path.name for path in folder.iterdir() if path.name != "text")
        assert not left, f"a preparation that was refused leaves {left}"
        raise


def _parallel_files() -> dict[str, bytes]:
    lines = {"de": "Ein Hund sieht einen Ball {}.", "en": "A dog sees a ball {}."}
    return {
        f"text/{split}.{language}": "".join(f"{line.format(n)}\n" for n in range(count)).encode()
        for language, line in lines.items()
        for split, count in (("train", 12), ("val", 3), ("test_x", 3))
    }


def _gain_table(folder: Path) -> None:
    from gamma_nlp.diagnose.placement import read_table

    read_table(folder / "gain_table.json")


def _gain_table_files() -> dict[str, bytes]:
    from gamma_nlp import categorize
    from tests.support.tiny_models import tiny_bert

    return {"gain_table.json": categorize(tiny_bert()).to_json().encode()}


def _study(folder: Path) -> None:
    from gamma_nlp.study.report.findings import findings
    from gamma_nlp.study.report.write import FORMATS
    from gamma_nlp.study.results.found import find

    FORMATS["text"](findings(find(folder)))


def _loose(folder: Path) -> None:
    from gamma_nlp.study.results.found import find

    find(folder, metric=["accuracy"], baseline="none")


def _study_files() -> tuple[dict[str, bytes], ...]:
    from tests.support.studies import Fake, write_bare

    scores = {"none": [0.5, 0.6, 0.55], "all": [0.7, 0.6, 0.65]}
    return (
        _made(lambda folder: write_bare(folder, scores)),
        _made(lambda folder: Fake(items=8, seeds=(1, 2)).write(folder)),
    )


def _loose_files() -> tuple[dict[str, bytes], ...]:
    studies = _study_files()
    return tuple({k: v for k, v in one.items() if k != "study.json"} for one in studies)


def _study_config(folder: Path) -> None:
    from gamma_nlp.study.design.config import read_study

    read_study(folder / "study.yaml")


def _study_config_files() -> tuple[dict[str, bytes], ...]:
    command = ["python", "train.py", "--seed", "{seed}", "--arm", "{arm}", "--out", "{folder}"]
    content = {
        "name": "x", "about": "y", "command": command, "set": {"seconds": 0.01}, "seeds": 3,
        "arms": {"none": {"policy": "none"}, "all": {"set": {"seconds": 0.02}}},
        "baseline": "none", "metric": {"score": "a.b", "higher_is_better": True},
        "smallest_difference": 0.5,
        "output": "out", "threads": 1,
    }  # fmt: skip
    recipe = {
        "recipe": {"engine": "glue", "file": "recipe.yaml"}, "set": {"num_train_epochs": 1},
        "arms": {"none": {"policy": "none"}, "all": {"policy": "all"}}, "baseline": "none",
        "doses": [0.1, 0.2], "seeds": [1, 2],
        "metric": "accuracy", "smallest_difference": 0.5, "output": "out",
    }  # fmt: skip
    return (
        {"study.yaml": yaml.safe_dump(content).encode(), "train.py": b"pass\n"},
        {"study.yaml": yaml.safe_dump(recipe).encode(), **_recipe_files()},
    )


def _recipe_files() -> dict[str, bytes]:
    content = {
        "task": "sst2", "data": "opinions", "model_config": {"model_type": "bert", **SMALL},
        "output_dir": "out", "decay_policy": "guidelines", "learning_rate": 1e-3, "dose": 0.1,
        "num_train_epochs": 1, "per_device_train_batch_size": 8, "seed": 1, "max_length": 8,
        "lr_scheduler_type": "linear", "report_to": "none", "padding": "longest",
    }  # fmt: skip
    del content["model_config"]["max_position_embeddings"], content["model_config"]["vocab_size"]
    return {"recipe.yaml": yaml.safe_dump(content).encode()}


def _translation_recipe_files() -> dict[str, bytes]:
    content = {
        "data": "prepared", "source_language": "de", "target_language": "en", "output_dir": "out",
        "model_config": {"model_type": "marian", "d_model": 8, "encoder_layers": 1},
        "decay_policy": "none", "max_steps": 10, "learning_rate": "5e-4", "weight_decay": 0.1,
    }  # fmt: skip
    return {"recipe.yaml": yaml.safe_dump(content).encode()}


def _config(folder: Path) -> None:
    from gamma_nlp.hf.models import load_model

    assert isinstance(load_model(folder), nn.Module)


def _config_files() -> tuple[dict[str, bytes], ...]:
    return tuple({"config.json": _dump(one), "theirs.py": THEIRS} for one in CONFIGS)


def _diagnose(folder: Path) -> None:
    from gamma_nlp.diagnose.diagnosis import diagnose
    from gamma_nlp.diagnose.report import report

    report(diagnose([folder / "run"]))


def _diagnose_files() -> tuple[dict[str, bytes], ...]:
    from tests.support.checkpoints import run_of_bert

    state = _dump(
        {"global_step": 5, "best_model_checkpoint": "run/checkpoint-5", "log_history": []}
    )
    whole = _made(lambda folder: run_of_bert(folder / "run", {5: 1.0, 9: 2.0}, layers=1))
    whole["run/checkpoint-5/trainer_state.json"] = state
    first = {k: v for k, v in whole.items() if "checkpoint-5" in k}
    tensors = {"a.weight": torch.ones(3), "bert.embeddings.LayerNorm.weight": torch.ones(8)}
    place, weights = "run/checkpoint-5", "run/checkpoint-5/model.safetensors"
    index = {"weight_map": {name: "model.safetensors" for name in tensors}}
    config = {f"{place}/config.json": first[f"{place}/config.json"]}
    return (
        whole,
        {**first, **_gain_table_of(place)},
        {**config, f"{place}/pytorch_model.bin": _torch(tensors)},
        {**config, weights: first[weights], f"{place}/model.safetensors.index.json": _dump(index)},
    )


def _gain_table_of(place: str) -> dict[str, bytes]:
    return {f"{place}/{name}": data for name, data in _gain_table_files().items()}


def _diagnose_hostile() -> tuple[Files, ...]:
    place = "run/checkpoint-5"
    config = {f"{place}/config.json": _dump(BERT)}
    meta = {"x": torch.ones(1).expand(10**6, 10**6)}
    return (
        {**config, f"{place}/pytorch_model.bin": _torch({"a": _Touch()})},
        {**config, f"{place}/pytorch_model.bin": pickle.dumps(_Touch())},
        {**config, f"{place}/pytorch_model.bin": _torch(meta)},
        {**config, f"{place}/model.safetensors": Link("model.safetensors")},
        {f"{place}/config.json": Link("../../run/checkpoint-5")},
    )


def _translation_run(folder: Path) -> None:
    from gamma_nlp.tasks.translation.checkpoints import find_model, load_saved
    from gamma_nlp.tasks.translation.text import TranslationText

    text = TranslationText.load(folder / "run")
    load_saved(find_model(folder / "run"))
    text.encode_source(text.subwords(["Ein Hund sieht 3."]))


def _translation_run_files() -> tuple[dict[str, bytes], ...]:
    from tests.support.tiny_run import tiny_run

    whole = _made(tiny_run)
    return ({name: data for name, data in whole.items() if name.startswith("run/")},)


def _archive(folder: Path) -> None:
    from gamma_nlp.tasks.translation.prepare import iwslt14
    from gamma_nlp.tasks.translation.prepare.prepare import read_corpus

    assert read_corpus(folder / "de-en.tgz", iwslt14.LANGUAGES).names


def _archive_files() -> tuple[dict[str, bytes], ...]:
    from tests.support.parallel_corpora import archive_files, tgz

    return ({"de-en.tgz": tgz(archive_files())},)


def small() -> nn.Module:
    """A model of which some tensors are stored without their zeros."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 9), nn.Linear(9, 40)).bfloat16().append(nn.BatchNorm1d(5))


def _compressed(folder: Path) -> None:
    from gamma_nlp.companions.strong.compressed import load_compressed

    model = small()
    before = [value.clone() for value in model.state_dict().values()]
    try:
        load_compressed(folder / "model.safetensors", model)
    except GammaError:
        after = model.state_dict().values()
        assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
        raise


def _compressed_files() -> tuple[dict[str, bytes], ...]:
    from gamma_nlp.companions.strong.compressed import save_compressed

    model: Any = small()
    with torch.no_grad():
        model[0].weight[:, 1:] = 0
        model[1].weight[torch.rand(40, 9) < 0.7] = 0
    return (_made(lambda folder: save_compressed(model, folder / "model.safetensors")),)


def _score(folder: Path) -> None:
    from gamma_nlp.cli import main, score
    from gamma_nlp.tasks.translation.score_files import read_pairs

    files = sorted(folder.iterdir())
    if len(files) == 1:
        code = main.main(["score", "--fairseq-log", str(files[0])])
    else:
        pairs = read_pairs(*files[:2])  # raises what the command prints
        score.of_pairs(score.whole_words(pairs), language="en", tokenize="13a", lowercase=False)
        code = main.main(["score", *map(str, files[:2])])
    if code == 2:
        raise GammaError("refused by the command line")


def _score_files() -> tuple[dict[str, bytes], ...]:
    text = "".join(f"a dog sees {n} balls .\n" for n in range(5)).encode()
    return (
        {"generate.log": LOG.encode()},
        {"hyp.txt": text, "ref.txt": text},
        {"hyp.gz": gzip.compress(text), "ref.gz": gzip.compress(text)},
    )


def _answers(folder: Path) -> None:
    from gamma_nlp.check.sweep.answers import _read

    _read(folder / "answers.jsonl", {"check": "f"})


def _answer_files() -> tuple[dict[str, bytes], ...]:
    rows = [{"check": "f"}] + [{"call": ["bert", k], "answer": {"value": {"a": 1}}} for k in "ab"]
    return ({"answers.jsonl": b"".join(json.dumps(row).encode() + b"\n" for row in rows)},)


def _items(folder: Path) -> None:
    from gamma_nlp.tasks.run.items import read_items

    read_items(folder / "items.npz")


def _item_files() -> tuple[dict[str, bytes], ...]:
    from gamma_nlp.tasks.run.items import Items, write_items

    items = Items(ids=np.array(["a", "b", "c"]), columns={"right": np.array([1.0, 0.0, 1.0])})
    return (_made(lambda folder: write_items(folder / "items.npz", items)),)


def _item_hostile() -> tuple[Files, ...]:
    bomb, objects = io.BytesIO(), io.BytesIO()
    np.savez_compressed(bomb, id=np.arange(3), x=np.zeros(40_000_000))
    np.savez(objects, id=np.array([_Touch()], dtype=object))
    return {"items.npz": bomb.getvalue()}, {"items.npz": objects.getvalue()}


def _batch(folder: Path) -> None:
    from gamma_nlp.cli.probe import _saved

    _saved(folder / "batch.pt", _bert())


@cache
def _bert() -> Any:
    from tests.support.tiny_models import tiny_bert

    return tiny_bert()


def _batch_files() -> tuple[dict[str, bytes], ...]:
    batch = {"input_ids": torch.arange(6).view(1, 6), "attention_mask": torch.ones(1, 6)}
    return ({"batch.pt": _torch(batch)},)


def _batch_hostile() -> tuple[Files, ...]:
    return {"batch.pt": _torch(_Touch())}, {"batch.pt": pickle.dumps({"input_ids": _Touch()})}


def _images(folder: Path) -> None:
    from recipes.common.images import cifar10, mnist

    (cifar10 if any(folder.glob("*batch*")) else mnist)(folder)


def _image_files() -> tuple[dict[str, bytes], ...]:
    def idx(array: np.ndarray) -> bytes:
        head = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
        return gzip.compress(head + array.tobytes())

    pixels, labels = np.zeros((4, 28, 28), np.uint8), np.arange(4, dtype=np.uint8)
    parts = {"train": "train", "t10k": "t10k"}
    digits = {f"{p}-images-idx3-ubyte.gz": idx(pixels) for p in parts}
    digits |= {f"{p}-labels-idx1-ubyte.gz": idx(labels) for p in parts}
    rows = {b"data": np.zeros((2, 3072), np.uint8), b"labels": [0, 1]}
    names = [*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]
    return digits, {name: pickle.dumps(rows, protocol=2) for name in names}


def _image_hostile() -> tuple[Files, ...]:
    cifar = _image_files()[1]
    return ({**cifar, "data_batch_1": pickle.dumps(_Touch())},)


def _launch(folder: Path) -> None:
    from gamma_nlp.cli import main
    from gamma_nlp.tasks.glue.arguments import read_arguments

    words = (folder / "argv").read_bytes().decode("utf-8", "surrogateescape").split("\n")
    words = [word.replace("\0", "") for word in words if word][:40]
    if words[:1] == ["recipe"]:
        read_arguments(words[1:])
    elif main.main(words) == 2:
        raise GammaError("refused by the command line")


def _launch_files() -> tuple[dict[str, bytes], ...]:
    lines = (
        "table no/model --method graph --dtype float32 --json", "audit x --json",
        "probe x --text a",
        "score a b --tokenize 13a", "score --fairseq-log x --detokenize en", "diagnose x --json",
        "translate x y -o z --beams 3 --length-penalty 1.0 --max-tokens 5 --threads 1",
        "prepare x y --languages de en --merges 10 --max-ratio 1.5 --valid-every 5",
        "report x --metric a --baseline none --smallest-difference 0.5", "draw x -o y.svg",
        "study x.yaml --set a=1", "recipe --task sst2 --data x --dose 0.1 --model y --seed 3",
        "recipe x.yaml --learning_rate 1e-3 --max_steps 4 --output_dir out --decay_policy none",
    )  # fmt: skip
    return tuple({"argv": line.replace(" ", "\n").encode()} for line in lines)


def _fairseq(folder: Path) -> None:
    from gamma_nlp.fairseq.convert.checkpoint import read_checkpoint
    from gamma_nlp.fairseq.convert.files import _fairseq

    with _fairseq():
        read_checkpoint(folder / "checkpoint.pt", folder / "data")


def _fairseq_files() -> tuple[dict[str, bytes], ...]:
    from gamma_nlp.fairseq.convert.files import _fairseq

    words = "".join(f"{word} 1\n" for word in ("Der", "Hund", "sieht", "The", "dog", "sees", "."))
    data = {f"data/dict.{language}.txt": words.encode() for language in ("de", "en")}

    def make(folder: Path) -> None:
        from tests.support.fairseq_models import as_older_release, model_state, save

        for name, content in data.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        with _fairseq():
            state = model_state(folder / "data")
            save(state, folder / "checkpoint.pt")
            save(as_older_release(state), folder / "older.pt")

    whole = _made(make)
    older = {**data, "checkpoint.pt": whole.pop("older.pt")}
    return whole, older


def _fairseq_hostile() -> tuple[Files, ...]:
    words = {"data/dict.de.txt": b"a 1\n", "data/dict.en.txt": b"a 1\n"}
    return (
        {**words, "checkpoint.pt": _torch({"cfg": _Touch(), "model": {}})},
        {**words, "checkpoint.pt": pickle.dumps(_Touch())},
        {**words, "checkpoint.pt": _torch({"args": None, "cfg": {"model": 3}, "model": {}})},
    )


def _of(*files: dict[str, bytes]) -> Callable[[], tuple[dict[str, bytes], ...]]:
    return lambda: files


GLUE = {
    "sst2-train.tsv": b"sentence\tlabel\na good film\t1\na bad one\t0\nso so\t1\n",
    "cola-train.tsv": b"x\t1\t\tA dog sees.\nx\t0\t*\tDog a.\n",
    "stsb-train.tsv": b"index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\t"
    b"sentence2\tscore\n0\ta\tb\tc\td\te\tf\ta dog\tthe dog\t4.5\n",
    "qqp-train.tsv": b"id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n1\t2\t3\ta?\tb?\t0\n",
}

KINDS: Mapping[str, Kind] = {
    "policies": Kind(
        good=_of({"p.json": _dump(POLICY)}, {"p.yaml": yaml.safe_dump(POLICY).encode()}),
        read=_policy,
        share=5,
    ),
    "recipes": Kind(good=lambda: (_recipe_files(),), read=_recipe, share=1.0),
    "translation recipes": Kind(
        good=lambda: (_translation_recipe_files(),), read=_translation_recipe, share=0.7
    ),
    "studies": Kind(good=_study_config_files, read=_study_config, share=2),
    "glue": Kind(good=lambda: tuple({k: v} for k, v in GLUE.items()), read=_glue, share=4),
    "parallel text": Kind(good=lambda: (_parallel_files(),), read=_parallel, share=1.5),
    "gain tables": Kind(good=lambda: (_gain_table_files(),), read=_gain_table, share=3),
    "results": Kind(good=_study_files, read=_study, share=0.6),
    "loose runs": Kind(good=_loose_files, read=_loose, share=1),
    "checkpoints": Kind(good=_diagnose_files, read=_diagnose, share=0.8, hostile=_diagnose_hostile),
    "translation runs": Kind(good=_translation_run_files, read=_translation_run, share=0.5),
    "model configs": Kind(good=_config_files, read=_config, share=1.2),
    "archives": Kind(good=_archive_files, read=_archive, share=2),
    "compressed files": Kind(good=_compressed_files, read=_compressed, share=4),
    "scores": Kind(good=_score_files, read=_score, share=2),
    "answers": Kind(good=_answer_files, read=_answers, share=3),
    "items": Kind(good=_item_files, read=_items, share=2, hostile=_item_hostile),
    "batches": Kind(good=_batch_files, read=_batch, share=1.5, hostile=_batch_hostile),
    "images": Kind(good=_image_files, read=_images, share=1.5, hostile=_image_hostile),
    "launch words": Kind(good=_launch_files, read=_launch, share=2),
    "fairseq checkpoints": Kind(
        good=_fairseq_files, read=_fairseq, share=0.5, hostile=_fairseq_hostile
    ),
}
