"""Put a model's folder on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import HfApi

from dataunlearn.data.hub import looks_like_hub_id
from dataunlearn.runtime.checks import in_one_line, require


def require_publishable(name: str) -> None:
    """Make sure, before any work, that a model can be put on the hub under a name.

    Raises:
        ValueError: If the name is none, or nobody is logged in.
    """
    require(looks_like_hub_id(name), f"--push_to_hub takes owner/name, not {name}")
    try:
        HfApi().whoami()
    except Exception as error:  # the hub's client raises many kinds
        raise ValueError(
            f"--push_to_hub {name}: the hub knows nobody here ({in_one_line(error)}); log in by "
            "`hf auth login`, or leave it out and upload the folder later"
        ) from error


def publish(folder: Path, name: str) -> str:
    """Put a model's folder on the hub, in a private repository; whoever owns it may open it.

    Args:
        folder: The pipeline's folder.
        name: ``owner/name``.

    Returns:
        The address.

    Raises:
        ValueError: If the hub does not take it; the folder stays.
    """
    try:
        api = HfApi()
        address = api.create_repo(name, private=True, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder)
    except Exception as error:  # likewise
        raise ValueError(
            f"the hub did not take {name} ({in_one_line(error)}); the model is in {folder}: "
            f"`hf upload {name} {folder}` tries again"
        ) from error
    return str(address)
