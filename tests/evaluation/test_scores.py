"""One call for one pair."""

import doctest

import numpy as np
import pytest

from epl_d2.evaluation import BoundaryStatistics, boundary_scores, scores


@pytest.fixture
def shifted() -> tuple[np.ndarray, np.ndarray]:
    """A square that is predicted two pixels too far to the right, up to a strip of ignored pixels."""
    target = np.zeros((12, 14), np.uint8)
    target[4:8, 6:10] = 1
    prediction = np.roll(target, 2, axis=1)
    target[:, 12:] = 255
    return prediction, target


def test_scores_by_hand(shifted):
    found = boundary_scores(*shifted, num_classes=2)
    valid = 12 * 12
    # 16 pixels each, 8 of them shared.
    assert found["confusion"].tolist() == [[valid - 24, 8], [8, 8]]
    assert found["mIoU"] == pytest.approx(((valid - 24) / (valid - 8) + 8 / 24) / 2)
    assert found["boundary_f"].shape == (20,)
    assert found["boundary_f"][0] < 1 and (found["boundary_f"][1:] == 1).all()  # two pixels off


@pytest.mark.parametrize("setting", [{"widths": [3, 1]}, {"ignore_mode": "zero"}, {"trimap": "void"}], ids=str)
def test_settings_are_those_of_the_statistics(shifted, setting):
    statistics = BoundaryStatistics(2, **setting)
    statistics.update(*shifted)
    expected, default = statistics.compute(), boundary_scores(*shifted, 2)
    found = boundary_scores(*shifted, 2, **setting)
    for key in expected:
        np.testing.assert_array_equal(found[key], expected[key])
    assert any(not np.array_equal(found[key], default[key], equal_nan=True) for key in found)


def test_another_ignore_value(shifted):
    prediction, target = shifted
    expected = boundary_scores(prediction, target, 2)
    found = boundary_scores(prediction, np.where(target == 255, -1, target.astype(int)), 2, ignore_value=-1)
    for key in expected:
        np.testing.assert_array_equal(found[key], expected[key])


def test_widths_are_1_to_20_by_default():
    assert BoundaryStatistics(3).widths == tuple(range(1, 21))


def test_the_example_runs():
    result = doctest.testmod(scores)
    assert result.attempted > 0 and result.failed == 0
