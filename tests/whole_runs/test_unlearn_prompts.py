"""The workflow on memorised prompts, from samples to the report, on a tiny random pipeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.tracking import GeneralTracker
from diffusers import DiffusionPipeline
from PIL import Image

from dataunlearn.cli import main as cli
from dataunlearn.metrics.pixel_distance import pixel_distances
from dataunlearn.prompts.config import PromptUnlearning
from dataunlearn.prompts.keep_side import KeepSide
from dataunlearn.prompts.published_layout import read_prompts, write_labels, write_prompts
from dataunlearn.prompts.sample_cache import SampleCache
from dataunlearn.prompts.samples import draw, label_prompts
from dataunlearn.prompts.workflow import open_model, unlearn_prompts
from dataunlearn.recipes.stable_diffusion import stable_diffusion as stable_diffusion_recipe
from dataunlearn.runtime.files import read_log
from dataunlearn.runtime.streams import LESS_GUIDANCE_STREAM
from tiny_pipelines import stable_diffusion


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    stable_diffusion().save_pretrained(folder)
    return folder


def make_config(model: Path, prompts: Path, out: Path, **settings: Any) -> PromptUnlearning:
    quick: dict[str, Any] = {
        "images_per_prompt": 6,
        "fresh_samples": 3,
        "sampling_steps": 2,
        "optimise": "never",
        "keep_guidance": None,
        "embedder": "pixels",
        "unlearning": {"steps": 2, "batch_pairs": 2, "stop": {"every_steps": 1, "copies": 2}},
    }
    return PromptUnlearning(str(model), prompts, out, **{**quick, **settings})


def run(config: PromptUnlearning) -> dict[str, Any] | None:
    return unlearn_prompts(config, say=lambda text: None, shown=False)


def relabel(data: Path, memorised: dict[str, int]) -> None:
    """Call the first few samples of each prompt memorised, as a person might."""
    for folder, count in memorised.items():
        names = sorted(path.name for path in (data / folder / "images").iterdir())
        labels = {name: int(number < count) for number, name in enumerate(names)}
        write_labels(data / folder, labels)


class TestFromAPromptFile:
    def test_labels_are_corrected_and_a_second_call_goes_on(
        self, model: Path, tmp_path: Path
    ) -> None:
        prompts, out = tmp_path / "prompts.yaml", tmp_path / "out"
        prompts.write_text("- red\n- {prompt: blue, modified: green}\n")
        assert run(make_config(model, prompts, out, stop_after="labels")) is None
        assert (out / "data" / "000" / "gallery.html").is_file()
        relabel(out / "data", {"000": 3, "001": 2})
        samples = {p: p.stat().st_mtime_ns for p in (out / "data").rglob("*.png")}
        facts = run(make_config(model, prompts, out))
        assert facts is not None
        assert samples == {p: p.stat().st_mtime_ns for p in (out / "data").rglob("*.png")}
        assert [prompt["share_memorised"] for prompt in facts["prompts"]] == [0.5, 2 / 6]
        assert facts["prompts"][0]["decided_by"] != facts["prompts"][0]["verdict"]
        (only,) = facts["runs"]
        assert only["steps"] == 2
        results = only["results"]["after"]
        assert len(results["original_memorised_fraction"]["per_item"]) == 2
        assert len(results["modified_memorised_fraction"]["per_item"]) == 1
        assert -1 <= results["original_copy_similarity"]["value"] < 1
        assert facts["mitigated"]["prompts"] == 2
        DiffusionPipeline.from_pretrained(str(out / "run" / "model"))
        assert "<img" in (out / "report.html").read_text()
        with pytest.raises(ValueError, match="finished run"):
            run(make_config(model, prompts, out))

    def test_nothing_memorised_is_said(self, model: Path, tmp_path: Path) -> None:
        prompts, out = tmp_path / "prompts.txt", tmp_path / "out"
        prompts.write_text("red\n")
        run(make_config(model, prompts, out, stop_after="labels"))
        relabel(out / "data", {"000": 0})
        with pytest.raises(ValueError, match="no prompt has memorised samples"):
            run(make_config(model, prompts, out))

    def test_an_embedder_that_is_not_there_is_told_before_anything_is_done(
        self, model: Path, tmp_path: Path
    ) -> None:
        prompts, out = tmp_path / "prompts.txt", tmp_path / "out"
        prompts.write_text("red\n")
        with pytest.raises(ValueError, match="embedder"):
            run(make_config(model, prompts, out, embedder="efficientnet"))
        assert not out.exists()


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Two prompts in the published layout, all samples of the second one the same picture."""
    root = tmp_path / "published"
    draw = torch.Generator().manual_seed(0)
    for folder, count in (("000", 2), ("001", 4)):
        images = root / folder / "images"
        images.mkdir(parents=True)
        for number in range(4):
            if folder == "000" or number == 0:
                pixels = torch.randint(0, 256, (16, 16, 3), generator=draw, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(images / f"{number}.png")
        relabel(root, {folder: count})
    write_prompts(root, {"000": "red", "001": "blue"}, {"001": "green"})
    return root


class TestFromPublishedData:
    def test_a_prompt_without_others_keeps_what_its_modified_prompt_gives(
        self, model: Path, published: Path, tmp_path: Path
    ) -> None:
        facts = run(make_config(model, published, tmp_path / "out"))
        assert facts is not None
        assert [prompt["verdict"] for prompt in facts["prompts"]] == ["mixed", "all memorised"]

    def test_without_a_modified_prompt_it_is_refused(
        self, model: Path, published: Path, tmp_path: Path
    ) -> None:
        (published / "modified_prompts.json").unlink()
        with pytest.raises(ValueError, match="nothing to keep: give another modified prompt"):
            run(make_config(model, published, tmp_path / "out"))

    def test_further_samples_to_keep_are_drawn_with_less_guidance(
        self, model: Path, published: Path, tmp_path: Path
    ) -> None:
        """They are what plain sampling without guidance draws from the same noise."""
        (published / "modified_prompts.json").unlink()
        config = make_config(model, published, tmp_path / "out", keep_guidance=1.0, min_keep=3)
        opened = open_model(config, torch.device("cpu"))
        prompt = label_prompts(opened, config, lambda text: None, shown=False)[1]
        assert prompt.labelling.verdict == "all memorised"
        cache = SampleCache.of(opened, config, "weights")
        found = KeepSide(opened, config, cache, shown=False).own(prompt)
        assert opened.guidance == 7.5
        drawn = []
        for guidance in (1.0, 7.5):
            opened.guidance = guidance
            place = (6, LESS_GUIDANCE_STREAM, 0)
            drawn.append(draw(opened, config, ["blue"], *place, progress=lambda done: None))
        torch.testing.assert_close(found, drawn[0])
        assert (drawn[0] - drawn[1]).abs().max() > 1e-3
        again = make_config(model, published, tmp_path / "run", keep_guidance=1.0, min_keep=3)
        assert run(again) is not None  # where there was nothing to keep before

    def test_a_modified_prompt_is_found_where_it_is_needed(
        self, model: Path, published: Path, tmp_path: Path
    ) -> None:
        (published / "modified_prompts.json").unlink()
        out = tmp_path / "out"
        facts = run(make_config(model, published, out, min_keep=2, optimise="where_needed"))
        assert facts is not None
        found = facts["runs"][0]["results"]["after"]["modified_memorised_fraction"]["per_item"]
        assert len(found) == 1  # two of four samples of the first prompt are others already
        assert not (published / "modified_prompts.json").exists()

    def test_found_prompts_lie_beside_the_samples(self, model: Path, tmp_path: Path) -> None:
        prompts, out = tmp_path / "prompts.txt", tmp_path / "out"
        prompts.write_text("red\nblue\n")
        settings = {"stop_after": "labels", "optimise": "where_needed", "min_keep": 4}
        run(make_config(model, prompts, out, **settings))
        relabel(out / "data", {"000": 2, "001": 6})
        run(make_config(model, prompts, out, **settings))
        modified = {data.name: data.modified for data in read_prompts(out / "data")}
        assert modified["000"] is None
        assert isinstance(modified["001"], torch.Tensor)

    def test_a_run_for_each_prompt_with_an_embedding_to_condition_on(
        self, model: Path, published: Path, tmp_path: Path
    ) -> None:
        embedding = torch.randn(8, 16)
        write_prompts(published, {"000": "red", "001": "blue"}, {"000": embedding, "001": "green"})
        out = tmp_path / "out"
        facts = run(
            make_config(
                model,
                published,
                out,
                one_run_each=True,
                condition_on="modified",
                unlearning={"steps": 1, "batch_pairs": 2, "lora": {"rank": 2}},
            )
        )
        assert facts is not None
        hashes = {r["model"]["before"] for r in facts["runs"]}
        assert len(hashes) == 1  # each run starts from the same model
        assert len({r["model"]["after"] for r in facts["runs"]}) == 2
        for name in ("000", "001"):
            assert (out / "runs" / name / "model" / "model_index.json").is_file()
            assert list((out / "runs" / name / "lora").glob("*.safetensors"))

    def test_what_stays_and_what_drifts(self, model: Path, published: Path, tmp_path: Path) -> None:
        others = tmp_path / "others.txt"
        others.write_text("green\nred bird\n")
        out = tmp_path / "out"
        facts = run(make_config(model, published, out, prior=others, unnamed=others))
        assert facts is not None
        results = facts["runs"][0]["results"]
        assert 0 < results["drift"]["value"] < results["drift_of_another_seed"]["value"]
        alike = results["unnamed_similarity"]["value"]
        assert results["unnamed_similarity_of_another_seed"]["value"] < alike <= 1
        log = (out / "run" / "log.jsonl").read_text().splitlines()
        rows = json.loads(log[0])["rows"]
        assert rows == 4  # two pairs of the prompts, two rows of what stays

    def test_samples_from_before_are_drawn_once(
        self, model: Path, published: Path, tmp_path: Path
    ) -> None:
        others = tmp_path / "others.txt"
        others.write_text("green\nred bird\n")
        settings: dict[str, Any] = {"unnamed": others, "one_run_each": True}
        first = run(make_config(model, published, tmp_path / "out", **settings))
        cache = tmp_path / "out" / "before"
        ages = {file: file.stat().st_mtime_ns for file in cache.iterdir()}
        # of each prompt, of a modified one to judge and to keep, and twice of the others
        assert len(ages) == 6
        again = run(make_config(model, published, tmp_path / "again", before=cache, **settings))
        assert ages == {file: file.stat().st_mtime_ns for file in cache.iterdir()}
        assert first is not None
        assert again is not None
        for one, other in zip(first["runs"], again["runs"], strict=True):
            assert one["results"] == other["results"]
        longer = {**settings, "sampling_steps": 3, "before": cache}
        run(make_config(model, published, tmp_path / "longer", **longer))
        assert len(list(cache.iterdir())) == 12

    def test_drift_is_the_mean_pixel_distance(self) -> None:
        from dataunlearn.prompts.drift import drift

        before, after = torch.zeros(2, 1, 3, 3), torch.stack([torch.ones(1, 3, 3)] * 2)
        expected = pixel_distances(before[:1], after[:1])[0, 0]
        assert drift(before, after).value == pytest.approx(float(expected))
        assert float(expected) == pytest.approx(1.5)  # nine pixels that differ by one half


QUICK_RUN = {"steps": 4, "batch_pairs": 2, "stop": {"every_steps": 0}}


class Recorder(GeneralTracker):
    """A tracker that keeps what it is told."""

    name, requires_logging_directory = "recorder", False

    def __init__(self) -> None:
        super().__init__()
        self.logged: list[tuple[int | None, dict[str, Any]]] = []
        self.finished = 0

    @property
    def tracker(self) -> None:
        return None

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        pass

    def log(self, values: dict[str, Any], step: int | None = None, **_: Any) -> None:
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished += 1


class TestUnlearningIsThatOfUnlearn:
    """Settings under ``unlearning`` do what they do for ``dataunlearn unlearn``."""

    def test_a_quality_budget_ends_the_run(
        self, model: Path, published: Path, tmp_path: Path
    ) -> None:
        budget = {"loss_increase": 1e-9, "every_steps": 1, "patience": 0}
        unlearning = {**QUICK_RUN, "learning_rate": 1e-2, "objective": "NegGrad", "budget": budget}
        facts = run(make_config(model, published, tmp_path / "out", unlearning=unlearning))
        assert facts is not None
        log = read_log(tmp_path / "out" / "run" / "log.jsonl")
        assert log[0]["damage"] > 0
        assert len(log) == facts["runs"][0]["steps"] == 1
        assert facts["runs"][0]["model"]["before"] == facts["runs"][0]["model"]["after"]

    def test_steps_go_to_the_tracker(self, model: Path, published: Path, tmp_path: Path) -> None:
        recorder = Recorder()
        accelerator = Accelerator(cpu=True, log_with=recorder)
        config = make_config(
            model, published, tmp_path / "out", unlearning={**QUICK_RUN, "tracker": "recorder"}
        )
        unlearn_prompts(config, accelerator=accelerator, say=lambda text: None, shown=False)
        assert [step for step, _ in recorder.logged] == [1, 2, 3, 4]
        assert all(values["loss_keep"] > 0 for _, values in recorder.logged)
        assert recorder.finished == 1

    def test_a_missing_tracker_is_named(
        self,
        model: Path,
        published: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        arguments = [
            "--model",
            str(model),
            "--prompts",
            str(published),
            "--out",
            str(tmp_path / "o"),
        ]
        settings = ["--unlearning", '{"tracker": "nonesuch"}']
        assert cli.run(["unlearn-prompts", *arguments, *settings]) == 1
        assert "no tracker 'nonesuch'" in capsys.readouterr().err

    def test_the_reference_is_measured_and_shown(
        self, model: Path, published: Path, tmp_path: Path
    ) -> None:
        """The model before as its own reference: its numbers are those from before."""
        unlearning = {**QUICK_RUN, "reference": str(model)}
        facts = run(make_config(model, published, tmp_path / "out", unlearning=unlearning))
        assert facts is not None
        (only,) = facts["runs"]
        assert only["reference"] == only["results"]["before"]
        assert "never saw the pictures" in (tmp_path / "out" / "report.html").read_text()

    def test_measurements_are_no_reference_for_prompts(
        self, model: Path, published: Path, tmp_path: Path
    ) -> None:
        numbers = {"regeneration": {}, "regeneration_interval": {}}
        (tmp_path / "reference.json").write_text(json.dumps(numbers))
        unlearning = {**QUICK_RUN, "reference": str(tmp_path / "reference.json")}
        with pytest.raises(ValueError, match="give the model's folder"):
            run(make_config(model, published, tmp_path / "out", unlearning=unlearning))
        assert not (tmp_path / "out").exists(), "said before any work"


class TestSettings:
    def test_settings_of_the_unlearning_are_checked_first(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"unlearning: .*stepz"):
            make_config(tmp_path, tmp_path, tmp_path, unlearning={"stepz": 3})
        with pytest.raises(ValueError, match="must not give model"):
            make_config(tmp_path, tmp_path, tmp_path, unlearning={"model": "x"})

    def test_settings_without_a_meaning_here_are_refused(self, tmp_path: Path) -> None:
        for name, value in (("force", True), ("evaluation", {"num_samples": 3}), ("resize", True)):
            with pytest.raises(ValueError, match=f"must not give {name}: it has no meaning"):
                make_config(tmp_path, tmp_path, tmp_path, unlearning={name: value})

    def test_a_look_at_prompts_has_no_noise_level(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"must not give stop\.timestep"):
            make_config(tmp_path, tmp_path, tmp_path, unlearning={"stop": {"timestep": 500}})

    def test_a_network_in_parts_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="must not give shard"):
            make_config(tmp_path, tmp_path, tmp_path, unlearning={"shard": True})

    def test_the_published_recipe(self) -> None:
        config = stable_diffusion_recipe()
        run_settings = config.settings
        assert (run_settings.steps, run_settings.batch_pairs) == (35, 16)
        assert run_settings.rule.norm == 750
        assert (config.images_per_prompt, config.guidance, config.sampling_steps) == (128, 7.5, 50)

    def test_a_pixel_model_is_refused(self, published: Path, tmp_path: Path) -> None:
        from dataunlearn.assets import asset

        with pytest.raises(ValueError, match="takes no prompts"):
            run(make_config(asset("mnist_tshirt_small"), published, tmp_path / "out"))


def test_a_benchmark_of_prompts_from_start_to_end(
    model: Path, published: Path, tmp_path: Path
) -> None:
    """Two methods in processes of their own; the table has a row for before as well."""
    settings = {
        "out": str(tmp_path / "bench"),
        "base": {
            "model": str(model),
            "prompts": str(published),
            "fresh_samples": 2,
            "sampling_steps": 2,
            "unlearning": {"steps": 1, "batch_pairs": 2},
        },
        "methods": {
            "SISS": {},
            "naive": {"unlearning": {"objective": "NaiveDeletion"}, "one_run_each": True},
        },
        "seeds": [0],
        "forgetting": "original_memorised_fraction",
        "quality": "text_noise",
    }
    file = tmp_path / "bench.yaml"
    file.write_text(json.dumps(settings))
    assert cli.run(["bench", "--config", str(file)]) == 0
    rows = json.loads((tmp_path / "bench" / "results.json").read_text())["rows"]
    assert [row["name"] for row in rows] == ["before", "SISS", "naive"]
    assert rows[1]["costs"]["steps"] == 1
    assert rows[2]["costs"]["steps"] == 2  # a run for each of two prompts
    assert "original_mitigated_share_2" in rows[0]["measures"]
    assert (tmp_path / "bench" / "pareto.png").is_file()
