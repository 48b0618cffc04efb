"""The defaults of EPL, here alone: functions, modules and the keys of `MODEL.EPL` take them from this file."""

POINT_WEIGHT = 0.1
LINE_WEIGHT = 0.01
KERNEL_SIZE = 7
SPLITTER = "A"
CONVOLUTION = "anisotropic"
NORM = "l2"
MU = 10
FORMULATION = "contour"
IGNORE_VALUE = 255
IGNORE_MODE = "nearest"
