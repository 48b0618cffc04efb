"""The defaults of EPL, here alone: functions, modules and the keys of `MODEL.EPL` take them from this file.

Weights, mu and formulation follow docs/evidence.md: the line loss alone, with a gradient at the logits one and a half
times that of the cross entropy, from the first iteration on. The paper's own settings are configs/Base-EPL-Paper*.yaml.
"""

POINT_WEIGHT = 0.0
LINE_WEIGHT = 3.0
KERNEL_SIZE = 7
SPLITTER = "A"
CONVOLUTION = "anisotropic"
NORM = "l2"
REGION = "image"
MU = 2
FORMULATION = "contour"
IGNORE_VALUE = 255
IGNORE_MODE = "nearest"
MODE = "multiclass"
