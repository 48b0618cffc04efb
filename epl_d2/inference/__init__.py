"""Pictures in, label maps out: the `Predictor`, and what runs it over folders and videos without waiting."""

from .predictor import Prediction, Predictor, draw_labels

__all__ = ["Prediction", "Predictor", "draw_labels"]
