"""A model's images, judged: which ones, against which, and what is left as it was."""

import pytest
import torch
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import QualityReference, TensorImages, measure_quality
from gan_lightning.evaluation.chosen import choose
from gan_lightning.evaluation.generation import figure_names
from gan_lightning.evaluation.judges import Judge

CPU = torch.device("cpu")


def judge() -> Judge:
    """Features and classes by a fixed random projection."""
    rng = torch.Generator().manual_seed(0)
    features, head = nn.Sequential(nn.Flatten(), nn.Linear(36, 4), nn.Dropout(0.5)), nn.Linear(4, 3)
    for weight in (*features.parameters(), *head.parameters()):
        weight.data = torch.randn(weight.shape, generator=rng)
    return Judge("projection", features.eval(), 4, head)


class Makes:
    """Several generators; the images may be made of NaN."""

    def __init__(self, generators: int = 3, size: int = 6, offset: float = 0.0) -> None:
        rng = torch.Generator().manual_seed(0)
        self.weight = torch.randn(generators, 5, size * size, generator=rng)
        self.size, self.offset = size, offset

    def __call__(self, count: int, seed: int) -> torch.Tensor:
        latents = torch.randn(count, 5, generator=torch.Generator().manual_seed(seed))
        return (latents @ self.weight + self.offset).tanh().unflatten(2, (1, self.size, self.size))


def data(train: int = 80, test: int = 50) -> TensorImages:
    images = torch.rand(train + test, 1, 6, 6, generator=torch.Generator().manual_seed(1)) * 2 - 1
    labels = torch.arange(len(images)) % 3
    splits = {"train": (images[:train], labels[:train]), "test": (images[train:], labels[train:])}
    return TensorImages("noise", **splits, num_classes=3, batch_size=8)


def reference(**settings: object) -> QualityReference:
    return QualityReference.of(judge(), data(), **{"generators": 3, "neighbours": 2} | settings)


def test_as_many_images_are_generated_as_there_are_real_ones_an_equal_number_by_each_generator():
    measured = reference().measure(Makes())
    assert measured.quality.images == 48  # of 50, what 3 generators can share
    assert [sum(counts) for counts in measured.classes.counts] == [16, 16, 16]
    assert reference(images=31).measure(Makes()).quality.images == 30
    assert reference(split="train").measure(Makes()).quality.images == 78


def test_fid_is_torchmetrics_own_through_the_same_network():
    compared = reference()
    network = compared.judge.features
    network.num_features = 4
    metric = FrechetInceptionDistance(network)
    # Few enough images to come in one part, whose seed is the first that the seed gives.
    seed = torch.randint(2**62, (1,), generator=torch.Generator().manual_seed(0)).item()
    with torch.no_grad():
        fake = Makes()(16, seed).flatten(0, 1)
        metric.update(fake, real=False)
        for images, _ in choose(data().evaluation_batches("test", CPU), 48, 0):
            metric.update(images, real=True)
    measured = compared.measure(Makes())
    assert measured.quality.fid == pytest.approx(metric.compute().item(), rel=1e-4)
    with torch.no_grad():
        classes = compared.judge.head(network(fake)).argmax(dim=1).view(3, 16)
    assert measured.classes.counts == [[int((row == c).sum()) for c in range(3)] for row in classes]


def test_the_figures_repeat_and_hang_on_the_seed():
    assert reference().measure(Makes()) == reference().measure(Makes())
    assert reference(seed=1).measure(Makes()).quality.fid != reference().measure(Makes()).quality.fid


def test_images_that_come_in_parts_are_all_different(monkeypatch):
    monkeypatch.setattr("gan_lightning.evaluation.generation.AT_ONCE", 12)
    seen = []
    compared = reference()
    compared.judge.features.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].clone()))
    told = []
    compared.measure(Makes(), lambda *progress: told.append(progress[1:]))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [len(images) for images in seen] == [12, 12, 12, 12]
    images = torch.cat(seen).flatten(1)
    assert len(images.unique(dim=0)) == 48


def test_generated_images_of_another_size_are_resized_to_the_datas():
    compared = reference()
    seen = []
    compared.judge.features.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape))
    compared.measure(Makes(size=3))
    assert seen == [(48, 1, 6, 6)]


def test_other_real_images_stand_beside_them_unless_there_are_too_few():
    compared = reference(images=45)
    assert compared.others.quality.images == 45
    # Of one distribution: nearer than a generator's.
    assert compared.others.quality.fid < compared.measure(Makes()).quality.fid / 2
    assert reference(split="train").others is None
    with torch.no_grad():
        train = compared.judge.features(data()._splits["train"][0])
    full = QualityReference.of(judge(), data(test=80), generators=1, neighbours=2)
    assert full.others.quality == measure_quality(full.real, train, neighbours=2)


def test_the_names_of_the_figures_are_known_before_any_is_measured():
    for neighbours in (0, 2):
        found = reference(neighbours=neighbours).measure(Makes()).figures()
        assert figure_names(judge(), neighbours) == tuple(found)


def test_too_few_images_and_images_that_are_not_finite_are_refused():
    with pytest.raises(SettingError, match=r"images must be above 4, the number of features.* got 3 real"):
        reference(images=4)
    with pytest.raises(SettingError, match=r"images must be at least 9, one from each generator, got 8"):
        reference(images=8, generators=9)
    with pytest.raises(SettingError, match=r"neighbours must be below the number of images, 48, got 50"):
        reference(neighbours=50)
    with pytest.raises(DataError, match=r"Features of generated images must be finite"):
        reference().measure(Makes(offset=float("nan")))
