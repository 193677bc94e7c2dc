"""How claims are run: what is measured again, where it is stored, and where programs run."""

from validation.lab.laboratory import PROFILES as PROFILES
from validation.lab.laboratory import Lab as Lab
from validation.lab.laboratory import is_recorded as is_recorded
