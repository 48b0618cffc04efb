"""Small data sets that tests of several parts train and predict on."""

import pytest


@pytest.fixture(scope="module")
def shapes_with_instances(tmp_path_factory):
    """shapes_with_instances(train=4, val=3, size=(64, 64)): the root of generated scenes and of their instances.

    It stays registered until the module has ended.
    """
    # Not all tests need Detectron2, which is slow to import.
    from epl_d2.data.datasets import register_all_datasets
    from epl_d2.data.shape_annotations import write_shape_annotations
    from epl_d2.data.shapes import write_shapes

    def make(**settings):
        root = tmp_path_factory.mktemp("datasets")
        write_shapes(str(root / "shapes"), **settings)
        write_shape_annotations(str(root / "shapes" / "annotations"), **settings)
        register_all_datasets(str(root))
        return root

    yield make
    register_all_datasets()
