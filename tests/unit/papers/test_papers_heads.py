"""The heads that the models declare: with them, features give what the model's networks give."""

import pytest
import torch
from lightning.pytorch import LightningModule, seed_everything
from torch.testing import assert_close

from gan_lightning.interfaces import HasHeads
from gan_lightning.papers import (
    GAN,
    MGAN,
    Autoencoder,
    BiGAN,
    ImageNetworks,
    LatentRegressor,
    PermutationInvariantNetworks,
    SelfExGAN,
    TutorialNetworks,
)

MLP, IMAGES = PermutationInvariantNetworks(3, 8), ImageNetworks(3, 2, 6)
ALEXNET, TUTORIAL = ImageNetworks(3, 2, 6, alexnet_discriminator=True), TutorialNetworks(3, 2)

MODELS = {
    "mgan": (lambda: MGAN(1, 32, base_width=2, feature_dim=6, generators=3, fake_batch_size=6), 32),
    "gan, mlp": (lambda: GAN(1, 8, MLP), 8),
    "gan, dcgan": (lambda: GAN(1, 64, IMAGES), 64),
    "gan, alexnet": (lambda: GAN(1, 64, ALEXNET), 64),
    "gan, tutorial": (lambda: GAN(1, 64, TUTORIAL), 64),
    "bigan": (lambda: BiGAN(1, 8, MLP), 8),
    "bigan, images": (lambda: BiGAN(1, 64, IMAGES), 64),
    "latent regressor": (lambda: LatentRegressor(1, 8, MLP), 8),
    "autoencoder": (lambda: Autoencoder(1, 8, MLP), 8),
    "selfexgan, sigmoid": (lambda: SelfExGAN(1, 32, "mnist", base_width=2), 32),
    "selfexgan, softmax": (lambda: SelfExGAN(3, 32, "cifar10", base_width=2), 32),
}


@pytest.mark.parametrize("name", MODELS)
def test_features_and_their_head_give_the_models_outputs(name):
    make, size = MODELS[name]
    seed_everything(0)
    model: LightningModule = make().eval()
    assert isinstance(model, HasHeads)
    heads, extractors = model.heads(), model.extractors()
    channels = 3 if "softmax" in name else 1
    images = torch.rand(5, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        outputs = {}
        for key, head in heads.items():
            given = extractors[key](images).flatten(1) @ head.weight.T
            outputs[key] = given[:, 1:] - given[:, :1] if head.softmax else given
        expected = {}
        if hasattr(model, "discriminate") and not isinstance(model, BiGAN | LatentRegressor):
            expected["discriminator"] = model.discriminate(images)[:, None]
        if isinstance(model, MGAN):
            classes = model.discriminate_and_classify(images)[1]
            expected["classifier"] = classes[:, 1:] - classes[:, :1]
        if hasattr(model, "encoder"):
            expected["encoder_hidden"] = model.encoder(images)
    assert outputs.keys() == expected.keys()
    for key, output in outputs.items():
        assert_close(output - output[0], expected[key] - expected[key][0])  # but for the bias
        assert output.std(dim=0).min() > 0
    tasks = {"discriminator": "discrimination", "classifier": "classification", "encoder_hidden": "encoding"}
    assert {key: head.task for key, head in heads.items()} == {key: tasks[key] for key in heads}


def test_an_output_that_is_not_linear_has_no_head():
    model = GAN(1, 8, MLP)
    model.discriminator.output.append(torch.nn.BatchNorm1d(1))
    assert model.heads() == {}
