"""The table of measures, by the names that ``dataunlearn evaluate`` takes."""

from __future__ import annotations

from collections.abc import Mapping

from dataunlearn.metrics.clip_iqa import ClipIQA
from dataunlearn.metrics.copy_frequency import CopyFrequency
from dataunlearn.metrics.distribution import FID, KID, ReferenceKID
from dataunlearn.metrics.inception import InceptionScore
from dataunlearn.metrics.likelihood import NegativeLogLikelihood
from dataunlearn.metrics.measure import Measure
from dataunlearn.metrics.membership import Membership
from dataunlearn.metrics.memorised import MemorisedFraction
from dataunlearn.metrics.never_seen import NeverSeen
from dataunlearn.metrics.reference_distance import ReferenceDistance
from dataunlearn.metrics.regeneration import RegenerationShare
from dataunlearn.metrics.similarity import CopySimilarity
from dataunlearn.metrics.text_noise import TextNoise

MEASURES: Mapping[str, type[Measure]] = {
    "copies": CopyFrequency,
    "regeneration": RegenerationShare,
    "similarity": CopySimilarity,
    "nll": NegativeLogLikelihood,
    "fid": FID,
    "kid": KID,
    "reference_kid": ReferenceKID,
    "inception_score": InceptionScore,
    "membership": Membership,
    "never_seen": NeverSeen,
    "reference_distance": ReferenceDistance,
    "memorised": MemorisedFraction,
    "text_noise": TextNoise,
    "clip_iqa": ClipIQA,
}
