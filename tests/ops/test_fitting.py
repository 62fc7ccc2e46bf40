import numpy as np
import pytest

from studio.errors import InvalidTask
from studio.ops.fitting import composite, cover, crop_note, fit_mask


@pytest.mark.parametrize(("size", "wanted"), [((100, 60), (64, 64)), ((60, 100), (64, 64)), ((8, 8), (64, 32))])
def test_cover_has_the_size_and_the_centre(size, wanted):
    image = np.zeros((size[1], size[0], 3), np.uint8)
    image[size[1] // 2 - 2 : size[1] // 2 + 2, size[0] // 2 - 2 : size[0] // 2 + 2] = 255
    fitted = cover(image, *wanted)
    assert fitted.shape == (wanted[1], wanted[0], 3)
    assert fitted[wanted[1] // 2, wanted[0] // 2].min() > 200


def test_a_picture_of_the_right_size_is_left_alone():
    image = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert np.array_equal(cover(image, 64, 64), image)
    assert crop_note(image, 64, 64) == []


def test_composite_is_exact_outside_and_painted_well_inside():
    start, painted = np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[16:48, 16:48] = True
    mixed = composite(start, painted, mask)
    assert (mixed[~mask] == 0).all()
    assert (mixed[24:40, 24:40] == 255).all()
    mask[:] = False
    mask[5, 5] = True
    assert composite(start, painted, mask)[5, 5, 0] > 0


def test_a_mask_of_another_size_is_fitted_and_an_empty_one_refused():
    start = np.zeros((60, 100, 3), np.uint8)
    mask = np.zeros((30, 50, 3), np.uint8)
    mask[10:20, 20:30] = 255
    fitted = fit_mask(mask, start, 64, 64)
    assert fitted.shape == (64, 64)
    assert fitted[32, 32]
    assert not fitted[0, 0]
    mask[:] = 0
    mask[:, 0] = 255  # cut away at the left
    with pytest.raises(InvalidTask, match="empty within the picture"):
        fit_mask(mask, start, 64, 64)
