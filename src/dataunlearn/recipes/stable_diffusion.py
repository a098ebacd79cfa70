"""The paper's third experiment: prompts that Stable Diffusion 1.4 has memorised."""

from __future__ import annotations

from pathlib import Path

from dataunlearn.prompts.config import PromptUnlearning


def stable_diffusion(
    prompts: Path = Path("prompts.yaml"), out: Path = Path("run")
) -> PromptUnlearning:
    """Published settings (Alberti et al. 2025): 35 steps of 16 pairs at the last timestep alone.

    A run for each prompt, conditioned on the modified prompt; 128 samples are labelled and the
    forget gradient has norm 750. Optimising the modified prompt follows Wen et al. 2024.

    Args:
        prompts: The prompts, for example the public list of memorised LAION captions.
        out: Folder for samples, models and the report.
    """
    return PromptUnlearning(
        model="CompVis/stable-diffusion-v1-4",
        prompts=prompts,
        out=out,
        images_per_prompt=128,
        condition_on="modified",
        optimise="always",
        keep_guidance=None,
        one_run_each=True,
        sampling_steps=50,
        guidance=7.5,
        unlearning={
            "objective": {"class_path": "SISS", "init_args": {"lam": 0.5}},
            "combination": {"class_path": "NormFix", "init_args": {"norm": 750}},
            "norms_every_steps": 1,
            "steps": 35,
            "learning_rate": 1e-5,
            "batch_pairs": 16,
            "micro_batch_rows": 4,
            "timesteps": "Last",
            "keep_towards": "data",
            "stop": {"every_steps": 0},
            "betas": [0.9, 0.999],
            "weight_decay": 1e-2,
            "schedule": "constant",
            "warmup_steps": 0,
        },
    )
