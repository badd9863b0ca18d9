"""User encoders, by the name that `model.encoder` chooses."""

from tfdnc.model.encoders import (  # noqa: F401  each fills the registry
    experts,
    interests,
    prompts,
    simple,
    target_attention,
)
from tfdnc.model.encoders.base import USER_ENCODERS, Encoder, Histories, TrainingStates, UserEncoder, Windows

__all__ = ["USER_ENCODERS", "Encoder", "Histories", "TrainingStates", "UserEncoder", "Windows"]
