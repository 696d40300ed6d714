import torch
from torch import nn
from torch.testing import assert_close

from gan_lightning.measurements import Bench
from gan_lightning.measurements.samples import Samples


class Makes(nn.Module):
    """Some generators of images of 4x4 pixels."""

    def __init__(self, generators: int = 1) -> None:
        super().__init__()
        self.generators = generators
        self.weight = nn.Parameter(torch.ones(()))

    def generate(self, count: int, rng: torch.Generator | None = None) -> torch.Tensor:
        return (self.weight * torch.randn(self.generators, count, 1, 4, 4, generator=rng)).tanh()


def drawn(generators: int, controls: bool = True, **settings: int) -> tuple[torch.Tensor, Makes]:
    """Return the picture's images, row by row, in [-1, 1], and the model."""
    model = Makes(generators)
    outcome = Bench.of_model(model, None, controls=controls).measure(Samples(**settings))
    (picture,) = outcome.pictures.values()
    assert not outcome.figures
    cut = picture[:, 1:, 1:].unfold(1, 4, 5).unfold(2, 4, 5)
    return cut[:1].permute(1, 2, 0, 3, 4) * 2 - 1, model


def test_several_generators_have_a_row_each_and_one_has_as_many_as_asked_for():
    several, model = drawn(3, columns=5, seed=1)
    assert_close(several, model.generate(5, torch.Generator().manual_seed(1)).detach(), rtol=0, atol=1e-4)
    one, model = drawn(1, columns=5, rows=2)
    expected = model.generate(10, torch.Generator().manual_seed(0)).view(2, 5, 1, 4, 4)
    assert_close(one, expected.detach(), rtol=0, atol=1e-4)
    assert drawn(1, columns=3, rows=1)[0].shape[:2] == (1, 3)


def test_while_training_they_are_drawn_too_from_the_same_latents():
    assert Samples().every_n_epochs == 1
    assert torch.equal(drawn(2, controls=False)[0], drawn(2)[0])
