"""A model on the hub: asked for at the start, uploaded at the end; no network is used here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dataunlearn.models import publishing


class Hub:
    """Stands for ``HfApi``."""

    def __init__(self) -> None:
        self.done: list[tuple[str, dict[str, Any]]] = []
        self.fails = ""

    def __call__(self) -> Hub:
        return self

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **settings: Any) -> str:
            if name == self.fails:
                raise RuntimeError("401 Client Error")
            self.done.append((name, {"args": args, **settings}))
            return "https://huggingface.co/me/model"

        return call


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Hub:
    found = Hub()
    monkeypatch.setattr(publishing, "HfApi", found)
    return found


@pytest.mark.parametrize("name", ["model", "", "a/b/c", "../x", "me/ model"])
def test_names_that_are_none_are_refused(hub: Hub, name: str) -> None:
    with pytest.raises(ValueError, match="owner/name"):
        publishing.require_publishable(name)
    assert hub.done == []


def test_nobody_logged_in_is_told_at_the_start(hub: Hub) -> None:
    hub.fails = "whoami"
    with pytest.raises(ValueError, match="hf auth login"):
        publishing.require_publishable("me/model")


def test_the_folder_goes_into_a_private_repository(hub: Hub, tmp_path: Path) -> None:
    publishing.require_publishable("me/model")
    assert publishing.publish(tmp_path, "me/model") == "https://huggingface.co/me/model"
    calls = dict(hub.done)
    assert calls["create_repo"]["private"] is True
    assert calls["upload_folder"] == {"args": (), "repo_id": "me/model", "folder_path": tmp_path}


def test_a_failed_upload_says_where_the_model_is(hub: Hub, tmp_path: Path) -> None:
    hub.fails = "upload_folder"
    with pytest.raises(ValueError, match=f"the model is in {tmp_path}"):
        publishing.publish(tmp_path, "me/model")
