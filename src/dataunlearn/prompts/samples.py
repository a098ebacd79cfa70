"""The first half of the workflow: samples of every prompt, their labels, modified prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from dataunlearn.data.pixels import to_uint8
from dataunlearn.data.prompt import Prompt
from dataunlearn.models import DiffusionModel
from dataunlearn.models.pictures import open_for
from dataunlearn.models.sampling import Drawing, Progress, generate
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.drawn import (
    drop_others,
    labels_stand,
    origins,
    record_labels,
    record_origin,
)
from dataunlearn.prompts.embeddings import read_embedding
from dataunlearn.prompts.gallery import render_gallery
from dataunlearn.prompts.labels import Labelling, label_memorised, take_labels
from dataunlearn.prompts.prompt_file import PromptSpec, read_prompt_file
from dataunlearn.prompts.published_layout import (
    IMAGES_FOLDER,
    LABELS_FILE,
    PromptData,
    read_prompts,
    write_labels,
    write_prompts,
)
from dataunlearn.runtime.files import (
    make_readable,
    replace_folder,
    temporary_folder,
    write_atomically,
)
from dataunlearn.runtime.progress import progress_bar
from dataunlearn.runtime.seeding import mix_seed
from dataunlearn.runtime.text_files import as_page

DATA_FOLDER, GALLERY_FILE = "data", "gallery.html"
Say = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class LabelledPrompt:
    """A prompt with its samples and what they are.

    Attributes:
        data: Its folder, texts, files and labels.
        name: What reports call it.
        images: The samples ``(N, C, H, W)`` in [-1, 1], in the order of the files.
        labelling: The labels, and a judge of fresh samples.
        original: The training image ``(C, H, W)``, if it is at hand.
    """

    data: PromptData
    name: str
    images: Tensor
    labelling: Labelling
    original: Tensor | None

    @property
    def gallery(self) -> Path:
        """The page on which its labels can be looked at."""
        return self.data.folder / GALLERY_FILE


def label_prompts(
    model: DiffusionModel, config: PromptUnlearning, say: Say, *, shown: bool = True
) -> list[LabelledPrompt]:
    """Draw the samples of all prompts and label them, as far as that is not done yet.

    Samples of other prompts, weights or settings are drawn anew. Labels that are there stay: a
    person may have corrected them.

    Args:
        model: The model before unlearning, in eval mode.
        config: The settings.
        say: Where lines for a person go.
        shown: Whether to draw progress.

    Raises:
        ValueError: If a prompt, an image or a label cannot be used.
    """
    if config.prompts.is_dir():
        root, specs = config.prompts, {}
    else:
        root = config.out / DATA_FOLDER
        specs = {spec.folder: spec for spec in read_prompt_file(config.prompts)}
        draw_samples(model, config, root, list(specs.values()), say, shown=shown)
    originals = {
        folder: open_for(model, str(spec.image), resize=True, role="training", captions=False)
        for folder, spec in specs.items()
        if spec.image is not None
    }
    pictures = {folder: images.batch(torch.tensor([0]))[0] for folder, images in originals.items()}
    found = {
        folder: label_folder(model, root / folder, pictures.get(folder), config.evaluation_seed)
        for folder in specs
    }
    labelled = [
        _open(model, data, specs.get(data.name), pictures.get(data.name), found.get(data.name))
        for data in read_prompts(root)
    ]
    if specs:
        for prompt in labelled:
            write_gallery(prompt)
        say(f"Labels can be looked at and corrected: {root}/*/{GALLERY_FILE}")
    return labelled


def draw_samples(
    model: DiffusionModel,
    config: PromptUnlearning,
    root: Path,
    specs: Sequence[PromptSpec],
    say: Say,
    *,
    shown: bool = True,
) -> None:
    """Draw the samples of prompts that have none yet, one whole prompt after the other.

    Raises:
        ValueError: If there are samples of other prompts or of another model that must not be
            removed.
    """
    wanted = origins(model, config, specs)
    drop_others(root, wanted, config.out, say)
    missing = [spec for spec in specs if not (root / spec.folder / IMAGES_FOLDER).is_dir()]
    total = config.images_per_prompt * len(missing)
    with progress_bar("drawing samples", total, shown=shown and total > 0) as advance:
        for spec in missing:
            count, place = config.images_per_prompt, specs.index(spec)
            samples = draw(model, config, [spec.prompt], count, place, progress=advance)
            record_origin(root / spec.folder, wanted[spec.folder])
            save_images(samples, root / spec.folder / IMAGES_FOLDER)
    texts = {spec.folder: spec.prompt for spec in specs}
    write_prompts(root, texts, modified_prompts(root, specs))


def draw(
    model: DiffusionModel,
    config: PromptUnlearning,
    prompts: Sequence[Prompt],
    count: int,
    *stream: int,
    progress: Progress,
) -> Tensor:
    """Samples ``(count, C, H, W)`` of prompts in turn, as the settings say.

    Args:
        model: The model, in eval mode.
        config: Steps, batch and evaluation seed.
        prompts: What it is asked for.
        count: How many samples.
        *stream: Names the noise, together with the evaluation seed.
        progress: Called with the number of samples finished by each batch.
    """
    return generate(
        model,
        count,
        Drawing(
            seed=mix_seed(config.evaluation_seed, *stream),
            num_steps=config.sampling_steps,
            batch_size=config.batch_size,
            prompts=prompts,
            progress=progress,
        ),
    )


def modified_prompts(root: Path, specs: Sequence[PromptSpec]) -> Mapping[str, str | Tensor]:
    """The modified prompts that are given, or that an earlier call found, by folder."""
    known: dict[str, str | Tensor] = {}
    if (root / "original_prompts.json").is_file():  # an earlier call got this far
        known = {d.name: d.modified for d in _with_labels(root, specs) if d.modified is not None}
    for spec in specs:
        given = spec.modified
        if isinstance(given, Path):
            known[spec.folder] = read_embedding(given)
        elif given is not None:
            known[spec.folder] = given if isinstance(given, str) else given[0]
    return known


def _with_labels(root: Path, specs: Sequence[PromptSpec]) -> list[PromptData]:
    complete = all((root / spec.folder / LABELS_FILE).is_file() for spec in specs)
    return read_prompts(root) if complete else []


def save_images(images: Tensor, folder: Path) -> None:
    """Write pictures ``(N, C, H, W)`` as numbered PNG files, all or none."""
    with temporary_folder(folder) as temporary:
        for number, pixels in enumerate(to_uint8(images)):
            Image.fromarray(pixels.squeeze()).save(temporary / f"{number:04d}.png")
        make_readable(temporary)
        replace_folder(temporary, folder)


def label_folder(
    model: DiffusionModel, folder: Path, original: Tensor | None, seed: int
) -> Labelling:
    """Label a prompt's samples; labels that are there stay.

    Returns:
        What the clusters say, whatever labels there are.
    """
    found = open_for(model, str(folder / IMAGES_FOLDER), role="sampled", captions=False)
    labelling = label_memorised(
        found.batch(torch.arange(len(found))), training_image=original, seed=seed
    )
    if labels_stand(folder, original):
        return labelling
    names = [Path(found.name(index)).name for index in range(len(found))]
    labels = {name: int(label) for name, label in zip(names, labelling.labels, strict=True)}
    write_labels(folder, labels, memorised_cluster=labelling.memorised_cluster)
    record_labels(folder, original)
    return labelling


def write_gallery(prompt: LabelledPrompt) -> None:
    """Write the page of a prompt's samples beside them."""
    page = render_gallery(
        prompt.data, prompt.images, training_image=prompt.original, labelling=prompt.labelling
    )
    write_atomically(prompt.gallery, as_page(page))


def _open(
    model: DiffusionModel,
    data: PromptData,
    spec: PromptSpec | None,
    original: Tensor | None,
    found: Labelling | None,
) -> LabelledPrompt:
    files = str(data.folder / IMAGES_FOLDER)
    images = open_for(model, files, resize=True, role="sampled", captions=False)
    batch = images.batch(torch.arange(len(images)))
    labels = torch.tensor([bool(data.labels[file.name]) for file in data.files])
    if found is not None and torch.equal(found.labels, labels):
        labelling = found
    else:
        labelling = take_labels(batch, labels)
    return LabelledPrompt(data, spec.name if spec else data.name, batch, labelling, original)
