"""Grid files: what is read, and that every mistake is named with file and line."""

import fcntl
import hashlib
from pathlib import Path

import pytest
import torch
import torchvision

from epl_d2.checkpoint import pretrained
from epl_d2.data.datasets import register_all_datasets
from epl_d2.experiments.grid import read_grid
from epl_d2.experiments.plan import _identity_of_weights, check_same_configuration, plan_runs, resolve_methods

ROOT = Path(__file__).parents[2]
GRID = """\
name: small
output: output/small
config: configs/shapes/deeplab_v3_plus_mobilenet_v2.yaml
opts: [SOLVER.MAX_ITER, 4]
evaluate: {val: shapes_sem_seg_val}
widths: [1, 3]
seeds: [1, 2]
baseline: cross_entropy
methods:
  cross_entropy: {}
  epl:
    opts: [MODEL.EPL.ENABLED, True, MODEL.EPL.POINT.WEIGHT, 0.5]
paper:
  source: Table III
  split: val
  numbers: {epl: {mIoU: 70.5}}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "grid.yaml"
    path.write_text(text)
    return path


def test_a_grid_is_read(tmp_path):
    grid = read_grid(written(tmp_path, GRID))
    assert (grid.name, grid.seeds, grid.widths, grid.jobs, grid.threads) == ("small", (1, 2), (1, 3), 1, 1)
    assert [method.name for method in grid.methods] == ["cross_entropy", "epl"]
    override = grid.methods[1].overrides[2]
    assert (override.key, override.value) == ("MODEL.EPL.POINT.WEIGHT", "0.5")
    assert override.where == f"{tmp_path / 'grid.yaml'}:12"
    assert grid.paper.numbers == {"epl": {"mIoU": 70.5}}


def test_options_of_the_command_line_come_last(tmp_path):
    grid = read_grid(written(tmp_path, GRID)).with_overrides(["MODEL.EPL.POINT.WEIGHT", "0.25"])
    runs = plan_runs(grid, tmp_path, ROOT, files=False)
    assert [run.name for run in runs] == ["cross_entropy/seed_1", "epl/seed_1", "cross_entropy/seed_2", "epl/seed_2"]
    assert all("WEIGHT: 0.25" in run.configuration for run in runs)
    assert len({run.config_hash for run in runs}) == 4
    assert runs[0].max_iter == 4
    assert runs[0].command[-4:] == ["SEED", "1", "OUTPUT_DIR", str(tmp_path / "cross_entropy" / "seed_1")]


@pytest.mark.parametrize(
    ("before", "after", "line", "message"),
    [
        ("seeds:", "seed:", 7, "unknown key 'seed'"),
        ("seeds: [1, 2]", "seeds: [2024-13-45]", 7, "no valid value (month must be in 1..12)"),
        ("seeds: [1, 2]", "seeds: [!!int abc]", 7, "no valid value"),
        ("seeds: [1, 2]", "seeds: [1, 2] # \x07", 7, "character U+0007 may not stand here"),
        (
            "baseline: cross_entropy",
            "baseline: cross_entropy\ncontrols: [epl, ce]",
            9,
            "controls has 'ce'; it may have epl",
        ),
        ("baseline: cross_entropy", "baseline: cross_entropy\ncontrols: epl", 9, "must be a list of methods"),
        ("  cross_entropy: {}", "  cross_entropy: {size: 0}", 10, "size must be a positive number, got 0"),
        ("  cross_entropy: {}", "  cross_entropy: {size: {A: big}}", 10, "the size of A must be a positive number"),
        ("baseline: cross_entropy", "baseline: cross_entropy\nblock: 0", 9, "block must be an integer, at least 1"),
        ("seeds: [1, 2]", "seeds: [1, 1]", 7, "twice"),
        ("seeds: [1, 2]", "seeds: []", 7, "at least one"),
        ("seeds: [1, 2]", "seeds: [a]", 7, "integer"),
        ("widths: [1, 3]", "widths: [1, 3.5]", 6, "integer"),
        ("baseline: cross_entropy", "baseline: ce", 8, "baseline is 'ce', but the methods are cross_entropy, epl"),
        ("evaluate: {val:", "evaluate: {train:", 5, "unknown key 'train'"),
        ("evaluate: {val: shapes_sem_seg_val}", "evaluate: {}", 5, "empty"),
        ("opts: [SOLVER.MAX_ITER, 4]", "opts: [SOLVER.MAX_ITER]", 4, "'SOLVER.MAX_ITER' has no value"),
        ("opts: [SOLVER.MAX_ITER, 4]", "opts: [SEED, 4]", 4, "use `seeds`"),
        ("opts: [SOLVER.MAX_ITER, 4]", "opts: {SOLVER.MAX_ITER: 4}", 4, "must be a list"),
        ("  cross_entropy: {}", "  cross_entropy: {option: []}", 10, "unknown key 'option'"),
        ("  cross_entropy: {}", "  cross_entropy: {}\n  epl: {}", 12, "'epl' twice"),
        ("  cross_entropy: {}", "  cross_entropy: {}\n  ../x: {}", 11, "names a folder"),
        ("numbers: {epl: {mIoU: 70.5}}", "numbers: {epl: {mIoU: good}}", 16, "must be a number"),
        ("numbers: {epl: {mIoU: 70.5}}", "numbers: {epl: {}}", 16, "numbers of 'epl' is empty"),
        (
            "numbers: {epl: {mIoU: 70.5}}",
            "numbers: {other: {}}",
            16,
            "'other', which is no method; the methods are cross_entropy, epl",
        ),
        ("split: val", "split: test", 15, "the grid evaluates val"),
        ("name: small", "name: [small", 2, "no valid YAML"),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, before, after, line, message):
    assert before in GRID
    path = written(tmp_path, GRID.replace(before, after, 1))
    with pytest.raises(ValueError) as error:
        read_grid(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert message in str(error.value)


TABLE = """\
name: table
config: configs/shapes/deeplab_v3_plus_mobilenet_v2.yaml
evaluate: {val: shapes_sem_seg_val}
seeds: [1]
classes: true
methods:
  base: {}
  "point_{norm}_k{kernel}":
    product: {norm: [l1, l2], kernel: [7, 9]}
    baseline: base
    opts: [MODEL.EPL.ENABLED, True, MODEL.EPL.POINT.NORM, "{norm}", MODEL.EPL.POINT.KERNEL_SIZE, "{kernel}"]
paper:
  source: Table 0
  split: val
  numbers:
    base: 70
    "point_{norm}_k{kernel}": [71.1, 71.2, 71.3, 71.4]
    "another, elsewhere": {published: [80.0, 81.5]}
  classes: {base: [1, 2, 3, 4, 5, 6]}
"""


def test_a_product_is_every_choice_the_last_variable_first(tmp_path):
    grid = read_grid(written(tmp_path, TABLE))
    names = ["base", "point_l1_k7", "point_l1_k9", "point_l2_k7", "point_l2_k9"]
    assert [method.name for method in grid.methods] == names
    assert [method.baseline for method in grid.methods] == [None, *["base"] * 4]
    values = [[override.value for override in method.overrides[1:]] for method in grid.methods[1:]]
    assert values == [["l1", "7"], ["l1", "9"], ["l2", "7"], ["l2", "9"]]
    assert grid.output == grid.runs == "output/grids/table"
    assert list(grid.paper.numbers) == [*names, "another, elsewhere"]
    assert grid.paper.numbers["point_l2_k7"] == {"mIoU": 71.3}
    assert grid.paper.gain("point_l2_k7", "base", "mIoU") == pytest.approx(1.3)
    assert grid.paper.gain("another, elsewhere", None, "mIoU") == pytest.approx(1.5)
    assert grid.paper.gain("base", None, "mIoU") is None


@pytest.mark.parametrize(
    ("before", "after", "line", "message"),
    [
        ("norm: [l1, l2]", "norm: []", 9, "the values of 'norm' must be a list with at least one entry"),
        ("norm: [l1, l2]", "norm: [l1, l1]", 9, "hold one twice"),
        ("norm: [l1, l2]", "norm: [[l1]]", 9, "must be texts or numbers"),
        ("product: {norm: [l1, l2], kernel: [7, 9]}", "product: {}", 9, "product is empty"),
        ("norm: [l1, l2],", "norm: [l1, l2], splitter: [A, B],", 9, "must hold {splitter}"),
        ("norm: [l1, l2],", "", 9, "has the variable 'norm'; the product has kernel"),
        ("baseline: base", "baseline: bse", 10, "baseline is 'bse', but the methods are base, point_l1_k7"),
        ("config: configs", "output: configs", 7, "the method 'base' has no config"),
        ("base: 70", "base: .nan", 16, "mIoU of 'base' must be a number, got nan"),
        ("base: 70", "base: seventy", 16, "must be a number, got 'seventy'"),
        ("base: 70", "base: {mIuO: 70}", 16, "unknown key 'mIuO'; it may have mIoU, BF@1px"),
        ("base: 70", "base: {BF@4px: 70}", 16, "unknown key 'BF@4px'"),
        ("base: 70", "base: {published: [70, 71]}", 16, "'base' is a method of this grid"),
        ("71.1, 71.2,", "71.1,", 17, "has 3 numbers for 4 methods: point_l1_k7, point_l1_k9"),
        ("71.1, 71.2,", "71.1, x,", 17, "mIoU of 'point_l1_k9' must be a number, got 'x'"),
        ("[71.1, 71.2, 71.3, 71.4]", "71.1", 17, "is 4 methods; give a list"),
        ("[80.0, 81.5]", "[80.0]", 18, "must be [baseline, with the method]"),
        ("{base: [1", "{bas: [1", 19, "classes has the unknown key 'bas'"),
        ("[1, 2, 3", "[1, yes, 3", 19, "each of the classes of 'base' must be a number"),
        ("classes: true", "classes: 1", 5, "classes must be true or false"),
        ("classes: true", "classes: false", 19, "are shown with `classes: true` only"),
    ],
)
def test_mistakes_in_tables_are_named_with_their_line(tmp_path, before, after, line, message):
    assert before in TABLE
    path = written(tmp_path, TABLE.replace(before, after, 1))
    with pytest.raises(ValueError) as error:
        read_grid(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert message in str(error.value)


def test_published_classes_must_be_those_of_the_data_set(tmp_path):
    path = written(tmp_path, TABLE.replace("5, 6]", "5]"))
    with pytest.raises(
        ValueError, match=r"grid\.yaml:19: classes of 'base' has 5 numbers, .* has 6 classes: sky, ground"
    ):
        plan_runs(read_grid(path), tmp_path, ROOT, files=False)


def test_included_files_are_merged(tmp_path):
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "base.yaml").write_text("opts: [SOLVER.MAX_ITER, 2]\nseeds: [7]\nmethods: {first: {}}\n")
    (tmp_path / "shared" / "more.yaml").write_text("include: base.yaml\nopts: [SOLVER.BASE_LR, 0.5]\nseeds: [8]\n")
    text = GRID.replace("name: small", "include: [shared/more.yaml]\nname: small").replace("seeds: [1, 2]\n", "")
    text = text.replace("  cross_entropy: {}", "  cross_entropy: {}\n  first: {opts: [SOLVER.GAMMA, 1]}")
    grid = read_grid(written(tmp_path, text))
    assert grid.seeds == (8,)
    assert [method.name for method in grid.methods] == ["first", "cross_entropy", "epl"]
    shared = [("SOLVER.MAX_ITER", "2"), ("SOLVER.BASE_LR", "0.5"), ("SOLVER.MAX_ITER", "4")]
    assert all([(o.key, o.value) for o in method.overrides][:3] == shared for method in grid.methods)
    assert [(o.key, o.value) for o in grid.methods[0].overrides][3:] == [("SOLVER.GAMMA", "1")]
    assert grid.methods[0].overrides[0].where == f"{tmp_path / 'shared' / 'base.yaml'}:1"


@pytest.mark.parametrize(
    ("included", "message"),
    [
        (None, r"grid\.yaml:1: the included file .*part\.yaml does not exist"),
        ("include: grid.yaml", r"part\.yaml:1: .*grid\.yaml includes itself"),
        ("seeds: [1]\nseeds: [2]", r"part\.yaml:2: the mapping has the key 'seeds' twice"),
        ("- 1", r"part\.yaml:1: the file must hold a mapping"),
        ("jobs: none", r"part\.yaml:1: jobs must be an integer"),
        ("a: 1", r"part\.yaml:1: a grid has the unknown key 'a'"),
    ],
)
def test_mistakes_in_included_files_are_named_there(tmp_path, included, message):
    if included is not None:
        (tmp_path / "part.yaml").write_text(included)
    with pytest.raises(ValueError, match=message):
        read_grid(written(tmp_path, "include: part.yaml\n" + GRID))


def test_missing_files_and_keys(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such grid file"):
        read_grid(tmp_path / "none.yaml")
    with pytest.raises(ValueError, match=r"grid\.yaml:1: the key 'seeds' is missing"):
        read_grid(written(tmp_path, GRID.replace("seeds: [1, 2]\n", "")))
    with pytest.raises(ValueError, match=r"grid\.yaml:1: the file is empty"):
        read_grid(written(tmp_path, ""))
    (tmp_path / "grid.yaml").write_bytes("name: a\n# größer".encode("latin-1"))
    with pytest.raises(ValueError, match=r"grid\.yaml:2: the file is not UTF-8"):
        read_grid(tmp_path / "grid.yaml")


@pytest.mark.parametrize(
    ("before", "after", "line", "message"),
    [
        ("deeplab_v3_plus_mobilenet_v2.yaml", "none.yaml", 3, "none.yaml does not exist"),
        ("MODEL.EPL.POINT.WEIGHT, 0.5", "MODEL.EPL.POINT.WIEGHT, 0.5", 12, "WIEGHT"),
        ("MODEL.EPL.POINT.WEIGHT, 0.5", "MODEL.EPL.POINT.WEIGHT, high", 12, "no valid override"),
        ("MODEL.EPL.POINT.WEIGHT, 0.5", "MODEL.EPL.POINT.KERNEL_SIZE, 4", 12, "MODEL.EPL.POINT.KERNEL_SIZE must be"),
        (
            "    opts: [MODEL.EPL.E",
            "    size: 1\n    opts: [MODEL.EPL.E",
            12,
            "'epl' needs one added loss with a weight above 0",
        ),
        ("  cross_entropy: {}", "  cross_entropy: {size: 1.5}", 10, "'cross_entropy' needs one added loss"),
        ("  cross_entropy: {}", "  cross_entropy: {size: {MODEL.EPL.LINE.WEIGHT: 1}}", 10, "EPL.ENABLED is False"),
        (
            "  cross_entropy: {}",
            "  cross_entropy: {size: {SOLVER.BASE_LR: 1}}",
            10,
            "is given for SOLVER.BASE_LR; it may",
        ),
        ("shapes_sem_seg_val", "shapes_val", 5, "there is no data set 'shapes_val'"),
        ("opts: [SOLVER.MAX_ITER, 4]", "opts: [DATASETS.TRAIN, ['x']]", 10, "there is no data set 'x'"),
        ("opts: [SOLVER.MAX_ITER, 4]", "opts: [SOLVER.EPOCHS, 4]", 10, "SOLVER.EPOCHS is 4, but a grid counts"),
        ("shapes_sem_seg_val", "camvid_sem_seg_val", 5, "NUM_CLASSES is 6, but camvid_sem_seg_val has 11 classes"),
        ("widths: [1, 3]", "widths: [1, 30]", 6, "[30] are not in TEST.BOUNDARY.WIDTHS"),
        ("SOLVER.MAX_ITER, 4", "SOLVER.MAX_ITER, 0", 10, "'cross_entropy': SOLVER.MAX_ITER is 0, expected a positive"),
        ("MAX_ITER, 4", "MAX_ITER, 4, SOLVER.IMS_PER_BATCH, 0", 10, "SOLVER.IMS_PER_BATCH is 0, expected a positive"),
        ("MODEL.EPL.POINT.WEIGHT, 0.5", "SOLVER.CHECKPOINT_PERIOD, 0", 12, "'epl': SOLVER.CHECKPOINT_PERIOD is 0"),
        ("MODEL.EPL.POINT.WEIGHT, 0.5", "MODEL.SEM_SEG_HEAD.CONVS_DIM, 0", 12, "'epl': MODEL.SEM_SEG_HEAD.CONVS_DIM"),
        (
            "MODEL.EPL.POINT.WEIGHT, 0.5",
            "TEST.AUG.ENABLED, True, TEST.AUG.SCALES, [0.0]",
            12,
            "'epl': TEST.AUG.SCALES is [0.0], expected one or more positive numbers",
        ),
        ("MODEL.EPL.POINT.WEIGHT, 0.5", "TEST.BOUNDARY.IGNORE_MODE, nearst", 12, "'epl': TEST.BOUNDARY (WIDTHS, "),
        ("MODEL.EPL.POINT.WEIGHT, 0.5", "TEST.PRIOR_SHIFT, 1e999", 12, "'epl': TEST.PRIOR_SHIFT is inf, expected a"),
        ("MODEL.EPL.POINT.WEIGHT, 0.5", "MODEL.SEM_SEG_HEAD.NAME, Mine", 12, "'epl': No object named 'Mine' found in"),
        ("MODEL.EPL.POINT.WEIGHT, 0.5", "DATASETS.TRAIN, []", 12, "'epl': DATASETS.TRAIN is empty"),
        (
            "MODEL.EPL.POINT.WEIGHT, 0.5",
            "MODEL.SEM_SEG_HEAD.NAME, SemSegFPNHead",
            12,
            "'epl': MODEL.EPL.LINE.WEIGHT is 3.0, but MODEL.SEM_SEG_HEAD.NAME is 'SemSegFPNHead', which does not",
        ),
    ],
)
def test_what_needs_detectron2_is_refused_with_its_line(tmp_path, before, after, line, message):
    assert before in GRID
    path = written(tmp_path, GRID.replace(before, after, 1))
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        plan_runs(read_grid(path), tmp_path, ROOT, files=False)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert message in str(error.value)


def test_a_product_of_the_grid_holds_for_all_methods(tmp_path):
    text = """\
name: starts
config: configs/shapes/deeplab_v3_plus_mobilenet_v2.yaml
evaluate: {val: shapes_sem_seg_val}
seeds: [1]
product: {start: [11, 12]}
opts: [SOLVER.GAMMA, "0.{start}", SOLVER.MAX_ITER, 7]
baseline: "base_from_{start}"
methods:
  "base_from_{start}": {}
  "{loss}_from_{start}":
    product: {loss: [epl, both]}
    opts: [MODEL.EPL.LINE.WEIGHT, "{start}", MODEL.EPL.ENABLED, True]
"""
    grid = read_grid(written(tmp_path, text))
    found = {m.name: (m.baseline, [override.value for override in m.overrides]) for m in grid.methods}
    expected = {f"base_from_{start}": (None, [f"0.{start}", "7"]) for start in (11, 12)}
    for start in (11, 12):
        for loss in ("epl", "both"):
            expected[f"{loss}_from_{start}"] = (f"base_from_{start}", [f"0.{start}", "7", str(start), "True"])
    assert found == expected
    for before, after, line, message in [
        ('"base_from_{start}": {}', "base: {}", 9, "must hold {start}"),
        ('"0.{start}"', '"0.{stop}"', 6, "has the variable 'stop'; the product has start"),
        ("{start: [11, 12]}", "{}", 5, "product is empty"),
        ("{loss: [epl, both]}", "{loss: [epl, both], start: [3]}", 11, "the grid has the variable 'start', too"),
        ("[11, 12]", "[[11]]", 5, "must be texts or numbers"),
    ]:
        path = written(tmp_path, text.replace(before, after, 1))
        with pytest.raises(ValueError) as error:
            read_grid(path)
        assert str(error.value).startswith(f"{path}:{line}: ") and message in str(error.value)


def test_a_product_fills_sizes(tmp_path):
    table = TABLE.replace('{norm}_k{kernel}":\n', '{norm}_k{kernel}_s{size}":\n    size: "{size}"\n')
    table = table[: table.index("paper:")].replace("kernel: [7, 9]", "kernel: [7], size: [0.5, 4]")
    methods = {method.name: method for method in read_grid(written(tmp_path, table)).methods}
    assert methods["base"].size is None
    assert [methods[f"point_l2_k7_s{size}"].size for size in ("0.5", "4")] == [0.5, 4.0]
    by_key = table.replace('size: "{size}"', 'size: {MODEL.EPL.LINE.WEIGHT: "{size}"}')
    methods = {method.name: method for method in read_grid(written(tmp_path, by_key)).methods}
    assert methods["point_l1_k7_s4"].size == {"MODEL.EPL.LINE.WEIGHT": 4.0}
    of_loss = table.replace('size: "{size}"', 'size: {"MODEL.EPL.{loss}.WEIGHT": "{size}"}')
    of_loss = of_loss.replace("size: [0.5, 4]", "size: [4], loss: [LINE, POINT]")
    of_loss = of_loss.replace('_s{size}"', '_s{size}_{loss}"')
    of_loss = of_loss.replace("MODEL.EPL.POINT.KERNEL_SIZE", '"MODEL.EPL.{loss}.KERNEL_SIZE"')
    (method,) = (m for m in read_grid(written(tmp_path, of_loss)).methods if m.name == "point_l1_k7_s4_POINT")
    assert method.size == {"MODEL.EPL.POINT.WEIGHT": 4.0}
    assert ("MODEL.EPL.POINT.KERNEL_SIZE", "7") in [(override.key, override.value) for override in method.overrides]
    with pytest.raises(ValueError, match=r"grid\.yaml:9: size must be a positive number, got 'big'"):
        read_grid(written(tmp_path, table.replace("size: [0.5, 4]", "size: [big]")))


def test_sizes_belong_to_the_configuration_and_replace_weights(tmp_path):
    lovasz, line = "MODEL.EXTRA_LOSSES.LOVASZ.WEIGHT", "MODEL.EPL.LINE.WEIGHT"
    methods = f"""methods:
  cross_entropy: {{}}
  one: {{opts: [{lovasz}, 0.3], size: 0.5}}
  same: {{opts: [{lovasz}, 0.7], size: 0.5}}
  larger: {{opts: [{lovasz}, 0.3], size: 1}}
  two: {{opts: [MODEL.EPL.ENABLED, True], size: {{{line}: 1.5, {lovasz}: 0.5}}}}
"""
    text = GRID[: GRID.index("methods:")] + methods
    runs = {run.method: run for run in plan_runs(read_grid(written(tmp_path, text)), tmp_path, ROOT, files=False)}
    assert runs["cross_entropy"].sizes == ()
    assert runs["one"].sizes == runs["same"].sizes == ((lovasz, 0.5),)
    assert runs["two"].sizes == ((line, 1.5), (lovasz, 0.5))
    hashes = [runs[name].config_hash for name in ("one", "same", "larger")]
    assert hashes[0] == hashes[1] != hashes[2]
    run = runs["one"]
    Path(run.folder).mkdir(parents=True)
    Path(run.folder, "model_final.pth").touch()
    run.configuration_file.write_text(runs["larger"].configuration)
    with pytest.raises(ValueError, match=r"LOSS_SIZES\.MODEL\.EXTRA_LOSSES\.LOVASZ\.WEIGHT was 1\.0 and is 0\.5"):
        check_same_configuration(run)


@pytest.fixture
def empty_data_folder(tmp_path):
    register_all_datasets(str(tmp_path / "datasets"))
    yield
    register_all_datasets()


def test_missing_data_are_refused_before_a_real_run(tmp_path, empty_data_folder):
    path = written(tmp_path, GRID)
    with pytest.raises(ValueError, match=r"grid\.yaml:10: .*datasets/shapes"):
        plan_runs(read_grid(path), tmp_path, ROOT)
    plan_runs(read_grid(path), tmp_path, ROOT, files=False)


def test_weights_enter_the_hash_by_content(tmp_path):
    grid = read_grid(written(tmp_path, GRID))
    hashes = []
    for name, content in (("a.pth", b"1"), ("b.pth", b"1"), ("c.pth", b"2")):
        (tmp_path / name).write_bytes(content)
        planned = plan_runs(grid.with_overrides(["MODEL.WEIGHTS", str(tmp_path / name)]), tmp_path, ROOT, files=False)
        hashes.append(planned[0].config_hash)
    assert hashes[0] == hashes[1] != hashes[2]
    with pytest.raises(FileNotFoundError, match=r"--opts: MODEL.WEIGHTS .*none\.pth does not exist"):
        _check_files(grid.with_overrides(["MODEL.WEIGHTS", str(tmp_path / "none.pth")]), tmp_path)


def test_weights_by_name_are_fetched_before_a_real_run_and_enter_the_hash_as_what_is_trained(tmp_path, monkeypatch):
    name = "weights/mobilenet_v2.pth"
    torch.save(torchvision.models.mobilenet_v2(weights=None).state_dict(), tmp_path / "file")
    official = f"mobilenet_v2-{hashlib.sha256((tmp_path / 'file').read_bytes()).hexdigest()[:8]}.pth"
    (tmp_path / "file").rename(tmp_path / official)
    monkeypatch.setitem(pretrained.NAMED_WEIGHTS, name, pretrained._File(official))
    monkeypatch.setattr(pretrained, "_SERVER", "file:///nowhere/")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    method = read_grid(written(tmp_path, GRID)).with_overrides(["MODEL.WEIGHTS", name]).methods[0]
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"^--opts: MODEL\.WEIGHTS {name} is not here, and .*{official} cannot be f"):
        _identity_of_weights(name, method, True)
    assert _identity_of_weights(name, method, False) == name  # a dry run fetches nothing

    monkeypatch.setattr(pretrained, "_SERVER", f"{tmp_path.as_uri()}/")
    identity = _identity_of_weights(name, method, True)
    assert identity == "sha256:" + hashlib.sha256(Path(pretrained.named_weights(name)).read_bytes()).hexdigest()
    assert _identity_of_weights(name, method, False) == identity  # or it would take its own run for another
    (tmp_path / "weights").mkdir()
    (tmp_path / name).write_bytes(b"mine")
    assert _identity_of_weights(name, method, True) == "sha256:" + hashlib.sha256(b"mine").hexdigest()


def _check_files(grid, folder):
    cfgs = resolve_methods(grid, ROOT, files=False)
    _identity_of_weights(cfgs[0].MODEL.WEIGHTS, grid.methods[0], files=True)


def test_a_folder_of_another_configuration_is_refused(tmp_path):
    grid = read_grid(written(tmp_path, GRID))
    run = plan_runs(grid, tmp_path, ROOT, files=False)[0]
    check_same_configuration(run)  # nothing there
    run.configuration_file.parent.mkdir(parents=True)
    (run.configuration_file.parent / "model_0000001.pth").touch()
    # A key that the earlier version of the project did not have, and that has its default now, is no difference.
    run.configuration_file.write_text(run.configuration.replace("    SAVE_IMAGE_COUNTS", "    # SAVE_IMAGE_COUNTS"))
    check_same_configuration(run)
    run.configuration_file.write_text(run.configuration.replace("MAX_ITER: 4", "MAX_ITER: 5"))
    with pytest.raises(
        ValueError, match=r"seed_1 holds a run of another configuration: SOLVER.MAX_ITER was 5 and is 4"
    ):
        check_same_configuration(run)


def test_a_folder_in_which_nothing_was_trained_takes_another_configuration(tmp_path):
    run = plan_runs(read_grid(written(tmp_path, GRID)), tmp_path, ROOT, files=False)[0]
    folder = Path(run.folder)
    folder.mkdir(parents=True)
    run.configuration_file.write_text(run.configuration.replace("MAX_ITER: 4", "MAX_ITER: 0"))
    (folder / "run.json").write_text('{"seed": 1, "commits": [], "method": "cross_entropy", "error": "MAX_ITER is 0"}')
    check_same_configuration(run)
    # What binds it: a checkpoint, a result, or a training of a killed grid that may still write them.
    (folder / "model_0000001.pth").touch()
    with pytest.raises(ValueError, match=r"SOLVER\.MAX_ITER was 0 and is 4"):
        check_same_configuration(run)
    (folder / "model_0000001.pth").unlink()
    with (folder / ".lock").open("w") as lock:
        check_same_configuration(run)
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ValueError, match=r"SOLVER\.MAX_ITER was 0 and is 4"):
            check_same_configuration(run)
    check_same_configuration(run)
    (folder / "run.json").write_text('{"seed": 1, "commits": [], "method": "cross_entropy", "metrics": {}}')
    with pytest.raises(ValueError, match=r"SOLVER\.MAX_ITER was 0 and is 4"):
        check_same_configuration(run)
