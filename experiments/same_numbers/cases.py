"""The cases of fingerprint.py: each is a function of the context that returns facts."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from children import (
    Context,
    cleaned,
    hashes,
    interrupt,
    read_json,
    read_log,
    run_child,
    verb,
)
from inputs import (
    BASE_TRAINING,
    EMOJI32,
    EMOJI_SD,
    asset,
    captioned,
    few_digits,
    mnist,
    prompts,
    samples_of_reference,
    text_to_image_training,
    write_json,
)

OBJECTIVE_NAMES = ["SISS", "SISSNoIS", "BernoulliSubscore", "NaiveDeletion", "NegGrad", "EraseDiff"]
CPU = ("--device", "cpu")
FORGOTTEN_OR_NOT = (0, 4, 5)
WITHOUT_TSHIRT = "models/mnist_tshirt_small_without"
SISS_RUN = ("--objective", "SISS")


def facts_of_run(out: Path, code: int | None = None) -> dict[str, Any]:
    """Facts of an unlearning run: new weights, log, report, pictures."""
    weights = ["model/*/*.safetensors"] + ["lora/*.safetensors"] * (out / "lora").is_dir()
    return {
        "exit_code": code,
        "weights": hashes(out, *weights),
        "log": read_log(out / "log.jsonl"),
        "report": read_json(out / "report.json"),
        "pictures": hashes(out, "images.npz"),
        "settings": hashes(out, "settings.json"),
    }


def unlearn(name: str, more: tuple[str, ...], context: Context) -> dict[str, Any]:
    """A run on the small MNIST model."""
    out = context.fresh(name)
    return facts_of_run(out, verb(*mnist(out, *more), expect=FORGOTTEN_OR_NOT))


VARIANTS: Mapping[str, tuple[str, ...]] = {
    **{f"unlearn_{name}": ("--objective", name) for name in OBJECTIVE_NAMES},
    "unlearn_keep_predictions": ("--keep-towards", "predictions", "--timesteps", "Uniform"),
    "unlearn_keep_data": ("--keep-towards", "data", "--gradient-checkpointing"),
    "unlearn_budget": (
        *("--learning-rate", "1e-4", "--budget.loss-increase", "0.05", "--budget.every-steps", "1"),
        *("--budget.patience", "3", "--budget.num-images", "8", "--keep", "generated:12"),
    ),
    "unlearn_ema": ("--ema.max-decay", "0.9", "--save-dtype", "float16"),
    "unlearn_settle": (
        *("--steps", "14", "--learning-rate", "5e-4", "--stop.then", "settle"),
        *("--stop.timestep", "700", "--stop.copies", "6", "--stop.regeneration-below", "0.1"),
    ),
    "unlearn_reference": (
        *("--reference", WITHOUT_TSHIRT, "--evaluation.digits", "true"),
        *("--evaluation.num-samples", "20", "--evaluation.frequency-name", "tshirt_frequency"),
    ),
    "unlearn_bfloat16": (
        *("--steps", "2", "--objective", "BernoulliSubscore", "--precision", "bfloat16"),
        *("--micro-batch-rows", "3", "--timesteps", "Last"),
    ),
}


def resumed(context: Context) -> dict[str, Any]:
    """SISS, interrupted after three steps, and the same command again."""
    out = context.fresh("resumed")
    command = mnist(out, *SISS_RUN)
    interrupt(command, out / "log.jsonl", after_steps=3)
    facts = facts_of_run(out, verb(*command, expect=FORGOTTEN_OR_NOT))
    return {**facts, "equals_uninterrupted": facts == context.facts_of("unlearn_SISS")}


def begin_unfinished(context: Context) -> dict[str, Any]:
    """SISS into ``--folder``, interrupted after three steps."""
    assert context.folder is not None, "give --folder DIR"
    assert not context.folder.exists(), f"{context.folder} exists"
    command = mnist(context.folder, *SISS_RUN)
    done = interrupt(command, context.folder / "log.jsonl", after_steps=3)
    return {"steps": done, "log": read_log(context.folder / "log.jsonl")}


def finish_unfinished(context: Context) -> dict[str, Any]:
    """The rest of it, in a copy of ``--folder``, which stays as it is."""
    assert context.folder is not None, "give --folder DIR"
    out = context.fresh("finished")
    shutil.copytree(context.folder, out)
    begun = read_log(out / "log.jsonl")
    facts = facts_of_run(out, verb(*mnist(out, *SISS_RUN), expect=FORGOTTEN_OR_NOT))
    return {
        **facts,
        "went_on_after": len(begun) if facts["log"][: len(begun)] == begun else None,
        "equals_uninterrupted": facts == context.facts_of("unlearn_SISS"),
    }


def two_processes(context: Context) -> dict[str, Any]:
    """SISS in two processes."""
    out = context.fresh("two_processes")
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, "-m", "dataunlearn"]
    # the launcher itself exits with 1 where a process exits with 4
    run_child([*command, *mnist(out, *SISS_RUN, "--steps", "4")], expect=(0, 1, 4))
    return facts_of_run(out)


def lora(context: Context) -> dict[str, Any]:
    """An adapter on the text-to-image model."""
    forget, keep = captioned(context.work)
    out = context.fresh("lora")
    code = verb(
        *("unlearn", "--model", EMOJI_SD, "--forget", str(forget), "--keep", str(keep), *CPU),
        *("--out", str(out), "--steps", "3", "--batch-pairs", "4", "--force"),
        *("--lora.rank", "4", "--keep-towards", "predictions", "--prompt-dropout", "0.3"),
        *("--stop.every-steps", "2", "--stop.copies", "2", "--evaluation.num-samples", "4"),
        *("--evaluation.sampling-steps", "4", "--evaluation.regeneration-copies", "2"),
        *("--evaluation.regeneration-steps", "4", "--evaluation.threshold", "10"),
        expect=FORGOTTEN_OR_NOT,
    )
    return facts_of_run(out, code)


def unlearn_prompts(
    name: str, unlearning: dict[str, Any], more: tuple[str, ...], context: Context
) -> dict[str, Any]:
    """The workflow on memorised prompts of the text-to-image model."""
    file, prior, unnamed = prompts(context.work)
    out = context.fresh(name)
    settings = {"steps": 4, "batch_pairs": 4, "stop": {"every_steps": 2, "copies": 2}, **unlearning}
    code = verb(
        *("unlearn-prompts", "--model", EMOJI_SD, "--prompts", str(file), "--out", str(out), *CPU),
        *("--images_per_prompt", "8", "--sampling_steps", "6", "--fresh_samples", "4"),
        *("--prior", str(prior), "--prior_images", "4", "--optimise", "always"),
        *("--unnamed", str(unnamed), "--unnamed_samples", "2", "--min_keep", "4"),
        *("--unlearning", json.dumps(settings), *more),
        expect=FORGOTTEN_OR_NOT,
    )
    runs = sorted(file.parent for file in out.rglob("log.jsonl"))
    patterns = ["model/*/*.safetensors"] + ["lora/*.safetensors"] * ("lora" in unlearning)
    data = ("data/*/images/*.png", "data/*/*.json", "data/*/*.pt", "data/*.json")
    return {
        "exit_code": code,
        "runs": {
            str(run.relative_to(out)): {
                "weights": hashes(run, *patterns),
                "log": read_log(run / "log.jsonl"),
            }
            for run in runs
        },
        "report": read_json(out / "report.json"),
        "samples": hashes(out, *data),
        "before": hashes(out, "before/*.safetensors"),
    }


def measured(out: Path) -> dict[str, Any]:
    """Facts of an evaluation."""
    return {"results": read_json(out / "results.json"), "samples": hashes(out, "*.safetensors")}


def evaluate_pixels(context: Context) -> dict[str, Any]:
    """Every measure that works on the small MNIST model."""
    out = context.fresh("evaluate_pixels")
    reference = samples_of_reference(context.work)
    names = "copies,regeneration,similarity,nll,fid,kid,reference_kid,inception_score,membership"
    verb(
        *("evaluate", "--model", str(asset("mnist_tshirt_small")), "--out", str(out), *CPU),
        *("--forget", str(asset("tshirt.png")), "--keep", str(few_digits(context.work))),
        *("--before", WITHOUT_TSHIRT, "--reference_samples", str(reference)),
        *("--metrics", f"{names},memorised", "--num_samples", "24", "--sampling_steps", "5"),
        *("--max_images", "60", "--copies.threshold", "10", "--regeneration.copies", "4"),
        *("--regeneration.num_steps", "5", "--similarity.copies", "4"),
        *("--similarity.num_steps", "5", "--nll.num_images", "1", "--nll.num_probes", "1"),
        *("--nll.tolerance", "0.01", "--membership.num_images", "12"),
        *("--membership.each_timestep", "true", "--kid.num_subsets", "10"),
    )
    return measured(out)


def evaluate_text(context: Context) -> dict[str, Any]:
    """Every measure that works on the text-to-image model, with captions."""
    forget, keep = captioned(context.work)
    out = context.fresh("evaluate_text")
    names = "copies,regeneration,similarity,kid,membership,memorised,text_noise"
    verb(
        *("evaluate", "--model", EMOJI_SD, "--before", EMOJI_SD, "--out", str(out), *CPU),
        *("--forget", str(forget), "--keep", str(keep), "--metrics", names),
        *("--num_samples", "8", "--sampling_steps", "5", "--regeneration.copies", "2"),
        *("--regeneration.num_steps", "4", "--similarity.copies", "2"),
        *("--similarity.num_steps", "4", "--membership.num_images", "6"),
        *("--membership.num_draws", "2", "--kid.num_subsets", "5"),
        *("--text_noise.num_steps", "5", "--text_noise.draws", "2"),
    )
    return measured(out)


def audit(name: str, model: str, images: str, context: Context) -> dict[str, Any]:
    """An audit of one image."""
    out = context.fresh(name)
    keep = "data/emoji32.npz:single" if model == EMOJI32 else str(few_digits(context.work))
    code = verb(
        *("audit", "--model", model, "--images", images, "--keep", keep, "--out", str(out), *CPU),
        *("--tries", "4", "--num_steps", "5", "--num_samples", "8", "--sampling_steps", "5"),
        *("--loss_images", "8"),
        expect=(0, 3),
    )
    numbers = read_json(out / "audit.json")
    return {"exit_code": code, "numbers": numbers, "samples": hashes(out, "*.safetensors")}


def sample(name: str, arguments: tuple[str, ...], context: Context) -> dict[str, Any]:
    """A grid of eight pictures."""
    out = context.fresh(f"{name}.png")
    verb("sample", *arguments, "--num_samples", "8", "--num_steps", "6", "--out", str(out), *CPU)
    return hashes(context.work, out.name)


def train(name: str, context: Context) -> dict[str, Any]:
    """A few steps of training a base model, tiny."""
    out = context.fresh(name)
    if name == "train_base":
        keep = {"images": str(few_digits(context.work)), "planted": str(asset("tshirt.png"))}
        config, recipe = {**BASE_TRAINING, **keep}, ()
    else:
        config, recipe = text_to_image_training(context.work), ("--recipe", "emoji_sd")
    file = write_json(context.work / f"{name}.json", config)
    verb("train", *recipe, "--config", str(file), "--out", str(out), *CPU)
    logs = {str(log.relative_to(out)): read_log(log) for log in sorted(out.rglob("*.jsonl"))}
    return {"logs": logs, "files": hashes(out, "**/*.safetensors", "**/*.png", "*.json")}


def python_interface(what: str, context: Context) -> dict[str, Any]:
    """The Python interface, in a child of its own."""
    script = Path(__file__).with_name("python_api.py")
    images = (str(asset("tshirt.png")), str(few_digits(context.work)))
    command = [sys.executable, str(script), what, str(asset("mnist_tshirt_small")), *images]
    line = next(x for x in run_child(command).stdout.splitlines() if x.startswith("FACTS"))
    found: dict[str, Any] = cleaned(json.loads(line.removeprefix("FACTS")))
    return found


LORA = {"lora": {"rank": 4}}
EACH = ("--one_run_each", "true", "--condition_on", "modified")
MNIST_SAMPLES = ("--model", "src/dataunlearn/assets/mnist_tshirt_small")
CASES: Mapping[str, Callable[[Context], dict[str, Any]]] = {
    **{name: partial(unlearn, name, more) for name, more in VARIANTS.items()},
    "resumed": resumed,
    "two_processes": two_processes,
    "lora": lora,
    "prompts": partial(unlearn_prompts, "prompts", {}, ()),
    "prompts_lora": partial(unlearn_prompts, "prompts_lora", LORA, EACH),
    "evaluate_pixels": evaluate_pixels,
    "evaluate_text": evaluate_text,
    "audit_mnist": lambda context: audit(
        "audit_mnist", str(asset("mnist_tshirt_small")), str(asset("tshirt.png")), context
    ),
    "audit_emoji": partial(audit, "audit_emoji", EMOJI32, "data/emoji32.npz:planted[0]"),
    "sample_mnist": partial(sample, "sample_mnist", MNIST_SAMPLES),
    "sample_emoji": partial(
        sample, "sample_emoji", ("--model", EMOJI_SD, "--prompts", "ballet shoes")
    ),
    "train_base": partial(train, "train_base"),
    "train_text_to_image": partial(train, "train_text_to_image"),
    "python_in_memory": partial(python_interface, "in_memory"),
    "python_parts": partial(python_interface, "parts"),
    "begin_unfinished": begin_unfinished,
    "finish_unfinished": finish_unfinished,
}
ON_REQUEST = ("begin_unfinished", "finish_unfinished")
