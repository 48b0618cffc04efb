"""The configs of this project, and the small models that were trained with them and travel with the package.

The functions are those of `detectron2.model_zoo`.
"""

from .model_zoo import get, get_checkpoint_url, get_config, get_config_file, trained_configs

__all__ = ["get", "get_checkpoint_url", "get_config", "get_config_file", "trained_configs"]
