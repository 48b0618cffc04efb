"""Detectron2, imported without the warnings that its import causes.

A module of fvcore's and one of Detectron2's call `torch.jit.script` while they are imported, which PyTorch answers with
a FutureWarning each, and its model zoo imports `pkg_resources`, which setuptools answers with a UserWarning. They name
files of others, so that no filter can tell them from those that other calls cause; they are silenced during these
imports alone. A command imports this module before the rest of Detectron2.
"""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is", category=FutureWarning)
    warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
    import detectron2.model_zoo
    import detectron2.modeling.box_regression  # noqa: F401
    import fvcore.nn.focal_loss  # noqa: F401
