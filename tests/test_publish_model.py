"""`tools/publish_model.py`: weights alone, named by their hash, that score as the trained model did."""

import hashlib
import importlib.util
import json
import shlex
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetCatalog, MetadataCatalog

from epl_d2 import get_cfg
from epl_d2.checkpoint import load_weights
from epl_d2.data.datasets.metadata import DATASETS
from epl_d2.data.datasets.registration import register_sem_seg
from epl_d2.data.datasets.shapes import load_shapes
from epl_d2.data.shapes import write_shapes
from epl_d2.engine import Trainer

ROOT = Path(__file__).parents[1]
NAMES = {"train": "publish_shapes_train", "val": "publish_shapes_val"}


def curves_of(folder):
    """All scores and the confusion matrix that an evaluation wrote."""
    return json.loads((folder / "inference" / "boundary_curves.json").read_text())


@pytest.fixture(scope="module")
def publish():
    spec = importlib.util.spec_from_file_location("publish_model", ROOT / "tools" / "publish_model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.publish


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of two iterations, and what its evaluation wrote."""
    folder = tmp_path_factory.mktemp("run")
    data = tmp_path_factory.mktemp("data")
    write_shapes(str(data), train=4, val=2, size=(64, 64), seed=0)
    for split, name in NAMES.items():
        register_sem_seg(name, partial(load_shapes, str(data), split), DATASETS["shapes"])
    cfg = get_cfg()
    cfg.merge_from_file(str(ROOT / "configs" / "shapes" / "deeplab_v3_plus_mobilenet_v2_epl.yaml"))
    options = {
        "MODEL.DEVICE": "cpu",
        "MODEL.EPL.POINT.WEIGHT": 0.2,
        "MODEL.EPL.LINE.WEIGHT": 0.4,
        "MODEL.EPL.LINE.FORMULATION": "official",
        "MODEL.EPL.SPLITTER": "B",
        "MODEL.EPL.POINT.KERNEL_SIZE": 5,
        "MODEL.EPL.LINE.KERNEL_SIZE": 9,
        "MODEL.EPL.LINE.MU": 6,
        "MODEL.EPL.IGNORE_MODE": "exclude",
        "MODEL.SEM_SEG_HEAD.CONVS_DIM": 8,
        "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS": 8,
        "MODEL.WEIGHTS": "",
        "DATASETS.TRAIN": (NAMES["train"],),
        "DATASETS.TEST": (NAMES["val"],),
        "INPUT.CROP.SIZE": [64, 64],
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.MAX_ITER": 2,
        "TEST.EVAL_PERIOD": 0,
        "OUTPUT_DIR": str(folder),
    }
    cfg.merge_from_list([part for pair in options.items() for part in pair])
    (folder / "config.yaml").write_text(cfg.dump())
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    yield folder, curves_of(folder)
    for name in NAMES.values():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_the_published_model_scores_as_the_trained_one(trained, publish, tmp_path):
    folder, results = trained
    file = publish(folder, tmp_path / "published")
    assert sorted(path.name for path in (tmp_path / "published").iterdir()) == ["README.md", "config.yaml", file.name]
    assert file.name == f"model_final_{hashlib.sha256(file.read_bytes()).hexdigest()[:8]}.pth"
    content = torch.load(file, weights_only=True)
    assert set(content) == {"model", "convolutions", "__author__"}
    before = torch.load(folder / "model_final.pth", weights_only=True)
    assert "trainer" in before  # the optimizer's state among it
    assert content["model"].keys() == before["model"].keys()

    cfg = get_cfg()
    cfg.merge_from_file(str(tmp_path / "published" / "config.yaml"))
    assert file.name == cfg.MODEL.WEIGHTS
    assert str(folder) not in cfg.dump()
    # The config of this run has no names, as that of an earlier version.
    assert tuple(cfg.DATASETS.CLASSES) == DATASETS["shapes"].classes and not cfg.DATASETS.SEM_SEG_FILES
    assert tuple(map(tuple, cfg.DATASETS.PALETTE)) == DATASETS["shapes"].palette
    cfg.OUTPUT_DIR = str(tmp_path / "evaluated")
    torch.manual_seed(1)  # other initial weights than those of the training
    model = Trainer.build_model(cfg)
    unmatched = DetectionCheckpointer(model).load(str(file))
    assert set(unmatched) <= {"convolutions", "__author__"}
    Trainer.test(cfg, model)
    assert curves_of(tmp_path / "evaluated") == results


def test_half_precision_takes_half_the_space_and_rounds_each_weight_once(trained, publish, tmp_path):
    folder, _ = trained
    file = publish(folder, tmp_path / "half", half=True)
    whole = publish(folder, tmp_path / "whole")
    assert file.stat().st_size < 0.55 * whole.stat().st_size
    before = torch.load(whole, weights_only=True)["model"]
    after = torch.load(file, weights_only=True)["model"]
    assert after.keys() == before.keys()
    for name, value in after.items():
        assert value.dtype == (torch.float16 if before[name].is_floating_point() else before[name].dtype)
        torch.testing.assert_close(value.to(before[name].dtype), before[name], rtol=2**-11, atol=2**-24)
    assert "before its weights were rounded" in (tmp_path / "half" / "README.md").read_text()


def test_weights_too_large_for_half_precision_are_refused(trained, publish, tmp_path):
    folder, _ = trained
    content = torch.load(folder / "model_final.pth", weights_only=True)
    name = next(name for name, value in content["model"].items() if value.is_floating_point())
    content["model"][name] = content["model"][name] * 0 + 1e5
    torch.save(content, folder / "large.pth")
    publish(folder, tmp_path / "whole", "large.pth")
    with pytest.raises(ValueError, match=r"large\.pth in half precision holds values that are not finite"):
        publish(folder, tmp_path / "half", "large.pth", half=True)
    (folder / "large.pth").unlink()


@pytest.fixture
def changed(trained, tmp_path):
    """A run whose other.pth is the trained checkpoint with changed entries: changed(function of the entries)."""
    folder, _ = trained
    run = tmp_path / "changed"

    def write(change):
        run.mkdir(exist_ok=True)
        shutil.copy(folder / "config.yaml", run)
        content = torch.load(folder / "model_final.pth", weights_only=True)
        content["model"] = change(content["model"])
        torch.save(content, run / "other.pth")
        return run

    return write


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_weights_that_are_not_finite_are_refused(changed, publish, tmp_path, half, value):
    name = "sem_seg_head.predictor.bias"
    run = changed(lambda entries: {**entries, name: entries[name].index_fill(0, torch.tensor([1]), value)})
    with pytest.raises(ValueError, match=rf"other\.pth holds values that are not finite: {name}"):
        publish(run, tmp_path / "published", "other.pth", half=half)
    assert not (tmp_path / "published").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda e: {k: v for k, v in e.items() if k != "sem_seg_head.predictor.bias"}, r"bias: model \[6\], not in"),
        (lambda e: {**e, "more.weight": torch.zeros(3)}, r"more\.weight: not in the model, checkpoint \[3\]"),
        (lambda e: {**e, "sem_seg_head.predictor.bias": torch.zeros(9)}, r"bias: model \[6\], checkpoint \[9\]"),
    ],
    ids=["missing", "left over", "of another shape"],
)
def test_a_checkpoint_of_another_model_is_refused(changed, publish, tmp_path, change, said):
    with pytest.raises(ValueError, match=rf"(?s)other\.pth is no checkpoint of this model: 1 entries .*{said}"):
        publish(changed(change), tmp_path / "published", "other.pth")
    assert not (tmp_path / "published").exists()


def test_a_distributed_model_is_published_by_the_names_of_a_single_one(trained, changed, publish, tmp_path):
    run = changed(lambda entries: {f"module.{name}": value for name, value in entries.items()})
    published = torch.load(publish(run, tmp_path / "published", "other.pth"), weights_only=True)["model"]
    expected = torch.load(trained[0] / "model_final.pth", weights_only=True)["model"]
    torch.testing.assert_close(published, dict(expected), rtol=0, atol=0)


def test_a_published_model_tells_of_its_strides_and_dilations_as_the_trained_one(trained, publish, tmp_path, caplog):
    folder, _ = trained
    file = publish(folder, tmp_path / "published", half=True)
    assert not [record for record in caplog.records if "strides or dilations" in record.message]  # the run's own config
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "config.yaml"))
    cfg.MODEL.SEM_SEG_HEAD.ASPP_DILATIONS = [3, 5, 7]
    model = Trainer.build_model(cfg)
    said = []
    for path in (folder / "model_final.pth", file):
        caplog.clear()
        load_weights(model, path)
        said += [r.message.replace(str(path), "") for r in caplog.records if "strides or dilations" in r.message]
    assert len(said) == 2 and said[0] == said[1]
    # A checkpoint of an earlier version says nothing of them, and neither does what is made of it.
    content = torch.load(folder / "model_final.pth", weights_only=True)
    torch.save({key: value for key, value in content.items() if key != "convolutions"}, folder / "older.pth")
    older = torch.load(publish(folder, tmp_path / "older", "older.pth"), weights_only=True)
    (folder / "older.pth").unlink()
    assert set(older) == {"model", "__author__"}


def test_the_card_says_where_the_model_comes_from(trained, publish, tmp_path):
    folder, results = trained
    record = {
        **{"method": "epl", "seed": 1, "metrics": {}, "commits": ["0123abc"], "dirty": True, "device": "Some GPU"},
        **{"minutes": 12.5, "command": [str(ROOT / "train_net.py"), "--config-file", "x.yaml", "OPTION", "a b"]},
    }
    own = (folder / "run.json").read_text()
    (folder / "run.json").write_text(json.dumps(record))
    file = publish(folder, tmp_path / "published")
    (folder / "run.json").write_text(own)
    card = (tmp_path / "published" / "README.md").read_text()
    assert card.startswith(f"# {file.stem}\n")
    for expected in (
        f"| file | {file.name} |",
        "| classes | sky, ground, disk, polygon, ring, rod |",
        "| losses | cross_entropy, EPL (point 0.2, line 0.4, official, splitter B, kernels 5 and 9, mu 6, "
        "ignored pixels: exclude) |",
        "| started from | random weights |",
        f"| trained on | {NAMES['train']} |",
        "| seed | 1 |",
        "| device | Some GPU |",
        "| minutes | 12.5 |",
        "| commit | 0123abc (the work tree differed from it) |",
        f"| {NAMES['val']} | {results['mIoU']:.2f} |",
        "    python train_net.py --config-file x.yaml OPTION 'a b'",
    ):
        assert expected in card, expected


def test_the_card_of_a_training_without_a_grid_knows_all_of_it(trained, publish, tmp_path):
    folder, _ = trained
    publish(folder, tmp_path / "published")
    card = (tmp_path / "published" / "README.md").read_text()
    record = json.loads((folder / "run.json").read_text())
    assert "not recorded" not in card
    for fact in ("device", "minutes"):
        assert f"| {fact} | {record[fact]} |" in card
    assert f"| commit | {record['commits'][0]}" in card
    assert f"    python {shlex.join(sys.argv).replace(f'{ROOT}/', '')}\n" in card
    # Nothing but its absence leaves a gap: of a run of an earlier version, say.
    (folder / "run.json").rename(tmp_path / "run.json")
    publish(folder, tmp_path / "older")
    (tmp_path / "run.json").rename(folder / "run.json")
    assert (tmp_path / "older" / "README.md").read_text().count("not recorded") == 4


def test_scores_are_those_of_the_last_iteration_and_of_no_other_checkpoint(trained, publish, tmp_path):
    folder, results = trained
    (tmp_path / "run").mkdir()
    for name in ("config.yaml", "model_final.pth"):
        (tmp_path / "run" / name).symlink_to(folder / name)
    shutil.copy(folder / "model_final.pth", tmp_path / "run" / "model_best.pth")
    unknown = "This checkpoint was not evaluated"
    for evaluated in (False, True):
        if evaluated:
            (tmp_path / "run" / "inference").symlink_to(folder / "inference")
        file = publish(tmp_path / "run", tmp_path / f"best_{evaluated}", "model_best.pth")
        card = (tmp_path / f"best_{evaluated}" / "README.md").read_text()
        assert unknown in card and "last iteration" not in card and f"{results['mIoU']:.2f}" not in card
        assert f"--eval-only MODEL.WEIGHTS {file.name}" in card
    publish(tmp_path / "run", tmp_path / "final", "./model_final.pth")
    card = (tmp_path / "final" / "README.md").read_text()
    assert unknown not in card and f"| {NAMES['val']} | {results['mIoU']:.2f} |" in card
    (tmp_path / "run" / "inference").unlink()
    with pytest.raises(ValueError, match="was the model evaluated"):
        publish(tmp_path / "run", tmp_path / "unknown")


@pytest.mark.parametrize("name", ["mask_rcnn_R_18_FPN_epl", "panoptic_fpn_R_18_epl"])
def test_a_model_of_instances_is_refused(publish, tmp_path, name):
    cfg = get_cfg()
    cfg.merge_from_file(str(ROOT / "configs" / "shapes" / f"{name}.yaml"))
    (tmp_path / "config.yaml").write_text(cfg.dump())
    with pytest.raises(ValueError, match=r"published is a model that labels every pixel; .*MODEL\.MASK_ON True"):
        publish(tmp_path, tmp_path / "published")


def test_names_of_a_data_set_that_is_not_here_come_from_its_file(trained, publish, tmp_path):
    folder, _ = trained
    cfg = get_cfg()
    cfg.merge_from_file(str(folder / "config.yaml"))
    cfg.DATASETS.SEM_SEG_FILES = ["/gone/mine.yaml"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text(cfg.dump())
    for name in ("model_final.pth", "inference"):
        (tmp_path / "run" / name).symlink_to(folder / name)
    text = "name: mine\nclasses: [a, b, c, d, e, f]\nsplits: {val: {images: photos, labels: masks}}\n"
    (tmp_path / "mine.yaml").write_text(text)
    publish(tmp_path / "run", tmp_path / "published", dataset_file=str(tmp_path / "mine.yaml"))
    card = (tmp_path / "published" / "README.md").read_text()
    assert "| classes | a, b, c, d, e, f |" in card and "config.yaml --dataset-file mine.yaml --eval-only" in card
    published = (tmp_path / "published" / "config.yaml").read_text()
    assert "  CLASSES:\n  - a\n  - b\n" in published and "gone" not in published


def test_what_cannot_be_published_is_refused_and_leaves_nothing(trained, publish, tmp_path):
    folder, _ = trained
    with pytest.raises(FileExistsError, match="choose another --output"):
        publish(folder, tmp_path)
    with pytest.raises(FileNotFoundError, match="is this the folder of a run"):
        publish(tmp_path, tmp_path / "published")
    with pytest.raises(FileNotFoundError, match=r"none\.pth does not exist"):
        publish(folder, tmp_path / "published", "none.pth")
    (folder / "broken.pth").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=r"broken\.pth is refused"):
        publish(folder, tmp_path / "published", "broken.pth")
    assert not list(tmp_path.iterdir())
