"""Pictures, arrays, captions, prompts, model folders and runs with something odd in them."""

from __future__ import annotations

import io
import json
import random
import shutil
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image
from sandbox import CAPTIONS, PICTURE_SIDE, PIXEL_SIDE, Sandbox
from spoil import spoil_bytes, spoil_json_text, spoil_text

MODES = ("L", "RGB", "RGBA", "P", "1", "I;16", "F", "LA", "CMYK", "I")
FORMATS = ("PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP", "PPM", "ICO")
KINDS = ("float64", "int64", "bool", "complex64", "float16", "<U3")
ODD_SHAPES = ((3, 2, PIXEL_SIDE, PIXEL_SIDE), (), (10**4, 1, 1))
ODD_PARTS = (":y", "[0]", "[0:2]", "[9]", ":", "[-1]", ":x[a]")
NAMES = (
    "a.png",
    "ü.png",
    "a\nb.png",
    "\x1b[31m.png",
    "a" * 200 + ".png",
    ".hidden.png",
    "b.txt",
    "c",
)


def pictures(sandbox: Sandbox, folder: Path, draw: random.Random) -> list[str]:
    """A folder in which one picture is odd: in its mode, size, name, format, or damaged."""
    forget = folder / "forget"
    shutil.copytree(sandbox.forget, forget)
    mode, coded = draw.choice(MODES), draw.choice(FORMATS)
    side = draw.choice((PIXEL_SIDE,) * 4 + (1, 7, 9, 64))
    pixels = draw.randbytes(side * side * 3)
    picture = Image.frombytes("RGB", (side, side), pixels)
    if draw.random() < 0.5:  # as the model's pictures are
        picture = picture.convert("L")
    stored = io.BytesIO()
    try:
        picture.convert("L" if mode in ("I;16", "LA") else mode).convert(mode).save(stored, coded)
    except (OSError, ValueError, KeyError):
        picture.save(stored, "PNG")
    content = stored.getvalue()
    if draw.random() < 0.5:
        content = spoil_bytes(content, draw)
    (forget / draw.choice(NAMES)).write_bytes(content)
    more = ["--resize=true"] if draw.random() < 0.4 else []
    return [*sandbox.unlearn(folder / "out"), f"--forget={forget}", "--dry_run=true", *more]


def arrays(sandbox: Sandbox, folder: Path, draw: random.Random) -> list[str]:
    """Pictures in an ``.npy`` or ``.npz`` of an odd kind or shape, or damaged."""
    kind = draw.choice(("uint8",) * 6 + ("float32",) * 3 + KINDS)
    side = PIXEL_SIDE
    usual = ((3, side, side), (3, 1, side, side), (3, side, side, 1))
    shape = draw.choice((*usual * 3, (3, side), (0, side, side), (3, side, side, 3), *ODD_SHAPES))
    made = np.random.default_rng(draw.randrange(2**32))
    values = (made.random(shape) * (1 if kind == "float32" else 255)).astype(kind)
    if values.dtype.kind == "f" and values.size and draw.random() < 0.4:
        values.flat[0] = draw.choice((np.nan, np.inf, -np.inf, 1e30))
    stored, is_npz = io.BytesIO(), draw.random() < 0.6
    if is_npz:
        name = draw.choice(("x",) * 4 + ("images", "arr_0", "y", "captions", "a/b", "ü"))
        labels = made.integers(-1, 3, draw.choice((2, 3, 4)))
        np.savez(stored, **{"y": labels, name: values} if draw.random() < 0.3 else {name: values})
    else:
        np.save(stored, values)
    content = stored.getvalue()
    if draw.random() < 0.5:
        content = spoil_bytes(content, draw)
    file = folder / f"forget.{'npz' if is_npz else 'npy'}"
    if draw.random() < 0.1:
        file, content = folder / "forget.zip", _zipped(content)
    file.write_bytes(content)
    part = draw.choice(("",) * 9 + (":x", ":x[0]", *ODD_PARTS))
    return [*sandbox.unlearn(folder / "out"), f"--forget={file}{part}", "--dry_run=true"]


def captions(sandbox: Sandbox, folder: Path, draw: random.Random) -> list[str]:
    """Captioned pictures whose metadata or text files are odd."""
    forget = folder / "forget"
    shutil.copytree(sandbox.captioned, forget)
    table = forget / "metadata.jsonl"
    way = draw.randrange(4)
    if way == 0:
        table.unlink()
        for number, caption in enumerate(CAPTIONS[: draw.randrange(5)]):
            (forget / f"{number}.txt").write_bytes(spoil_text(caption, draw))
    elif way == 1:
        table.unlink()
        rows = "file_name,text\n" + "".join(f"{n}.png,{c}\n" for n, c in enumerate(CAPTIONS))
        (forget / "metadata.csv").write_bytes(spoil_text(rows, draw))
    else:
        table.write_bytes(spoil_text(table.read_text(), draw))
    inputs = {"--forget": forget, "--keep": sandbox.captioned_keep}
    own = [f"{name}={place}" for name, place in inputs.items()]
    size = f"--image_size={PICTURE_SIDE}"
    command = sandbox.unlearn(folder / "out", model=sandbox.text_model)
    return [*command, *own, size, "--dry_run=true"]


def prompts(sandbox: Sandbox, folder: Path, draw: random.Random) -> list[str]:
    """A list of prompts, in one of the kinds of files, with an odd line or entry."""
    ending = draw.choice(("yaml", "json", "jsonl", "txt", "csv"))
    image = str(sandbox.captioned / "0.png")
    rows = [{"prompt": CAPTIONS[0], "image": image}, {"prompt": CAPTIONS[1], "image": image}]
    if ending in ("yaml", "json"):
        content = spoil_json_text(json.dumps(rows, indent=1).encode(), draw)
    elif ending == "jsonl":
        content = spoil_text("".join(json.dumps(row) + "\n" for row in rows), draw)
    elif ending == "csv":
        lines = "prompt,image\n" + "".join(f"{row['prompt']},{image}\n" for row in rows)
        content = spoil_text(lines, draw)
    else:
        content = spoil_text("\n".join(CAPTIONS), draw)
    file = folder / f"prompts.{ending}"
    file.write_bytes(content)
    model = ("--model", str(sandbox.text_model), "--device", "cpu")
    if draw.random() < 0.5:
        size = ("--num_samples", "2", "--num_steps", "1", "--image_size", str(PICTURE_SIDE))
        return ["sample", *model, "--prompts", str(file), "--out", str(folder / "grid.png"), *size]
    size = ("--images_per_prompt", "4", "--sampling_steps", "1", "--image_size", str(PICTURE_SIDE))
    more = ("--stop_after", "labels", "--optimise", "never", "--min_keep", "1")
    return [
        *("unlearn-prompts", *model, "--prompts", str(file), "--out", str(folder / "out")),
        *(*size, *more),
    ]


def models(sandbox: Sandbox, folder: Path, draw: random.Random) -> list[str]:
    """A model folder in which a file is damaged, lacking, renamed or of another model."""
    is_text = draw.random() < 0.5
    whole = sandbox.text_model if is_text else sandbox.pixel_model
    model = folder / "model"
    shutil.copytree(whole, model)
    files = sorted(path for path in model.rglob("*") if path.is_file())
    for _ in range(draw.choice((1, 1, 1, 2))):
        spoil_file(draw.choice(files), files, draw)
    if not is_text:
        return [*sandbox.unlearn(folder / "out"), f"--model={model}", "--dry_run=true"]
    if draw.random() < 0.3:
        size = ("--num_samples", "2", "--num_steps", "1", "--image_size", str(PICTURE_SIDE))
        return ["sample", "--model", str(model), "--out", str(folder / "grid.png"), *size]
    own = [f"--forget={sandbox.captioned}", f"--keep={sandbox.captioned_keep}"]
    more = ("--dry_run=true", f"--image_size={PICTURE_SIDE}")
    return [*sandbox.unlearn(folder / "out", model=model), *own, *more]


def states(sandbox: Sandbox, folder: Path, draw: random.Random) -> list[str]:
    """A run that is to go on, one of whose files is damaged."""
    out = folder / "out"
    shutil.copytree(sandbox.begun, out)
    files = sorted(path for path in out.rglob("*") if path.is_file())
    spoil_file(draw.choice(files), files, draw)
    return sandbox.unlearn(out)


def runs(sandbox: Sandbox, folder: Path, draw: random.Random) -> list[str]:
    """A finished run whose page is to be written again, one of whose files is damaged."""
    out = folder / "out"
    shutil.copytree(sandbox.run, out)
    files = [out / name for name in ("report.json", "log.jsonl", "images.npz", "settings.json")]
    spoil_file(draw.choice([file for file in files if file.is_file()]), files, draw)
    return ["report", str(out)]


def spoil_file(file: Path, others: list[Path], draw: random.Random) -> None:
    """Damage, remove, rename, or exchange a file."""
    if not file.is_file():
        return
    way = draw.randrange(10)
    if way == 0:
        file.unlink()
    elif way == 1:
        file.rename(file.with_name(draw.choice(("other", "x" + file.name, file.name + ".old"))))
    elif way == 2:
        other = draw.choice(others)
        file.write_bytes(other.read_bytes() if other.is_file() else b"")
    elif way == 3:
        file.unlink()
        file.mkdir()
    elif file.suffix in (".json", ".jsonl"):
        file.write_bytes(spoil_json_text(file.read_bytes(), draw))
    elif file.suffix == ".safetensors" and draw.random() < 0.5:
        file.write_bytes(_with_header(file.read_bytes(), draw))
    else:
        file.write_bytes(spoil_bytes(file.read_bytes(), draw))


def _with_header(content: bytes, draw: random.Random) -> bytes:
    """Weights whose list of tensors has one entry changed."""
    size = int.from_bytes(content[:8], "little")
    header = spoil_json_text(content[8 : 8 + size], draw)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def _zipped(content: bytes) -> bytes:
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as archive:
        archive.writestr("images.npy", content)
    return stored.getvalue()
