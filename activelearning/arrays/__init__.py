"""Rows to arrays: the only file that knows both.

What is immutable (features, comparisons, labels, closed offers) is read once per worker process and kept; each call
asks the database for what is new and for what is still current. Rows are numbered in ascending id, so that a number
means the same comparison in every process.
"""

from activelearning.arrays.comparisons import load_pool
from activelearning.arrays.labels import LabelRows, fit_labels, load_labels, teacher_axis
from activelearning.arrays.memory import forget
from activelearning.arrays.offers import OfferRows, load_offers
from activelearning.arrays.rows import PoolRows
from activelearning.arrays.teachers import Member, load_members, load_removable, load_unrecorded, stated_rationality

__all__ = [
    "LabelRows",
    "Member",
    "OfferRows",
    "PoolRows",
    "fit_labels",
    "forget",
    "load_labels",
    "load_members",
    "load_offers",
    "load_pool",
    "load_removable",
    "load_unrecorded",
    "stated_rationality",
    "teacher_axis",
]
