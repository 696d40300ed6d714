import pytest
import torch

from gan_lightning.evaluation import TensorBatches
from gan_lightning.evaluation.chosen import choose, drawn_images, images_at

IMAGES = torch.rand(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
NUMBERED = TensorBatches(IMAGES, torch.arange(40), 7)


@pytest.mark.parametrize("count", [4, 40, 90])
def test_images_are_chosen_once_each_with_their_labels_in_stored_order(count):
    chosen = choose(NUMBERED, count, 3)
    places = torch.cat([labels for _, labels in chosen])
    assert chosen.count == len(places) == len(places.unique()) == min(count, 40)
    assert torch.equal(places.sort().values, places)
    assert torch.equal(torch.cat([batch for batch, _ in chosen]), IMAGES[places])
    assert torch.equal(drawn_images(NUMBERED, count, 3), IMAGES[places])
    same = torch.equal(torch.cat([labels for _, labels in choose(NUMBERED, count, 4)]), places)
    assert same == (count >= 40)


def test_images_at_places_come_in_the_order_asked_for_some_of_them_twice():
    places = torch.tensor([39, 0, 7, 7])
    assert torch.equal(images_at(NUMBERED, places), IMAGES[places])
