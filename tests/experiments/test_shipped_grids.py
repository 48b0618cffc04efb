"""The grids of configs/grids: each can run, and those of the paper hold its tables, number by number.

The tables below were copied from the paper (arXiv 2210.00223), not from the grids. A row is the setting that its number
belongs to, which is compared with the resolved configuration of the grid's method, not with its name.
"""

from functools import cache
from pathlib import Path

import pytest
from detectron2.data import MetadataCatalog

from epl_d2.experiments.grid import read_grid
from epl_d2.experiments.plan import resolve_methods

ROOT = Path(__file__).parents[2]
GRIDS = sorted((ROOT / "configs" / "grids").glob("*.yaml"))
VOC, CITYSCAPES = "voc", "cityscapes"
BASELINE = {VOC: 73.52, CITYSCAPES: 71.66}
KERNEL = {VOC: 7, CITYSCAPES: 11}  # of Tables IV, VII, XIV and XV

# Rows as (setting, mIoU) in the order of the tables.
CE = ()


def point(norm, kernel, splitter="A", weight=0.1, convolution="anisotropic"):
    return ("point", norm, kernel, splitter, weight, convolution)


def line(kernel, weight, splitter="A", mu=10, convolution="anisotropic"):
    return ("line", kernel, splitter, mu, weight, convolution)


def boundary(weight):
    return ("boundary", weight)


def dice(weight):
    return ("dice", weight)


# norm -> kernel -> mIoU
TABLE_1 = {
    VOC: {"l1": {7: 74.07, 9: 73.85, 11: 74.08}, "l2": {7: 74.09, 9: 74.42, 11: 74.27}},
    CITYSCAPES: {"l1": {9: 70.44, 11: 70.96, 13: 72.71}, "l2": {9: 72.39, 11: 70.93, 13: 71.05}},
}
# kernel -> mIoU
TABLE_2 = {
    VOC: {7: 74.15, 9: 73.47, 11: 74.05},
    CITYSCAPES: {9: 71.78, 11: 73.26, 13: 72.11},
}
# standard convolution: point, line; anisotropic convolution: point, line
TABLE_3 = {VOC: (71.08, 72.17, 74.84, 74.71), CITYSCAPES: (68.37, 70.93, 72.39, 73.26)}
# mu -> mIoU
TABLE_4 = {
    VOC: {2: 73.12, 4: 73.73, 10: 74.71, 16: 73.85, 20: 73.60},
    CITYSCAPES: {2: 72.37, 4: 71.04, 10: 71.47, 16: 65.51, 20: 66.51},
}
# boundary, point, dice, line
TABLE_7 = {VOC: (74.55, 74.84, 74.45, 74.71), CITYSCAPES: (71.81, 72.40, 70.30, 73.26)}
# norm -> kernel -> splitters A, B, C
TABLE_12 = {
    VOC: {
        "l1": {7: (74.07, 74.24, 73.80), 9: (73.85, 74.36, 73.83), 11: (74.08, 74.55, 74.35)},
        "l2": {7: (74.09, 74.42, 74.63), 9: (74.42, 73.60, 71.21), 11: (74.21, 72.96, 74.29)},
    },
    CITYSCAPES: {
        "l1": {9: (70.44, 72.07, 61.37), 11: (70.96, 55.04, 67.01), 13: (72.71, 66.61, 72.22)},
        "l2": {9: (72.39, 71.50, 68.25), 11: (70.93, 73.25, 73.07), 13: (71.02, 64.72, 71.78)},
    },
}
# kernel -> splitters A, B, C
TABLE_13 = {
    VOC: {7: (74.15, 73.50, 73.94), 9: (73.47, 73.33, 73.73), 11: (74.05, 73.74, 73.62)},
    CITYSCAPES: {9: (71.78, 72.03, 71.19), 11: (73.26, 66.80, 71.35), 13: (72.11, 60.42, 66.96)},
}
# For the weights 0.05, 0.10, 0.20, 0.25, 0.50.
WEIGHTS = (0.05, 0.1, 0.2, 0.25, 0.5)
TABLE_14 = {
    VOC: {boundary: (72.88, 74.55, 73.59, 72.17, 43.95), point: (73.31, 74.84, 72.92, 64.44, 73.61)},
    CITYSCAPES: {boundary: (71.81, 68.75, 71.78, 69.65, 66.86), point: (65.92, 70.93, 72.40, 66.11, 69.04)},
}
TABLE_15 = {
    VOC: {dice: (72.88, 74.07, 74.45, 74.36, 73.45), line: (73.49, 73.68, 74.71, 68.22, 72.83)},
    CITYSCAPES: {dice: (57.49, 57.89, 61.30, 60.54, 70.30), line: (56.72, 68.58, 71.47, 70.87, 73.26)},
}

# The tables do not print these; docs/paper.md says why they are taken.
LINE_WEIGHT = {VOC: 0.2, CITYSCAPES: 0.5}  # Tables II, III, XIII
POINT_OF_TABLE_3 = {VOC: point("l2", 7, weight=0.1), CITYSCAPES: point("l2", 9, weight=0.1)}
BEST = {  # of Tables XIV and XV, for Table VII: boundary, point, dice, line
    VOC: (boundary(0.1), point("l2", 7, weight=0.1), dice(0.2), line(7, 0.2)),
    CITYSCAPES: (boundary(0.05), point("l2", 11, weight=0.2), dice(0.5), line(11, 0.5)),
}


def standard(setting):
    return (*setting[:-1], "standard")


def sweep(losses, data):
    """Rows of Tables XIV and XV."""
    kernel = KERNEL[data]
    make = {
        boundary: boundary,
        dice: dice,
        point: lambda weight: point("l2", kernel, weight=weight),
        line: lambda weight: line(kernel, weight),
    }
    return [(make[loss](w), v) for loss, values in losses.items() for w, v in zip(WEIGHTS, values, strict=True)]


def ablation_rows(table, data):
    """All rows of a table after its baseline."""
    weight = LINE_WEIGHT[data]
    if table == "table_1":
        return [(point(norm, k), v) for norm, row in TABLE_1[data].items() for k, v in row.items()]
    if table == "table_2":
        return [(line(k, weight), v) for k, v in TABLE_2[data].items()]
    if table == "table_3":
        anisotropic = (POINT_OF_TABLE_3[data], line(KERNEL[data], weight))
        settings = (*map(standard, anisotropic), *anisotropic)
        return list(zip(settings, TABLE_3[data], strict=True))
    if table == "table_4":
        return [(line(KERNEL[data], 0.2, mu=mu), v) for mu, v in TABLE_4[data].items()]
    if table == "table_7":
        return list(zip(BEST[data], TABLE_7[data], strict=True))
    if table == "table_12":
        return [
            (point(norm, k, splitter), v)
            for norm, row in TABLE_12[data].items()
            for k, values in row.items()
            for splitter, v in zip("ABC", values, strict=True)
        ]
    if table == "table_13":
        return [
            (line(k, weight, splitter), v)
            for k, values in TABLE_13[data].items()
            for splitter, v in zip("ABC", values, strict=True)
        ]
    return sweep({"table_14": TABLE_14, "table_15": TABLE_15}[table][data], data)


# Main results: (head, backbone, depth, crop) -> mIoU of the baseline and with EPL.
RESNET = "build_resnet_deeplab_backbone"
TABLE_8 = {
    ("EPLPSAHead", RESNET, 50, 465): (77.85, 79.08),
    ("EPLPSAHead", RESNET, 101, 465): (79.25, 80.33),
    ("EPLPSPHead", RESNET, 50, 473): (78.02, 78.84),
    ("EPLPSPHead", RESNET, 101, 473): (79.50, 80.46),
    ("EPLPyTorchDeepLabHead", "MobileNetV2", None, 513): (71.49, 72.65),
    ("EPLPyTorchDeepLabHead", "DRN", None, 513): (79.58, 80.63),
    ("EPLPyTorchDeepLabHead", RESNET, 101, 513): (79.15, 80.77),
}
TABLE_9 = {
    ("EPLPSAHead", RESNET, 50, 561): (76.69, 77.61),  # 560 in the paper, which this model cannot take
    ("EPLPSAHead", RESNET, 101, 561): (78.01, 79.46),
    ("EPLPSPHead", RESNET, 50, 560): (77.34, 78.49),
    ("EPLPSPHead", RESNET, 101, 560): (78.35, 79.44),
    ("EPLNVIDIADeepLabV3PlusHead", "WideResNet38", None, 560): (79.38, 80.34),
    ("EPLCCHead", "WideResNet38", None, 560): (77.73, 78.81),
    ("EPLGSCNNHead", "WideResNet38", None, 560): (80.67, 81.78),
}
# Rows of Table X: a method of ours as above, or the name of one that is not trained here.
TABLE_10 = [
    (("EPLPSPHead", RESNET, 50, 560), (77.34, 78.49)),
    (("EPLPSAHead", RESNET, 101, 561), (78.01, 79.46)),
    ("PointRend", (77.80, 78.40)),
    (("EPLDeepLabV3Head", RESNET, 50, 512), (79.18, 79.94)),
    ("SegFix", (79.50, 80.30)),
    ("decoupled body and edge", (81.30, 82.40)),
    (("EPLNVIDIADeepLabV3PlusHead", "WideResNet38", None, 560), (79.38, 80.34)),
    ("InverseForm", (81.0, 82.60)),
    (("EPLGSCNNHead", "WideResNet38", None, 560), (80.67, 81.78)),
]
TABLE_5 = {
    ("EPLPSAHead", RESNET, 101, 561): (
        "98.1 85.1 92.5 54.1 60.9 64.7 70.8 78.6 92.6 65.5 94.6 82.9 63.2 95.0 74.9 88.0 77.6 65.1 78.0",
        "96.8 83.7 92.9 56.7 62.7 68.8 75.5 81.6 93.3 66.0 94.7 85.2 66.9 95.6 70.3 90.3 76.7 71.5 80.5",
    ),
    ("EPLPSPHead", RESNET, 101, 560): (
        "98.4 86.3 92.9 55.3 63.1 65.9 73.1 79.8 93.0 66.0 94.9 83.8 64.8 95.1 74.0 85.8 75.8 71.1 79.3",
        "96.7 83.5 94.1 56.3 62.4 69.4 73.7 82.1 92.7 67.4 94.2 86.4 66.3 95.7 72.3 88.5 78.1 72.3 80.2",
    ),
    ("EPLNVIDIADeepLabV3PlusHead", "WideResNet38", None, 560): (
        "98.2 85.7 92.7 60.1 62.9 66.6 70.4 79.2 92.7 66.6 94.6 82.7 64.2 95.2 80.5 89.6 80.9 67.1 78.3",
        "97.5 84.3 92.6 61.2 64.1 66.5 70.7 80.1 90.5 68.1 94.7 84.5 65.1 94.9 81.6 90.7 82.1 67.4 79.5",
    ),
}
TABLE_6 = {
    ("EPLPSAHead", RESNET, 101, 465): (
        "94.8 91.2 43.7 89.8 76.0 80.6 94.4 88.4 93.3 44.5 88.6 56.0 89.4 87.5 85.8 88.2 65.0 92.2 50.7 86.7 77.4",
        "95.1 92.0 44.4 90.5 77.9 82.1 94.5 90.1 94.4 43.8 89.0 59.2 90.1 88.1 88.0 88.9 65.0 91.9 53.9 89.3 78.9",
    ),
    ("EPLPSPHead", RESNET, 101, 473): (
        "94.9 90.8 44.2 90.0 74.0 81.0 95.3 90.2 94.2 42.8 87.9 57.0 89.5 87.2 89.8 88.3 65.7 91.3 47.3 88.7 79.3",
        "95.1 92.4 44.7 88.9 75.7 81.7 95.8 91.5 94.6 43.5 89.1 59.4 90.5 88.3 90.4 88.4 64.7 93.4 49.0 91.5 76.9",
    ),
    ("EPLPyTorchDeepLabHead", RESNET, 101, 513): (
        "93.9 89.7 42.3 90.4 69.0 81.1 93.0 91.0 93.5 41.8 90.2 62.1 90.8 88.6 86.4 86.8 67.0 87.5 50.3 87.5 79.2",
        "94.2 89.8 43.5 90.6 72.9 81.8 93.4 90.3 93.9 47.2 92.3 64.7 91.8 89.2 88.7 87.7 70.4 89.9 59.8 87.8 77.3",
    ),
}
CLASSES = {
    CITYSCAPES: "road, sidewalk, building, wall, fence, pole, traffic light, traffic sign, vegetation, terrain, sky, "
    "person, rider, car, truck, bus, train, motorcycle, bicycle",
    VOC: "background, aeroplane, bicycle, bird, boat, bottle, bus, car, cat, chair, cow, dining table, dog, horse, "
    "motorbike, person, potted plant, sheep, sofa, train, tv",
}

ABLATIONS = [(table, data) for table in (1, 2, 3, 4, 7, 12, 13, 14, 15) for data in (VOC, CITYSCAPES)]
MAIN = {"paper_table_8_voc": TABLE_8, "paper_table_9_cityscapes": TABLE_9}


@cache
def shipped(name):
    """A grid and the configurations of its methods, by name."""
    grid = read_grid(ROOT / "configs" / "grids" / f"{name}.yaml")
    cfgs = resolve_methods(grid, ROOT, files=False)
    return grid, {method.name: cfg for method, cfg in zip(grid.methods, cfgs, strict=True)}


def setting_of(cfg):
    """What a configuration adds to cross entropy, as the tables above write it."""
    epl, extra = cfg.MODEL.EPL, cfg.MODEL.EXTRA_LOSSES
    settings = []
    if epl.ENABLED and epl.POINT.WEIGHT > 0:
        kernel = epl.POINT.KERNEL_SIZE
        settings.append(("point", epl.POINT.NORM, kernel, epl.SPLITTER, epl.POINT.WEIGHT, epl.CONVOLUTION))
    if epl.ENABLED and epl.LINE.WEIGHT > 0:
        kernel = epl.LINE.KERNEL_SIZE
        settings.append(("line", kernel, epl.SPLITTER, epl.LINE.MU, epl.LINE.WEIGHT, epl.CONVOLUTION))
    settings += [("boundary", extra.BOUNDARY.WEIGHT)] if extra.BOUNDARY.WEIGHT else []
    settings += [("dice", extra.GENERALIZED_DICE.WEIGHT)] if extra.GENERALIZED_DICE.WEIGHT else []
    settings += [("active boundary", extra.ACTIVE_BOUNDARY.WEIGHT)] if extra.ACTIVE_BOUNDARY.WEIGHT else []
    assert len(settings) < 2 and not extra.LOVASZ.WEIGHT
    return settings[0] if settings else CE


def model_of(cfg):
    backbone, depth = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.RESNETS.DEPTH
    return cfg.MODEL.SEM_SEG_HEAD.NAME, backbone, depth if backbone == RESNET else None, cfg.INPUT.CROP.SIZE[0]


@pytest.mark.parametrize("path", GRIDS, ids=lambda path: path.stem)
def test_every_shipped_grid_can_run(path):
    """Configs exist, overrides fit, data sets are registered, the models and their losses can be built."""
    grid, cfgs = shipped(path.stem)
    assert grid.name == path.stem
    assert grid.output == f"output/grids/{path.stem}"
    assert len(cfgs) > 1
    for method in grid.methods:
        is_baseline = method.name in {other.baseline for other in grid.methods}
        assert is_baseline or method.baseline is not None
        if is_baseline:
            assert setting_of(cfgs[method.name]) == CE


def test_no_grid_leans_on_the_default_formulation():
    """A later default must not change what a grid asks: it names the formulation, or its config does."""
    for path in GRIDS:
        grid, cfgs = shipped(path.stem)
        for method in grid.methods:
            epl = cfgs[method.name].MODEL.EPL
            named = {override.key for override in method.overrides}
            if epl.ENABLED and epl.LINE.WEIGHT > 0:
                pinned = (
                    Path(method.config).parts[1] in ("VOC2012", "Cityscapes") and epl.LINE.FORMULATION == "official"
                )
                assert pinned or "MODEL.EPL.LINE.FORMULATION" in named, (path.stem, method.name)


@pytest.mark.parametrize(("table", "data"), ABLATIONS)
def test_an_ablation_has_the_rows_of_its_table(table, data):
    grid, cfgs = shipped(f"paper_table_{table}_{data}")
    rows = [(setting_of(cfgs[name]), numbers["mIoU"]) for name, numbers in grid.paper.numbers.items()]
    assert rows == [(CE, BASELINE[data]), *ablation_rows(f"table_{table}", data)]
    assert len(rows) == len(grid.methods)
    assert not grid.paper.baselines


@pytest.mark.parametrize("name", [f"paper_table_{table}_{data}" for table, data in ABLATIONS if table in (1, 15)])
def test_ablations_have_the_common_setting(name):
    data = name.rsplit("_", 1)[1]
    _, cfgs = shipped(name)
    for cfg in cfgs.values():
        assert model_of(cfg)[:3] == ("EPLPSPHead", RESNET, 50)
        crop, images, epochs = {VOC: ([256, 256], 10582, 50), CITYSCAPES: ([256, 512], 2975, 200)}[data]
        assert crop == cfg.INPUT.CROP.SIZE
        assert cfg.SOLVER.IMS_PER_BATCH == 12
        assert images // 12 * epochs == cfg.SOLVER.MAX_ITER
        assert cfg.MODEL.EPL.LINE.FORMULATION == "official"
        assert cfg.TEST.AUG.ENABLED and cfg.TEST.AUG.SCALES == [0.5, 0.75, 1.0, 1.25, 1.5, 1.75]
        assert cfg.TEST.WINDOW.ENABLED


@pytest.mark.parametrize(("name", "classes"), [("paper_table_8_voc", TABLE_6), ("paper_table_9_cityscapes", TABLE_5)])
def test_main_results_have_the_rows_and_the_classes_of_their_tables(name, classes):
    data = name.rsplit("_", 1)[1]
    grid, cfgs = shipped(name)
    baselines = [method.name for method in grid.methods if method.baseline is None]
    compared = {method.baseline: method.name for method in grid.methods if method.baseline is not None}
    numbers = {row: content["mIoU"] for row, content in grid.paper.numbers.items()}
    found = {model_of(cfgs[name]): (numbers[name], numbers[compared[name]]) for name in baselines}
    assert found == MAIN[name]
    rows = [row for row in numbers if row in baselines]
    assert [model_of(cfgs[row]) for row in rows] == list(MAIN[name])
    for baseline in baselines:
        ours, theirs = cfgs[compared[baseline]], cfgs[baseline]
        assert model_of(ours) == model_of(theirs)
        assert ours.MODEL.EPL.ENABLED and not theirs.MODEL.EPL.ENABLED
        assert ours.SOLVER.IMS_PER_BATCH == theirs.SOLVER.IMS_PER_BATCH == 16
        assert ours.SOLVER.MAX_ITER == theirs.SOLVER.MAX_ITER

    published = {model_of(cfgs[row]): [] for row in grid.paper.classes}
    for row, values in grid.paper.classes.items():
        published[model_of(cfgs[row])].append(values)
    assert published == {model: [tuple(map(float, text.split())) for text in texts] for model, texts in classes.items()}
    assert [cfgs[row].MODEL.EPL.ENABLED for row in grid.paper.classes] == [False, True] * 3
    names = MetadataCatalog.get(grid.evaluate["val"]).stuff_classes
    for ours, theirs in zip(names, CLASSES[data].split(", "), strict=True):
        assert ours.replace(" ", "").startswith(theirs.replace(" ", "")), (ours, theirs)


def test_table_10():
    grid, cfgs = shipped("paper_table_10_cityscapes")
    baseline_of = {method.name: method.baseline for method in grid.methods}
    rows = []
    for row, numbers in grid.paper.numbers.items():
        if row in grid.paper.baselines:
            rows.append((row.split(" + ")[1], (grid.paper.baselines[row], numbers["mIoU"])))
        elif baseline_of[row] is not None:
            rows.append((model_of(cfgs[row]), (grid.paper.numbers[baseline_of[row]]["mIoU"], numbers["mIoU"])))
    assert rows == TABLE_10
    assert setting_of(cfgs["deeplab_v3_R_50_os16_active_boundary"]) == ("active boundary", 1.0)
    assert "1.20" in grid.paper.notes[0] and "1.50" in grid.paper.notes[0]


@pytest.mark.parametrize("data", [VOC, CITYSCAPES])
def test_figure_7_shows_the_runs_of_table_7(data):
    grid, cfgs = shipped(f"paper_figure_7_{data}")
    _, point_loss, _, line_loss = BEST[data]
    assert [setting_of(cfg) for cfg in cfgs.values()] == [CE, line_loss, point_loss]
    assert all(list(range(1, 21)) == cfg.TEST.BOUNDARY.WIDTHS for cfg in cfgs.values())
    assert grid.runs == shipped(f"paper_table_7_{data}")[0].runs


def test_grids_share_a_run_only_if_it_is_the_same():
    configurations = {}
    for path in GRIDS:
        grid, cfgs = shipped(path.stem)
        for name, cfg in cfgs.items():
            first = configurations.setdefault((grid.runs, name), cfg)
            assert cfg == first, (path.stem, name)
    assert len(configurations) < sum(len(shipped(path.stem)[1]) for path in GRIDS)
