"""Pictures in, label maps or instances out: predictors, and what runs them over folders and videos without waiting."""

from .instance_predictor import InstancePrediction, InstancePredictor
from .predictor import Prediction, Predictor, draw_labels, load_predictor

__all__ = ["InstancePrediction", "InstancePredictor", "Prediction", "Predictor", "draw_labels", "load_predictor"]
