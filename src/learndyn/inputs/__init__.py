"""Distributions of inputs: Gaussian, structured, real images, finite training sets."""

from learndyn.inputs._fields import InputsLike as InputsLike
from learndyn.inputs._fields import as_distribution as as_distribution
from learndyn.inputs._fields import base_of as base_of
from learndyn.inputs._fields import field_overlaps as field_overlaps
from learndyn.inputs._gaussian import Gaussian as Gaussian
from learndyn.inputs._gaussian import Structured as Structured
from learndyn.inputs._hidden_manifold import HiddenManifold as HiddenManifold
from learndyn.inputs._images import Images as Images
from learndyn.inputs._images import digits as digits
from learndyn.inputs._images import pca_whiten as pca_whiten
from learndyn.inputs._images import standardise as standardise
from learndyn.inputs._training_set import TrainingSet as TrainingSet
from learndyn.inputs._types import AbstractInputs as AbstractInputs
from learndyn.inputs._types import second_moments as second_moments
