"""Small stand-ins, under the names that READMEs use, for models and data that are large."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

from gamma_nlp.tasks.glue.opinions import opinions, write_sst2
from gamma_nlp.tasks.glue.tokenizer import train_tokenizer
from gamma_nlp.tasks.translation.prepare.cleaning import Cleaning, Preparation
from gamma_nlp.tasks.translation.prepare.prepare import prepare, read_corpus
from gamma_nlp.tasks.translation.scores import token_bleu
from tests.support.fake_studies import config
from tests.support.parallel_corpora import make_archive, make_folder
from tests.support.paths import RECIPES
from tests.support.studies import Fake
from tests.support.tiny_run import tiny_run

BERT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 64,
}


def tiny_bert(folder: Path) -> Path:
    """A classifier with weights and a tokenizer, as a hub name would load."""
    rows = opinions(200)
    tokenizer = train_tokenizer([text for text, _ in rows], 200)
    torch.manual_seed(0)
    config = BertConfig(vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **BERT)
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def gemma_2(folder: Path) -> Path:
    """The config of google/gemma-2-2b: its sizes are the defaults of its class."""
    folder.mkdir(parents=True)
    config = {"model_type": "gemma2", "architectures": ["Gemma2ForCausalLM"]}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def reviews(file: Path) -> Path:
    """A CSV file with the columns text and label."""
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([("text", "label"), *opinions(24)])
    return file


LOG = """\
S-0\tdie katze
T-0\tthe cat sat on a mat
H-0\t-0.25\tthe cat sat on a mat
"""


def generate_log(file: Path) -> Path:
    """A log of fairseq-generate, with the score that it prints for a perfect translation."""
    hypothesis = "the cat sat on a mat"
    last = f"Generate test with beam=5: {token_bleu([hypothesis], [hypothesis])}"
    file.write_text(f"{LOG}{last}\n", encoding="utf-8")
    return file


def cola(folder: Path) -> None:
    """CoLA's files, which have no header: source, label, mark, sentence."""
    folder.mkdir()
    for name, count in (("train.tsv", 48), ("dev.tsv", 16)):
        rows = [f"x\t{label}\t\t{text}\n" for text, label in opinions(count)]
        (folder / name).write_text("".join(rows), encoding="utf-8")


def loose_runs(folder: Path) -> Path:
    """Runs of two arms, without a study around them."""
    Fake(items=20, seeds=(1, 2)).write(folder)
    (folder / "study.json").unlink()
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def furnish(folder: Path) -> dict[str, Path]:
    """Put everything into a folder; return what each placeholder of a command stands for."""
    bert = tiny_bert(folder / "bert-base-uncased")
    gemma_2(folder / "google" / "gemma-2-2b")
    reviews(folder / "reviews.csv")
    (folder / "sentence-transformers").mkdir()
    tiny_bert(folder / "sentence-transformers" / "all-MiniLM-L6-v2")
    glue = write_sst2(folder / "glue" / "SST-2", train=48, dev=16).parent
    cola(glue / "CoLA")
    make_archive(folder)
    texts = {"german.txt": "Ein Hund läuft .", "hyp.txt": "a dog", "ref.txt": "a dog runs"}
    for file, text in texts.items():
        (folder / file).write_text(f"{text}\n", encoding="utf-8")
    corpus = make_folder(folder)
    prepare(
        read_corpus(corpus, ("de", "en")),
        Preparation(merges=7, cleaning=Cleaning()),
        folder / "data" / "multi30k",
    )
    run = tiny_run(_made(folder / "translation"))
    return {
        "MODEL": bert,
        "MINILM_FOLDER": bert,
        "GLUE_FOLDER": glue,
        "MULTI30K_FOLDER": corpus,
        "STUDY": Fake(items=20, seeds=(1, 2)).write(folder / "study"),
        "RUNS": loose_runs(folder / "loose"),
        "RUN": run,
        "runs/multi30k-postnorm/guidelines-seed1": run,
        "FILE": folder / "german.txt",
        "STUDY.yaml": config(_made(folder / "studies")),
        "HYP": folder / "hyp.txt",
        "REF": folder / "ref.txt",
        "LAUNCH.yaml": RECIPES / "accelerate" / "fsdp2_nodes.yaml",
        "LOG": generate_log(folder / "generate.log"),
    }
