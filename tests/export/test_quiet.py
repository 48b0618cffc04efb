"""What a user cannot do anything about is not said while a file is checked."""

import warnings

import torch
from torch import nn

from epl_d2.export.formats import load


def test_reading_a_torchscript_file_warns_of_nothing(tmp_path):
    picture = torch.rand(1, 3, 8, 8)
    model = nn.Conv2d(3, 2, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.jit.save(torch.jit.trace(model, picture), str(tmp_path / "model.pt"))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run = load(tmp_path / "model.pt", "torchscript")
        torch.testing.assert_close(run(picture), model(picture).detach())
    assert [str(warning.message) for warning in caught] == []
