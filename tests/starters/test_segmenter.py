"""Questions about many pictures at once, and a network that grows without forgetting."""

import numpy as np
import pytest
import torch

from studio.nets.sam import STARTER, build_sam
from studio.starters import segmenter
from studio.starters.composer import Composer
from studio.train.asking import Question, answer, sized
from studio.train.segmenter import export
from tests.starters.test_composer import small_atlas

SMALL = {
    **STARTER,
    "encoder": {**STARTER["encoder"], "widths": [16, 16, 32, 32], "depths": [1, 1, 1], "heads": 2},
    "image_size": 64,
}


def chance() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def some_masks() -> torch.Tensor:
    masks = torch.zeros(3, 64, 64, dtype=torch.bool)
    masks[0, 10:40, 20:60] = True
    masks[1, 5, 6] = True
    masks[2] = True
    return masks


def test_clicks_lie_on_their_masks():
    masks = some_masks()
    for sharpness in (0.0, 8.0):
        for _ in range(20):
            x, y = segmenter.spots(masks, torch.full((3,), sharpness), torch.default_generator).long().unbind(1)
            assert masks[torch.arange(3), y, x].all()


def test_sharp_clicks_lie_deep_inside():
    mask = some_masks()[:1]
    drawn = [segmenter.spots(mask, torch.tensor([8.0]), torch.default_generator)[0] for _ in range(50)]
    x, y = torch.stack(drawn).mean(0).tolist()
    assert abs(x - 40) < 6
    assert abs(y - 25) < 3


def test_boxes_without_jitter_are_exact():
    boxes = segmenter.around(some_masks(), torch.zeros(3), chance())
    assert boxes.tolist() == [[20, 10, 60, 40], [6, 5, 7, 6], [0, 0, 64, 64]]


@pytest.fixture(scope="module")
def sam():
    torch.manual_seed(0)
    return build_sam(SMALL)


@torch.no_grad()
def test_many_pictures_at_once_are_answered_like_one(sam):
    sized(sam, 64)
    features = torch.randn(1, 128, 8, 8)
    points = torch.tensor([[[12.0, 30.0]]])
    own, guessed = answer(sam, features, sam.prompt_encoder.get_dense_pe(), Question(points, torch.ones(1, 1)))
    padded, labels = torch.cat([points, torch.zeros(1, 1, 2)], 1), torch.tensor([[1, -1]])
    none = sam.prompt_encoder.no_mask_embed.weight[..., None, None]
    logits, seen = segmenter.decoded(sam, features, segmenter.embedded(sam, padded, labels), none)
    assert torch.allclose(own, logits, atol=1e-4)
    assert torch.allclose(guessed, sam.mask_decoder.iou_prediction_head(seen), atol=1e-4)
    box = torch.tensor([[4.0, 6.0, 40.0, 50.0]])
    own, _ = answer(sam, features, sam.prompt_encoder.get_dense_pe(), Question(boxes=box))
    corners, labels = box.view(1, 2, 2), torch.tensor([[2, 3]])
    logits, _ = segmenter.decoded(sam, features, segmenter.embedded(sam, corners, labels), none)
    assert torch.allclose(own, logits, atol=1e-4)


@torch.no_grad()
def test_new_blocks_begin_as_identities(sam, tmp_path):
    export(sam, tmp_path, config=SMALL)
    grown = build_sam({**SMALL, "encoder": {**SMALL["encoder"], "depths": [2, 2, 3]}})
    segmenter.start(grown, tmp_path)
    picture = torch.randn(2, 3, 64, 64)
    assert torch.allclose(grown.image_encoder(picture), sam.image_encoder(picture), atol=0.02)


def test_a_lesson_asks_for_regions_that_are_there(sam):
    composer = Composer(small_atlas(), ("square", "bar"), torch.device("cpu"), seed=1)
    taught = segmenter.lesson(composer, sam, 6, 64, segmenter.Recipe(asked=3))
    assert taught.pictures.shape == (6, 3, 64, 64)
    assert taught.masks.shape == (18, 64, 64)
    assert (taught.masks.sum((1, 2)) >= segmenter.SMALLEST * 64 * 64).all()
    answers = segmenter.conversation(sam, taught, segmenter.Recipe(), chance(), bf16=False)
    assert [len(a.logits) for a in answers] == [36, 18, 18]
    loss = sum(segmenter.mask_losses(a.logits, a.truth, 0.5).mean() for a in answers)
    loss.backward()
    assert np.isfinite(float(loss))
