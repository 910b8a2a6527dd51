"""What a client asks for: one frozen record, validated once, with a fingerprint that is its identity.

Every later part of the program receives one of these and never asks again whether it is sensible.
"""

from purlkit.spec.job import NOT_IN_FINGERPRINT, SPEC_VERSION, Baseline, Goal, JobSpec, Resources, Targets
from purlkit.spec.model import Dataset, Model, TrainHere, Uploaded, Weights
from purlkit.spec.race import Race
from purlkit.spec.record import Kwargs, Rate, Record, Sha256
from purlkit.spec.search import DEVIATIONS, SHARES, Agent, Search
from purlkit.spec.sweep import MOST_JOBS, SweepPoint, SweepSpec
from purlkit.spec.training import FineTune, Retrain, Training

__all__ = [
    "DEVIATIONS",
    "MOST_JOBS",
    "NOT_IN_FINGERPRINT",
    "SHARES",
    "SPEC_VERSION",
    "Agent",
    "Baseline",
    "Dataset",
    "FineTune",
    "Goal",
    "JobSpec",
    "Kwargs",
    "Model",
    "Race",
    "Rate",
    "Record",
    "Resources",
    "Retrain",
    "Search",
    "Sha256",
    "SweepPoint",
    "SweepSpec",
    "Targets",
    "TrainHere",
    "Training",
    "Uploaded",
    "Weights",
]
