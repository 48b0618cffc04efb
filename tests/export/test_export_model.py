"""Exported files against the model, and that they hold nothing of EPL."""

import importlib.util
import re
import sys
from collections import Counter
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from epl_d2 import get_cfg
from epl_d2.data.datasets.metadata import DATASETS
from epl_d2.engine import Trainer
from epl_d2.export import (
    ExportError,
    ParityError,
    PictureSegmentor,
    check_parity,
    export_model,
    read_metadata,
    side_limits,
)
from epl_d2.export.formats import load

ROOT = Path(__file__).parents[2]
MOBILENET = ["MODEL.BACKBONE.NAME", "MobileNetV2", "MODEL.MOBILENETV2.NORM", "BN"]
SMALL_HEAD = ["MODEL.SEM_SEG_HEAD.CONVS_DIM", 16, "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 5]
# Features of the picture sizes below, at stride 16, lie below and above DeepLab's pooling window of 5 x 5 in each axis.
CROP = ["INPUT.CROP.SIZE", (80, 80)]
MODELS = {
    "semantic_fpn": ("Base-SemanticFPN-R50.yaml", SMALL_HEAD),
    "deeplab_v3_plus": (
        "Base-DeepLabV3Plus-MobileNetV2.yaml",
        [*SMALL_HEAD, "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS", 16],
    ),
    "deeplab_v3_plus_R_50": (
        "Base-DeepLabV3Plus-R50.yaml",
        [*SMALL_HEAD, "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS", 16],
    ),
    "ccnet": (
        "Base-SemSeg.yaml",
        [
            *MOBILENET,
            *SMALL_HEAD,
            *("MODEL.SEM_SEG_HEAD.NAME", "EPLCCHead", "MODEL.SEM_SEG_HEAD.IN_FEATURES", ["res4", "res5"]),
            *("MODEL.MOBILENETV2.OUT_FEATURES", ["res4", "res5"], "MODEL.CC.CHANNELS", 16, "MODEL.CC.OUT_CHANNELS", 16),
        ],
    ),
    "pspnet": (
        "Base-PSPNet-R50.yaml",
        [*MOBILENET, *SMALL_HEAD, "MODEL.MOBILENETV2.OUT_FEATURES", ["res4", "res5"], "MODEL.PSP.CHANNELS", 16],
    ),
}
SIZES = [(64, 96), (101, 75)]


def build(name: str, *options: object) -> nn.Module:
    config, own = MODELS[name]
    cfg = get_cfg()
    cfg.merge_from_file(str(ROOT / "configs" / config))
    cfg.merge_from_list([*own, *CROP, "MODEL.DEVICE", "cpu", "MODEL.SEM_SEG_HEAD.NORM", "BN", *options])
    torch.manual_seed(0)
    model = Trainer.build_model(cfg).eval()
    for module in model.sem_seg_head.modules():
        if isinstance(module, nn.Conv2d) and module.out_channels == 5:
            nn.init.normal_(module.weight)  # starts out so small that a wrong result would be within the tolerance
    return model


@pytest.mark.parametrize(
    ("name", "format"),
    [
        pytest.param("semantic_fpn", "torchscript", marks=pytest.mark.slow),
        pytest.param("semantic_fpn", "onnx", marks=pytest.mark.slow),
        ("deeplab_v3_plus", "torchscript"),
        ("deeplab_v3_plus", "onnx"),
        pytest.param("deeplab_v3_plus_R_50", "onnx", marks=pytest.mark.slow),
        ("ccnet", "onnx"),
        ("pspnet", "torchscript"),
        ("pspnet", "onnx"),
    ],
)
def test_files_compute_what_the_model_computes_at_sizes_they_were_not_recorded_at(tmp_path, name, format):
    model = build(name, "MODEL.EPL.ENABLED", True)
    file = tmp_path / "folder" / "model"
    said = {"classes": ["sky", "naïve"], "short_side": 240}
    assert export_model(model, file, format=format, sizes=SIZES, metadata=said) <= 1e-4
    assert read_metadata(file, format) == said
    image = torch.randint(0, 256, (1, 3, 50, 131), dtype=torch.uint8)
    with torch.no_grad():
        expected = model([{"image": image[0]}])[0]["sem_seg"]
    assert expected.abs().max() > 0.01
    difference = (load(file, format)(image)[0] - expected).abs().max() / expected.abs().max()
    assert difference < 1e-4
    assert [path.name for path in file.parent.iterdir()] == ["model"]


@pytest.mark.slow
def test_torch_export_follows_the_size_of_the_picture(tmp_path):
    model, file = build("pspnet"), tmp_path / "model.pt2"
    export_model(model, file, format="torch_export", sizes=SIZES)
    assert [(side.least, side.most) for side in side_limits(file)] == [(17, None)] * 2  # two cells at a stride of 16
    run = load(file, "torch_export")
    for size in ((17, 20), (20, 16400)):
        image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8)
        with torch.no_grad():
            expected = model([{"image": image[0]}])[0]["sem_seg"]
        assert (run(image)[0] - expected).abs().max() < 1e-4 * expected.abs().max()
    with pytest.raises(AssertionError, match=">= 17"):
        run(torch.zeros(1, 3, 16, 40, dtype=torch.uint8))


def test_labels_and_float_input(tmp_path):
    model = build("deeplab_v3_plus")
    file = tmp_path / "model.onnx"
    options = {"format": "onnx", "sizes": SIZES, "output": "labels", "dtype": torch.float32}
    export_model(model, file, **options, batch=True)
    images = torch.randint(0, 256, (5, 3, 33, 70))
    run = load(file, "onnx")
    labels = run(images.float())
    assert labels.shape == (5, 33, 70) and len(labels.unique()) > 1
    for image, found in zip(images, labels, strict=True):
        with torch.no_grad():
            logits = model([{"image": image}])[0]["sem_seg"]
        assert (found == logits.argmax(0)).float().mean() > 0.999
        assert torch.equal(run(image[None].float())[0], found)


def test_a_traced_file_takes_several_pictures_at_once(tmp_path):
    export_model(build("ccnet"), tmp_path / "model.ts", format="torchscript", sizes=SIZES[:1], batch=True)
    assert load(tmp_path / "model.ts", "torchscript")(torch.zeros(2, 3, 40, 50, dtype=torch.uint8)).shape[0] == 2


def test_models_for_bgr_get_their_channels_reversed():
    model = build("deeplab_v3_plus")
    image = torch.randint(0, 256, (1, 3, 40, 40), dtype=torch.uint8)
    with torch.no_grad():
        expected = model([{"image": image[0].flip(0)}])[0]["sem_seg"]
        result = PictureSegmentor(model, input_format="BGR")(image)
    torch.testing.assert_close(result[0], expected, rtol=1e-4, atol=1e-4)


def test_onnx_graphs_with_and_without_epl_are_the_same(tmp_path):
    graphs = []
    for enabled in (True, False):
        model = build("pspnet", "MODEL.EPL.ENABLED", enabled, "MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT", 0.4)
        file = tmp_path / f"{enabled}.onnx"
        export_model(model, file, format="onnx", sizes=SIZES[:1], fixed_size=True)
        graphs.append(onnx.load(file).graph)
    assert [node.SerializeToString() for node in graphs[0].node] == [
        node.SerializeToString() for node in graphs[1].node
    ]
    weights = [{w.name: (w.raw_data, tuple(w.dims)) for w in graph.initializer} for graph in graphs]
    assert weights[0] == weights[1]
    names = [*weights[0], *(node.name for node in graphs[0].node)]
    assert not [name for name in names if "epl" in name or "loss" in name or ".aux" in name]
    operations = Counter(node.op_type for node in graphs[0].node)
    assert operations["Conv"] > 50 and "SoftmaxCrossEntropyLoss" not in operations


def test_branches_of_training_are_not_exported_and_the_model_keeps_them():
    model = build("pspnet", "MODEL.EPL.ENABLED", True)
    parts = [name for name, _ in PictureSegmentor(model).model.sem_seg_head.named_children()]
    assert parts == ["cls", "ppm"]
    assert {"aux", "loss", "epl"} <= {name for name, _ in model.sem_seg_head.named_children()}


class Peeking(nn.Module):
    """Stands for a model that looks at the pixels outside of the graph."""

    device = torch.device("cpu")

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        self.backbone = nn.Conv2d(3, 4, 1)
        self.backbone.size_divisibility = 0
        self.sem_seg_head = nn.ModuleDict({"predictor": nn.Conv2d(4, 2, 1)})
        self.register_buffer("pixel_mean", torch.full((3, 1, 1), 128.0))
        self.register_buffer("pixel_std", torch.full((3, 1, 1), 64.0))

    def predict(self, images):
        logits = self.sem_seg_head["predictor"](self.backbone(images))
        if self.kind == "constant":
            return logits * float(images.mean())
        if self.kind == "eye":
            return logits.masked_fill(torch.eye(images.shape[-1], dtype=torch.bool)[: images.shape[-2]], 0.0)
        return logits + torch.linalg.matrix_exp(images.mean(dim=1, keepdim=True)[..., :4, :4]).sum()

    def forward(self, records):
        image = (records[0]["image"] - self.pixel_mean) / self.pixel_std
        return [{"sem_seg": self.predict(image[None])[0]}]


def test_a_value_recorded_as_a_constant_is_found_and_no_file_is_left(tmp_path):
    with pytest.raises(ParityError, match=r"differs from the model(.|\n)*constants at: .*test_export_model.py:\d+"):
        export_model(Peeking("constant"), tmp_path / "model.ts", format="torchscript", sizes=SIZES)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "message"),
    [("matrix_exp", r"onnx cannot express(.|\n)*matrix_exp"), ("eye", "ONNX Runtime cannot run .*EyeLike")],
)
def test_an_operation_without_counterpart_is_named_and_no_file_is_left(tmp_path, kind, message):
    with pytest.raises(ExportError, match=message):
        export_model(Peeking(kind), tmp_path / "model.onnx", format="onnx", sizes=SIZES)
    assert not list(tmp_path.iterdir())


def test_the_check_sees_wrong_logits_labels_and_shapes():
    model = Peeking("constant").eval()
    segmentor = PictureSegmentor(model)
    picture = torch.randint(0, 256, (1, 3, 9, 12), dtype=torch.uint8)
    with torch.no_grad():
        logits = segmentor(picture)
    scale = logits.abs().max().clamp(min=1)
    off = check_parity(model, lambda image: logits + 5e-5 * scale, [picture], labels=False)
    assert 4e-5 < off < 6e-5
    with pytest.raises(ParityError, match="9 x 12"):
        check_parity(model, lambda image: logits + 2e-4 * scale, [picture], labels=False)
    with pytest.raises(ParityError, match="differs"):
        check_parity(model, lambda image: logits * float("nan"), [picture], labels=False)
    with pytest.raises(ParityError, match="gives"):
        check_parity(model, lambda image: logits[..., :-1], [picture], labels=False)
    assert check_parity(model, lambda image: logits.argmax(1), [picture], labels=True) == 0
    with pytest.raises(ParityError, match="differs"):
        check_parity(model, lambda image: 1 - logits.argmax(1), [picture], labels=True)


class Branching(Peeking):
    """Stands for a model that treats pictures of up to 8 pixels another way."""

    def predict(self, images):
        logits = self.sem_seg_head["predictor"](self.backbone(images))
        return logits if images.shape[-2] > 8 else -logits


@pytest.mark.parametrize(
    ("first", "inside", "outside", "height"),
    [
        ((10, 20), [(9, 3), (9, 20000), (20000, 9)], [(8, 20)], "of at least 9 pixels"),
        ((6, 20), [(2, 3), (8, 20000)], [(9, 20)], "in 2..8 pixels"),
    ],
)
def test_a_torch_export_program_takes_every_size_that_the_model_treats_alike(tmp_path, first, inside, outside, height):
    model, file = Branching("").eval(), tmp_path / "model.pt2"
    options = {"format": "torch_export", "batch": True}
    export_model(model, file, sizes=[first], **options)
    assert [str(side) for side in side_limits(file)] == [height, "of at least 2 pixels"]
    run = load(file, "torch_export")
    for shape in [(1, 3, *size) for size in inside] + [(1025, 3, *first)]:
        images = torch.randint(0, 256, shape, dtype=torch.uint8)
        found = run(images)
        with torch.no_grad():
            for i in (0, -1):
                torch.testing.assert_close(found[i], model([{"image": images[i]}])[0]["sem_seg"])
    for size in outside:
        said = f"takes a height {height}, not {size[0]} x {size[1]}"
        with pytest.raises(ExportError, match=re.escape(said)):
            export_model(model, tmp_path / "other.pt2", sizes=[first, size], **options)
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2"]


def test_a_program_of_one_size_has_no_other(tmp_path):
    file = tmp_path / "model.pt2"
    export_model(Branching(""), file, format="torch_export", sizes=[(1, 7)], fixed_size=True)
    assert [str(side) for side in side_limits(file)] == ["in 1..1 pixels", "in 7..7 pixels"]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ({"format": "torch_export", "sizes": [(1, 40), (40, 40)]}, "torch_export records sides of at least 2 pixels"),
        ({"format": "caffe"}, "format is 'caffe'"),
        ({"output": "boxes"}, "output is 'boxes'"),
        ({"input_format": "YUV"}, "INPUT.FORMAT is 'YUV'"),
        ({"dtype": torch.int32}, "dtype is torch.int32"),
        ({"sizes": [(0, 4)]}, "sizes are"),
    ],
)
def test_bad_arguments_are_named(tmp_path, argument, message):
    arguments = {"format": "torchscript", "sizes": SIZES, **argument}
    with pytest.raises(ValueError, match=message):
        export_model(Peeking("constant"), tmp_path / "model", **arguments)
    assert not list(tmp_path.iterdir())


def test_what_a_format_needs_is_said_before_anything_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.export, "Dim", object())
    with pytest.raises(ImportError, match=rf"Dim.DYNAMIC, and {re.escape(torch.__version__)} has none"):
        export_model(None, tmp_path / "m.pt2", format="torch_export", sizes=SIZES)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r"needs onnxruntime: pip install"):
        export_model(None, tmp_path / "m.onnx", format="onnx", sizes=SIZES)
    assert not list(tmp_path.iterdir())


def test_tool(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("export_tool", ROOT / "tools" / "export_model.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    config = ROOT / "configs" / "shapes" / "deeplab_v3_plus_mobilenet_v2_epl.yaml"
    command = ["export_model.py", "--config-file", config, "--format", "torchscript", "--output", tmp_path / "model.ts"]
    small = ["MODEL.SEM_SEG_HEAD.CONVS_DIM", "8", "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS", "8"]

    def run(*arguments):
        given = [*command, "--sizes", "64", "96", "70", "50", *arguments, *small]
        monkeypatch.setattr(sys, "argv", [str(part) for part in given])
        return tool.main(), capsys.readouterr()

    code, said = run("--random-weights")
    assert code == 0 and "logits of pictures of any size" in said.out and "not in the file" not in said.out
    metadata = read_metadata(tmp_path / "model.ts", "torchscript")
    assert tuple(metadata["classes"]) == DATASETS["shapes"].classes and metadata["short_side"] == 0
    options = ["--random-weights", "INPUT.MIN_SIZE_TEST", "240", "TEST.WINDOW.ENABLED", "True"]
    code, said = run("--batch", *options)
    assert code == 0 and "any number of pictures of any size" in said.out
    assert "not in the file: the config resizes pictures to a short side of 240 pixels" in said.out
    assert "not in the file: the config slides a window over the picture (TEST.WINDOW.ENABLED)" in said.out
    (tmp_path / "model.ts").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(tool.Trainer, "build_model", lambda cfg: Branching(""))
        code, said = run("--random-weights", "--format", "torch_export")
        assert code == 0
        assert "logits of pictures with a height of at least 9 pixels and a width of at least 2 pixels" in said.out
        (tmp_path / "model.ts").unlink()
        code, said = run("--random-weights", "--format", "torch_export", "--sizes", "64", "96", "8", "50")
        assert code == 1 and "takes a height of at least 9 pixels, not 8 x 50" in said.err
    code, said = run("MODEL.WEIGHTS", "nowhere.pth")
    assert code == 1 and "error: " in said.err and "nowhere.pth" in said.err
    assert not list(tmp_path.iterdir())
