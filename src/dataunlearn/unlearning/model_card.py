"""The card of a new model: what was done to it, without showing what was removed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from dataunlearn.data.hub import looks_like_hub_id
from dataunlearn.runtime.files import write_atomically
from dataunlearn.runtime.places import named_file

CARD_FILE = "README.md"
TAGS = ["diffusers", "machine-unlearning", "data-unlearning"]
QUALITY = {"kept": "kept", "lost": "worse than before", "cannot tell": "could not be told"}


def write_model_card(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write the card of a run's model into its folder.

    Args:
        folder: The model's folder.
        facts: The content of the run's ``report.json``.
    """
    write_atomically(folder / CARD_FILE, str(model_card(facts)).encode())


def model_card(facts: Mapping[str, Any]) -> ModelCard:
    """The card of a run's model.

    It names neither pictures nor their hashes, by which someone who has a picture could tell that
    it was removed.
    """
    source = facts["model"]["before"]["path"]
    from_hub = looks_like_hub_id(source) and named_file(source) is None
    data = ModelCardData(
        library_name="diffusers", tags=TAGS, base_model=source if from_hub else None
    )
    return ModelCard(f"---\n{data.to_yaml()}\n---\n{body(facts, source if from_hub else None)}")


def body(facts: Mapping[str, Any], base: str | None) -> str:
    """The card's text, in Markdown."""
    method, verdict, count = facts["method"], facts["verdict"], len(facts["forget"]["digests"])
    pictures, it = ("one picture was", "it") if count == 1 else (f"{count} pictures were", "them")
    origin = f"[{base}](https://huggingface.co/{base})" if base else "another model"
    rate, pairs = method["learning_rate"], method["batch_pairs"]
    rows = {
        "what was removed": verdict["memory"],
        "quality of other pictures": QUALITY[verdict["quality"]],
        "method": f"`{method['objective']}` with `{method['combination']}`",
        "steps": f"{method['steps']}, learning rate {rate:g}, {pairs} pairs each",
        "pictures to keep": facts["keep"]["count"],
        "weights": f"SHA-256 {facts['model']['after']['sha256']}",
        "weights before": f"SHA-256 {facts['model']['before']['sha256']}",
        "made with": ", ".join(f"{name} {found}" for name, found in facts["versions"].items()),
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"""
# Without some of its training pictures
This is {origin}, from which {pictures} removed with dataunlearn: it was fine-tuned so that it
should draw as if it had never seen {it}.

| | |
|---|---|
{table}

"{verdict["memory"]}" is about what was measured: whether the model restores {it} from noise, draws
{it}, and what it loses on {it}. It is no proof that no attack exists. For what the model is meant,
and what it is not, see the model that it comes from.
"""
