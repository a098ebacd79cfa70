"""Prompt embeddings in files: one plain tensor, as other programs write and read it."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor

from dataunlearn.runtime.files import write_atomically

EMBEDDING_SUFFIX = ".pt"


def is_embedding_path(text: str) -> bool:
    """Whether a modified prompt is the path of an embedding and not a text."""
    return text.strip().lower().endswith(EMBEDDING_SUFFIX)


def read_embedding(path: Path) -> Tensor:
    """Load a prompt embedding; only tensors are unpickled, never code.

    Returns:
        ``(L, D)`` on the CPU, of the type it was stored in.

    Raises:
        ValueError: If the file is missing or damaged, or holds anything else than a finite
            ``(L, D)`` or ``(1, L, D)`` tensor of floats.
    """
    if not path.is_file():
        raise ValueError(f"there is no prompt embedding {path}: check its path")
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged files raise many kinds
        raise ValueError(
            f"{path} cannot be read as a tensor; save the embedding alone, as "
            "torch.save(embedding, path)"
        ) from error
    return as_embedding(stored, str(path))


def write_embedding(path: Path, embedding: Tensor) -> None:
    """Write a prompt embedding whole or not at all, as one plain tensor.

    Args:
        path: The file.
        embedding: ``(L, D)`` or ``(1, L, D)``, floating; stored as ``(L, D)``.

    Raises:
        ValueError: If it has another shape or type, or values that are not finite.
    """
    buffer = io.BytesIO()
    # A clone, as a view would be stored with all that it is a view of.
    torch.save(as_embedding(embedding, path.name).contiguous().clone(), buffer)
    write_atomically(path, buffer.getvalue())


def as_embedding(value: object, name: str) -> Tensor:
    """Check a prompt embedding and drop its leading dimension of 1.

    Args:
        value: What should be an embedding.
        name: What to call it in errors.

    Returns:
        ``(L, D)`` on the CPU, without gradient.

    Raises:
        ValueError: If it is none.
    """
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name} holds a {type(value).__name__}, no tensor; give the prompt embedding alone, "
            "a tensor (L, D)"
        )
    embedding = value.detach().cpu()
    if embedding.ndim == 3 and len(embedding) == 1:
        embedding = embedding[0]
    if embedding.ndim != 2 or not embedding.is_floating_point() or not embedding.numel():
        raise ValueError(
            f"{name} is a {value.dtype} tensor of shape {tuple(value.shape)}; give floats "
            "(L, D) or (1, L, D), one row for each token"
        )
    if not embedding.isfinite().all():
        raise ValueError(f"{name} has values that are not finite; make the embedding anew")
    return embedding
