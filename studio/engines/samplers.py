"""Which diffusers sampler stands behind each of our names, and how it is made from a checkpoint's own schedule."""

from __future__ import annotations

from typing import Any

from studio.engines.diffusion_load import diffusers
from studio.errors import Unsupported

# Our name -> diffusers class, and settings on top of the checkpoint's own. Solvers inherit each other's settings
# through the config, so those that must differ are spelled out.
SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "DDIM": ("DDIMScheduler", {}),
    "DDPM": ("DDPMScheduler", {}),
    "DEIS": ("DEISMultistepScheduler", {"algorithm_type": "deis", "solver_type": "logrho"}),
    "DPM++ 2M": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "solver_type": "midpoint", "solver_order": 2, "use_karras_sigmas": False},
    ),
    "DPM++ 2M Karras": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "dpmsolver++", "solver_type": "midpoint", "solver_order": 2, "use_karras_sigmas": True},
    ),
    "DPM2": ("KDPM2DiscreteScheduler", {}),
    "Euler": ("EulerDiscreteScheduler", {"use_karras_sigmas": False}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {"use_karras_sigmas": False}),
    "LCM": ("LCMScheduler", {}),
    "LMS": ("LMSDiscreteScheduler", {"use_karras_sigmas": False}),
    "PNDM": ("PNDMScheduler", {"skip_prk_steps": True}),
    "UniPC": ("UniPCMultistepScheduler", {"solver_type": "bh2"}),
}
# Samplers' own defaults that suit pixels, not latents; used where the checkpoint does not say.
LATENT_DEFAULTS = {"clip_sample": False}


def make_scheduler(own: Any, name: str, prediction: str | None = None) -> Any:
    """A fresh sampler on the checkpoint's own schedule (betas, kind of prediction, spacing).

    Raises Unsupported where the checkpoint's schedule is of a kind that only its own sampler understands.
    """
    told = {} if prediction is None else {"prediction_type": prediction}
    if name == "default":
        return type(own).from_config(own.config, **told)
    if not hasattr(own, "alphas_cumprod"):
        raise Unsupported(f"This model works with its own sampler only, not with {name}.", "Choose 'default'.")
    kind, settings = SAMPLERS[name]
    defaults = {key: value for key, value in LATENT_DEFAULTS.items() if key not in own.config}
    config = {key: value for key, value in {**own.config, **defaults, **settings, **told}.items() if key[0] != "_"}
    return getattr(diffusers(), kind).from_config(config)
