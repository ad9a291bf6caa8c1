"""How far a candidate's answers may be from the original's, and the task's own figure of merit."""

from pydantic import Field

from pilotfish.api.base import ApiModel, Fraction, Share
from pilotfish.api.markers import DocumentedEnum, marked


class Metric(DocumentedEnum):
    """A figure of merit on labelled samples: of the first output, over the whole golden set."""

    ACCURACY = "Accuracy", "share of samples whose largest output is at the label, a class number"
    TOP5_ACCURACY = "Top5Accuracy", "share of samples with the label among the five largest outputs"
    MEAN_ABSOLUTE_ERROR = (
        "MeanAbsoluteError",
        "mean distance to labels shaped like the output; a loss is a relative rise",
    )
    MEAN_SQUARED_ERROR = "MeanSquaredError", "mean squared distance to such labels; a loss is a relative rise"


class Tolerance(ApiModel):
    """How far a candidate's answers may be from the original's; per precision defaults when left out."""

    max_abs: Fraction | None = None
    """Largest absolute difference of any output element. Example: `"1e-4"`."""
    cosine: Share | None = None
    """Smallest cosine similarity of any output, 0 to 1. Example: `"0.999"`."""
    top1_agreement: Share | None = None
    """Smallest share of samples whose largest output is at the same place, 0 to 1. Example: `"0.995"`."""
    metric: Metric | None = None
    """Task metric on labelled samples. Left out: Accuracy where samples have class numbers as labels,
    MeanSquaredError where they have numbers of the output's shape."""
    max_metric_drop: Fraction | None = None
    """Largest loss of the task metric: points of an accuracy, the relative rise of an error. Left out: 0.01 where
    samples have labels. Example: `"0.01"`."""


class ServedTolerance(Tolerance):
    """How far a loaded server's answers may be from the original's: too few samples for a task metric."""

    metric: Metric | None = Field(default=None, json_schema_extra=marked(unavailable=True))
    """Task metric on labelled samples."""
    max_metric_drop: Fraction | None = Field(default=None, json_schema_extra=marked(unavailable=True))
    """Largest loss of the task metric. Example: `"0.01"`."""
