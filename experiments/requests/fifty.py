"""Fifty removal requests, one after the other, on a model that knows fifty pictures by heart.

    python experiments/requests/fifty.py rehearsed --out runs/requests

``models/mnist_fifty`` learnt digits and fifty emoji, its twin the digits alone. Pictures to keep
are what it learnt, digits and emoji half and half; those of requests leave them. Each request names
one emoji and is answered by ``request apply``, as the command does by itself or in ``--steps`` at
``--strength``. After each one it is noted what the verifications of all requests say, how far the
model is from the twin on the pictures that were removed so far, what it loses on pictures to keep,
and where the seconds went; the Inception Score after every fifth one. A call that was interrupted
goes on. Arms: ``plain``, ``rehearsed`` (what comes back is made forgotten again, the command's
default) and ``anchored`` (that, and a penalty that draws parameters to the first model's).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from dataunlearn.data import open_images
from dataunlearn.metrics.digits import digit_quality, load_digit_classifier
from dataunlearn.metrics.inputs import Inputs
from dataunlearn.metrics.reference_distance import ReferenceDistance
from dataunlearn.models import load_model
from dataunlearn.models.sampling import Drawing, generate
from dataunlearn.requests.adding import add_request
from dataunlearn.requests.applying import apply_requests
from dataunlearn.requests.config import Applying, NewProject, NewRequest
from dataunlearn.requests.ledger import Ledger
from dataunlearn.requests.models import open_version
from dataunlearn.runtime.files import write_atomically

ARMS: dict[str, tuple[bool, dict[str, Any]]] = {
    "plain": (False, {}),
    "rehearsed": (True, {}),
    "anchored": (True, {"anchor": {"weight": 1.0}}),
}
MEASURED = {"num_samples": 0, "digits": False, "regeneration_copies": 16}
DIGITS, EMOJI = "src/dataunlearn/assets/digits.npz:x", "data/fifty_emoji.npz:trained"
# Half of the rows that the model was trained on were emoji; so are half of the pictures to keep.
COPIES = 185
SHAPE = (1, 28, 28)
SEED = 20270
SCORED_EVERY, SAMPLES = 5, 512


@dataclass(frozen=True)
class Course:
    """Requests under one arm.

    Attributes:
        arm: Its name.
        model: The first model.
        twin: One that never saw any of the pictures.
        pictures: The pictures, one a request.
        folder: Where the project and the records go.
        keep: The pictures to keep.
        accelerator: Where models run.
        steps: Steps of each run; None for the command's own number.
        strength: How hard each pulls.
    """

    arm: str
    model: Path
    twin: Path
    pictures: str
    folder: Path
    keep: Path
    accelerator: Accelerator
    steps: int | None
    strength: str

    @property
    def project(self) -> Path:
        """The ledger's folder."""
        return self.folder / "project"

    @property
    def _device(self) -> str:
        return str(self.accelerator.device)

    def run(self, count: int) -> None:
        """Add and answer requests until there are ``count``."""
        records = self._records()
        for number in range(len(records), count):
            records.append(self._one(number))
            text = json.dumps({"arm": self.arm, "records": records}, indent=1)
            write_atomically(self.folder / "records.json", text.encode())

    def _records(self) -> list[dict[str, Any]]:
        path = self.folder / "records.json"
        return list(json.loads(path.read_text())["records"]) if path.is_file() else []

    def _one(self, number: int) -> dict[str, Any]:
        self._add(number)
        rehearse, more = ARMS[self.arm]
        settings = {"steps": self.steps, "strength": self.strength, "evaluation": MEASURED, **more}
        how = Applying(unlearning=settings, duplicates="leave", rehearse=rehearse, accept=True)
        started = time.perf_counter()
        found = apply_requests(self.project, how, accelerator=self.accelerator, say=print)
        seconds = time.perf_counter() - started
        with Ledger(self.project) as ledger:
            return {"request": number + 1, **self._state(ledger, number, seconds, found)}

    def _add(self, number: int) -> None:
        reference = f"picture {number}"
        if (self.project / "ledger.sqlite").is_file():
            with Ledger(self.project) as ledger:
                if any(request.reference == reference for request in ledger.requests):
                    return
        request = NewRequest(reference, f"{self.pictures}[{number}]")
        project = NewProject(model=str(self.model), keep=str(self.keep))
        add_request(self.project, request, project, say=print, device=self._device)

    def _state(self, ledger: Ledger, number: int, seconds: float, found: Any) -> dict[str, Any]:
        made = [version for version in ledger.versions if number + 1 in version.requests]
        verifications = [v for version in made for v in ledger.verifications(version=version.id)]
        last = {v.request: v.memory for v in ledger.verifications(version=ledger.head.id)}
        parts = {
            "training": sum(version.seconds.get("training", 0.0) for version in made),
            "measuring": sum(version.seconds.get("measuring", 0.0) for version in made),
            "verification": sum(each.seconds for each in verifications),
        }
        drift = ledger.head.verdict.get("drift", {})
        return {
            "versions": [version.id for version in made],
            "known_to_the_head": found.version is not None,
            "memory": last,
            "seconds": {"all": seconds, **parts},
            "keep_loss": drift.get("rise", {}).get("ratios"),
            "verdict": ledger.head.verdict.get("text"),
            **self._measured(ledger, number),
        }

    def _measured(self, ledger: Ledger, number: int) -> dict[str, Any]:
        """Distance to the twin on the pictures so far; the Inception Score now and then."""
        model = open_version(ledger.folder, ledger.project, ledger.head, self._device)
        images = open_images(self.pictures, model.image_shape)
        forget = open_images(
            np.stack([images.pixels(row) for row in range(number + 1)]),
            model.image_shape,
        )
        twin = load_model(self.twin, device=self._device)
        inputs = Inputs(model, forget=forget, reference=twin, seed=SEED, shown=False)
        near = {each.name: each.value for each in ReferenceDistance(num_draws=2)(inputs)}
        if (number + 1) % SCORED_EVERY:
            return {"to_twin": near}
        samples = generate(model, SAMPLES, Drawing(seed=SEED))
        found = digit_quality(samples, load_digit_classifier())
        names = ("inception_score", "inception_score_std", "mean_confidence", "broken_share")
        return {"to_twin": near, "digits": {name: getattr(found, name) for name in names}}


def learnt(path: Path) -> Path:
    """A file of what the model learnt: digits, and each emoji ``COPIES`` times."""
    if not path.is_file():
        digits, emoji = (
            np.stack([images.pixels(row) for row in range(len(images))])
            for images in (open_images(source, SHAPE) for source in (DIGITS, EMOJI))
        )
        np.savez_compressed(path, images=np.concatenate([digits, *[emoji] * COPIES]))
    return path


def main() -> None:
    """Run an arm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument("--model", type=Path, default=Path("models/mnist_fifty"))
    parser.add_argument("--twin", type=Path, default=Path("models/mnist_tshirt_small_without"))
    parser.add_argument("--pictures", default="data/fifty_emoji.npz:planted")
    parser.add_argument("--requests", type=int, default=50)
    parser.add_argument("--steps", type=int, help="of each run; the command's own if not given")
    parser.add_argument("--strength", default="default")
    parser.add_argument("--out", type=Path, default=Path("runs/requests"))
    parser.add_argument("--cpu", action="store_true", help="even where there is a GPU")
    chosen = parser.parse_args()
    folder: Path = chosen.out / chosen.arm
    folder.mkdir(parents=True, exist_ok=True)
    keep = learnt(chosen.out / "keep.npz")
    places = (chosen.model, chosen.twin, chosen.pictures, folder, keep)
    how = (chosen.steps, chosen.strength)
    course = Course(chosen.arm, *places, Accelerator(cpu=chosen.cpu), *how)
    course.run(chosen.requests)


if __name__ == "__main__":
    main()
