"""User encoders, by the name that `model.encoder` chooses."""

from tfdnc.model.encoders import experts, interests, prompts, simple  # noqa: F401  each fills the registry
from tfdnc.model.encoders.base import USER_ENCODERS, Encoder, Histories, TrainingStates, UserEncoder, Windows

__all__ = ["USER_ENCODERS", "Encoder", "Histories", "TrainingStates", "UserEncoder", "Windows"]
