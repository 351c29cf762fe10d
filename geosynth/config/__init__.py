"""Settings: frozen, validated, without torch. Model files store them as JSON and give them back equal.

A settings object has what a user may choose as fields; what follows from the choice (strides, channel counts, the halo)
is a property, so that it cannot disagree.
"""

from geosynth.config.bands import BandSettings
from geosynth.config.base import Settings
from geosynth.config.networks import (
    DiscriminatorSettings,
    EncoderSettings,
    GeneratorSettings,
    OasisSettings,
    StageSpec,
)
from geosynth.config.study import AugmentSettings, DiversitySettings, ReplaceSettings, StudySettings, TransferSettings
from geosynth.config.train import TrainSettings
from geosynth.config.verbs import EvaluateSettings, GenerateSettings, SegmentSettings

__all__ = [
    "AugmentSettings",
    "BandSettings",
    "DiscriminatorSettings",
    "DiversitySettings",
    "EncoderSettings",
    "EvaluateSettings",
    "GenerateSettings",
    "GeneratorSettings",
    "OasisSettings",
    "ReplaceSettings",
    "SegmentSettings",
    "Settings",
    "StageSpec",
    "StudySettings",
    "TrainSettings",
    "TransferSettings",
]
