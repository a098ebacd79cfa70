"""A pipeline's folder, opened part by part, so that an error names the part.

Only classes that diffusers and transformers have are looked up: a config is data, and names no
module that is imported. A network whose tensors are not exactly those of its file is refused, since
the libraries would fill what is missing with random numbers.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from dataunlearn.models.weights import load_network
from dataunlearn.runtime.checks import in_one_line, require

log = logging.getLogger(__name__)
MOST_LAYERS = 1000
UNNEEDED = ("safety_checker", "feature_extractor", "image_encoder")


def open_pipeline(path: Path) -> Any:
    """The pipeline in a folder, its networks in float32.

    A part that unlearning does not need, such as a safety checker, is left out where it is missing;
    where there are weights of one variant alone (fp16, ema, ...), they are taken. Both are logged.

    Raises:
        ValueError: Naming the part that cannot be opened, in one line.
    """
    index = read_config(path / "model_index.json")
    kind = _pipeline_class(path, index.get("_class_name"))
    parts = {name: value for name, value in index.items() if isinstance(value, list)}
    wanted = inspect.signature(kind.__init__).parameters
    opened = {name: _part(path, name, parts[name]) for name in parts if name in wanted}
    lacking = [
        name
        for name, parameter in wanted.items()
        if name not in ("self", *opened) and parameter.default is parameter.empty
    ]
    needed = [name for name in lacking if name not in UNNEEDED]
    require(not needed, f"{path}: model_index.json names no {', no '.join(needed)}")
    settings = {name: index[name] for name in wanted if name in index and name not in parts}
    if "requires_safety_checker" in wanted and opened.get("safety_checker") is None:
        settings["requires_safety_checker"] = False
    given = {name: opened.get(name) for name in wanted if name in opened or name in lacking}
    given.pop("self", None)
    try:
        return kind(**given, **settings)
    except Exception as error:
        raise ValueError(f"{path}: cannot make a {kind.__name__}: {in_one_line(error)}") from error


def _pipeline_class(path: Path, name: Any) -> Any:
    import diffusers

    require(
        isinstance(name, str),
        f"{path}: model_index.json names {name} as the pipeline's class: code of its own is not "
        "run, only pipelines of diffusers are opened",
    )
    kind = getattr(diffusers, name, None) if name.isidentifier() else None
    if not (isinstance(kind, type) and issubclass(kind, diffusers.DiffusionPipeline)):
        raise ValueError(
            f"{path}: diffusers {diffusers.__version__} has no pipeline {name}, which "
            "model_index.json names: if it is derived from one that is supported, such as "
            "StableDiffusionPipeline, put that one's name there"
        )
    return kind


def _part(path: Path, name: str, value: list[Any]) -> Any:
    """A part of the pipeline; None where the index has none, or it is not needed and missing."""
    if value == [None, None]:
        return None
    if len(value) != 2 or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{path}: model_index.json names {value} as {name}: not [library, class]")
    try:
        return open_part(path / name, name, *value)
    except ValueError as error:
        if name not in UNNEEDED:
            raise
        log.warning("%s is left out, it is not needed here: %s", name, error)
        return None


def open_part(folder: Path, name: str, library: str, class_name: str) -> Any:
    """One part of a pipeline.

    Args:
        folder: Its folder.
        name: Its name in the pipeline.
        library: Where its class is from.
        class_name: Its class.

    Raises:
        ValueError: If there is no such class or folder, or it cannot be opened as it stands.
    """
    import diffusers
    import transformers

    kind = known_class(library, class_name, f"{folder.parent}: the part {name}")
    require(folder.is_dir(), f"{folder.parent}: there is no folder {name} with its {class_name}")
    settings: dict[str, Any] = {"local_files_only": True}
    is_network = issubclass(kind, (diffusers.ModelMixin, transformers.PreTrainedModel))
    if is_network:
        config = read_config(folder / "config.json")
        _require_numbers(kind, config, folder)
        settings |= _readable_size(kind, config, folder)
        if issubclass(kind, transformers.PreTrainedModel):
            settings["dtype"] = torch.float32
            settings["ignore_mismatched_sizes"] = True  # they are told of, by name
    elif issubclass(kind, transformers.PreTrainedTokenizerBase):
        _require_vocabulary(folder, kind)
    with _named(f"{folder.parent}: cannot open {name} ({class_name})", folder), quiet_libraries():
        if not is_network:
            return kind.from_pretrained(str(folder), **settings)
        network: Any = load_network(kind, folder, config, settings)
    if "sample_size" in settings and len(set(config["sample_size"])) > 1:
        network.register_to_config(sample_size=config["sample_size"])
    return network


@contextmanager
def _named(what: str, folder: Path) -> Iterator[None]:
    """An error of a library's becomes one of ours, in one line; our own name the folder already."""
    try:
        yield
    except Exception as error:
        told = str(error)
        ours = isinstance(error, ValueError) and told.startswith(
            (str(folder), f"{folder.parent}: ")
        )
        raise ValueError(told if ours else f"{what}: {in_one_line(error)}") from error


def known_class(library: str, class_name: str, what: str) -> Any:
    """A class of a network, tokenizer, scheduler or image processor that the libraries have.

    Raises:
        ValueError: If they have no such class; no other module is imported.
    """
    import diffusers
    import transformers

    if (library, class_name) == ("stable_diffusion", "StableDiffusionSafetyChecker"):
        from diffusers.pipelines.stable_diffusion import safety_checker

        return safety_checker.StableDiffusionSafetyChecker
    libraries = {"diffusers": diffusers, "transformers": transformers}
    require(
        library in libraries,
        f"{what} is {library}.{class_name}, and only classes of diffusers and transformers are "
        "opened, no module that a file names",
    )
    module = libraries[library]
    kind = getattr(module, class_name, None) if class_name.isidentifier() else None
    bases = (
        diffusers.ModelMixin,
        diffusers.SchedulerMixin,
        transformers.PreTrainedModel,
        transformers.PreTrainedTokenizerBase,
        transformers.FeatureExtractionMixin,
        transformers.ImageProcessingMixin,
    )
    if not (isinstance(kind, type) and issubclass(kind, bases)):
        raise ValueError(
            f"{what} is a {class_name}, which {library} {module.__version__} does not have"
        )
    return kind


def _require_vocabulary(folder: Path, kind: Any) -> None:
    """Refuse a tokenizer without its vocabulary: the library would make an empty one."""
    names = dict(kind.vocab_files_names)
    whole = names.pop("tokenizer_file", "tokenizer.json")
    missing = [name for name in names.values() if not (folder / name).is_file()]
    require(
        (folder / whole).is_file() or (bool(names) and not missing),
        f"{folder} holds no vocabulary: {whole}"
        + (f", or {' and '.join(names.values())}" if names else ""),
    )


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Diffusers and transformers say nothing for a while: what matters of it is an error here."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    logs: tuple[Any, ...] = (of_diffusers, of_transformers)
    before = [each.get_verbosity() for each in logs]
    for each in logs:
        each.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        for each, level in zip(logs, before, strict=True):
            each.set_verbosity(level)


def _require_numbers(kind: Any, config: Mapping[str, Any], folder: Path) -> None:
    """Refuse texts and objects where a network's class takes a number, and endless layers."""
    for name, parameter in inspect.signature(kind.__init__).parameters.items():
        value, usual = config.get(name), parameter.default
        counts = isinstance(usual, (int, float)) and not isinstance(usual, bool)
        one = isinstance(usual, float) or parameter.annotation is float
        plain = parameter.annotation in (int, float, int | None, float | None)
        counts |= plain
        listed = plain and isinstance(value, (list, tuple)) and name != "sample_size"
        require(
            not (counts and isinstance(value, (str, dict, bool)))
            and not listed
            and not (one and name in config and not _is_number(value)),
            f"{folder}/config.json has {name} {json.dumps(value)}: it takes a number",
        )
    for name, value in config.items():
        endless = "layers" in name and isinstance(value, int) and value > MOST_LAYERS
        require(not endless, f"{folder}/config.json has {name} {value}: more than {MOST_LAYERS}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _readable_size(kind: type, config: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """A number in place of a height and width, for networks that are built by a number alone."""
    size = config.get("sample_size")
    sides = isinstance(size, list) and len(size) == 2 and all(isinstance(s, int) for s in size)
    if kind.__name__ != "SD3Transformer2DModel":
        return {}
    if size is None or not (sides or isinstance(size, int)):
        raise ValueError(
            f"{folder}/config.json has sample_size {json.dumps(size)}: add the number that the "
            "model was trained with, or its height and width"
        )
    return {"sample_size": max(size)} if sides else {}


def read_config(path: Path) -> dict[str, Any]:
    """A JSON file with an object in it.

    Raises:
        ValueError: If it is missing or no such thing.
    """
    try:
        found = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON that can be read: {in_one_line(error)}") from error
    require(isinstance(found, dict), f"{path} holds no JSON object")
    return dict(found)
