"""The networks of Liu 2018, Tables 4.1 to 4.7: every feature map and every parameter, against sums done by hand."""

import pytest
import torch
from torch import nn

from gan_lightning.errors import SettingError
from gan_lightning.nets.table_rows import Conv, Deconv, Dropout, Flatten, FullyConnect, MaxPool, Reshape, network
from gan_lightning.papers import SelfExGAN
from gan_lightning.papers.selfexgan.selfexgan_tables import TABLES, LayerTables

# Per row: its output without the batch dimension, and its parameters. A batch norm has 2 per map, and the layer before
# it no bias; a layer without batch norm has a bias per map.

# Tables 4.1 to 4.4: three deconvolutions of 5x5, from 4x4 to 32x32. What differs is the latent and the colours.
GENERATOR_32_Z64_GREY = [
    ((4096,), 64 * 4096 + 2 * 4096), ((256, 4, 4), 0),
    ((128, 8, 8), 25 * 256 * 128 + 2 * 128), ((64, 16, 16), 25 * 128 * 64 + 2 * 64), ((1, 32, 32), 25 * 64 * 1 + 1),
]  # fmt: skip
GENERATOR_32 = [
    ((4096,), 128 * 4096 + 2 * 4096), ((256, 4, 4), 0),
    ((128, 8, 8), 25 * 256 * 128 + 2 * 128), ((64, 16, 16), 25 * 128 * 64 + 2 * 64), ((3, 32, 32), 25 * 64 * 3 + 3),
]  # fmt: skip
ENCODER_4_1 = [
    ((64, 32, 32), 9 * 1 * 64 + 2 * 64), ((64, 16, 16), 0),
    ((128, 16, 16), 9 * 64 * 128 + 2 * 128), ((128, 8, 8), 0),
    ((256, 8, 8), 9 * 128 * 256 + 2 * 256), ((256, 4, 4), 0),
    ((4096,), 0), ((64,), 4096 * 64 + 64),
]  # fmt: skip
ENCODER_4_2 = [
    ((64, 32, 32), 9 * 3 * 64 + 2 * 64), ((64, 16, 16), 0),
    ((128, 16, 16), 9 * 64 * 128 + 2 * 128), ((128, 8, 8), 0),
    ((256, 8, 8), 9 * 128 * 256 + 2 * 256), ((256, 4, 4), 0),
    ((4096,), 0), ((128,), 4096 * 128 + 128),
]  # fmt: skip
ENCODER_4_3 = [  # kernels of 5x5
    ((64, 32, 32), 25 * 3 * 64 + 2 * 64), ((64, 16, 16), 0),
    ((128, 16, 16), 25 * 64 * 128 + 2 * 128), ((128, 8, 8), 0),
    ((256, 8, 8), 25 * 128 * 256 + 2 * 256), ((256, 4, 4), 0),
    ((4096,), 0), ((128,), 4096 * 128 + 128),
]  # fmt: skip
DISCRIMINATOR_4_1 = [
    ((64, 16, 16), 25 * 1 * 64 + 2 * 64), ((128, 8, 8), 25 * 64 * 128 + 2 * 128),
    ((256, 4, 4), 25 * 128 * 256 + 2 * 256), ((512, 2, 2), 25 * 256 * 512 + 2 * 512),
    ((2048,), 0), ((1,), 2048 * 1 + 1),
]  # fmt: skip
DISCRIMINATOR_32 = [  # two outputs
    ((64, 16, 16), 25 * 3 * 64 + 2 * 64), ((128, 8, 8), 25 * 64 * 128 + 2 * 128),
    ((256, 4, 4), 25 * 128 * 256 + 2 * 256), ((512, 2, 2), 25 * 256 * 512 + 2 * 512),
    ((2048,), 0), ((2,), 2048 * 2 + 2),
]  # fmt: skip
IMAGES_4_1 = [  # 32 * 32 * 1 = 1024 values
    ((1024,), 0), ((1024,), 1024 * 1024 + 2 * 1024), ((256,), 1024 * 256 + 2 * 256), ((64,), 256 * 64 + 64),
]  # fmt: skip
IMAGES_32 = [  # 32 * 32 * 3 = 3072 values
    ((3072,), 0), ((1024,), 3072 * 1024 + 2 * 1024), ((256,), 1024 * 256 + 2 * 256), ((128,), 256 * 128 + 128),
]  # fmt: skip
PAIRS_4_1 = [
    ((256,), 128 * 256 + 256), ((128,), 256 * 128 + 2 * 128), ((64,), 128 * 64 + 2 * 64), ((1,), 64 * 1 + 1),
]  # fmt: skip
PAIRS_4_2 = [
    ((512,), 256 * 512 + 512), ((256,), 512 * 256 + 2 * 256), ((128,), 256 * 128 + 2 * 128),
    ((64,), 128 * 64 + 2 * 64), ((2,), 64 * 2 + 2),
]  # fmt: skip
PAIRS_4_3 = [
    ((256,), 256 * 256 + 256), ((256,), 0), ((512,), 256 * 512 + 2 * 512), ((512,), 0),
    ((256,), 512 * 256 + 2 * 256), ((128,), 256 * 128 + 2 * 128), ((64,), 128 * 64 + 2 * 64), ((2,), 64 * 2 + 2),
]  # fmt: skip
PAIRS_4_4 = [
    ((256,), 256 * 256 + 256), ((512,), 256 * 512 + 2 * 512), ((512,), 0),
    ((1024,), 512 * 1024 + 2 * 1024), ((1024,), 0),
    ((512,), 1024 * 512 + 2 * 512), ((512,), 0), ((256,), 512 * 256 + 2 * 256), ((128,), 256 * 128 + 2 * 128),
    ((64,), 128 * 64 + 2 * 64), ((2,), 64 * 2 + 2),
]  # fmt: skip

# Tables 4.5 to 4.7: four deconvolutions, from 4x4 to 64x64.
GENERATOR_4_5 = [
    ((4096,), 64 * 4096 + 2 * 4096), ((256, 4, 4), 0),
    ((128, 8, 8), 9 * 256 * 128 + 2 * 128), ((64, 16, 16), 9 * 128 * 64 + 2 * 64),
    ((64, 32, 32), 9 * 64 * 64 + 2 * 64), ((3, 64, 64), 25 * 64 * 3 + 3),
]  # fmt: skip
GENERATOR_4_6 = [((4096,), 128 * 4096 + 2 * 4096), *GENERATOR_4_5[1:]]
GENERATOR_4_7 = [  # kernels of 5x5
    ((4096,), 128 * 4096 + 2 * 4096), ((256, 4, 4), 0),
    ((128, 8, 8), 25 * 256 * 128 + 2 * 128), ((64, 16, 16), 25 * 128 * 64 + 2 * 64),
    ((64, 32, 32), 25 * 64 * 64 + 2 * 64), ((3, 64, 64), 25 * 64 * 3 + 3),
]  # fmt: skip
ENCODER_4_5 = [
    ((64, 64, 64), 9 * 3 * 64 + 2 * 64), ((64, 32, 32), 0),
    ((64, 32, 32), 9 * 64 * 64 + 2 * 64), ((64, 16, 16), 0),
    ((128, 16, 16), 9 * 64 * 128 + 2 * 128), ((128, 8, 8), 0),
    ((256, 8, 8), 9 * 128 * 256 + 2 * 256), ((256, 4, 4), 0),
    ((4096,), 0), ((64,), 4096 * 64 + 64),
]  # fmt: skip
ENCODER_4_6 = [*ENCODER_4_5[:-1], ((128,), 4096 * 128 + 128)]
ENCODER_4_7 = [  # the last kernel is 3x3, the others 5x5
    ((64, 64, 64), 25 * 3 * 64 + 2 * 64), ((64, 32, 32), 0),
    ((64, 32, 32), 25 * 64 * 64 + 2 * 64), ((64, 16, 16), 0),
    ((128, 16, 16), 25 * 64 * 128 + 2 * 128), ((128, 8, 8), 0),
    ((256, 8, 8), 9 * 128 * 256 + 2 * 256), ((256, 4, 4), 0),
    ((4096,), 0), ((128,), 4096 * 128 + 128),
]  # fmt: skip
DISCRIMINATOR_64 = [
    ((64, 32, 32), 25 * 3 * 64 + 2 * 64), ((64, 16, 16), 25 * 64 * 64 + 2 * 64),
    ((128, 8, 8), 25 * 64 * 128 + 2 * 128), ((256, 4, 4), 25 * 128 * 256 + 2 * 256),
    ((512, 2, 2), 25 * 256 * 512 + 2 * 512), ((2048,), 0), ((2,), 2048 * 2 + 2),
]  # fmt: skip
IMAGES_4_5 = [  # 8 * 8 * 128 = 8192 values
    ((64, 32, 32), 25 * 3 * 64 + 2 * 64), ((64, 16, 16), 25 * 64 * 64 + 2 * 64),
    ((128, 8, 8), 25 * 64 * 128 + 2 * 128), ((64,), 8192 * 64 + 64),
]  # fmt: skip
IMAGES_4_6 = [*IMAGES_4_5[:-1], ((128,), 8192 * 128 + 128)]  # the latent's length, so that 256 are concatenated
PAIRS_4_5 = [*PAIRS_4_1[:-1], ((2,), 64 * 2 + 2)]
PAIRS_4_6 = [
    ((256,), 256 * 256 + 256), ((128,), 256 * 128 + 2 * 128), ((64,), 128 * 64 + 2 * 64), ((2,), 64 * 2 + 2),
]  # fmt: skip

BY_HAND = {
    "mnist": (64, (1, 32, 32), GENERATOR_32_Z64_GREY, ENCODER_4_1, DISCRIMINATOR_4_1, IMAGES_4_1, PAIRS_4_1),
    "svhn": (128, (3, 32, 32), GENERATOR_32, ENCODER_4_2, DISCRIMINATOR_32, IMAGES_32, PAIRS_4_2),
    "cifar10": (128, (3, 32, 32), GENERATOR_32, ENCODER_4_3, DISCRIMINATOR_32, IMAGES_32, PAIRS_4_3),
    "imagenet": (128, (3, 32, 32), GENERATOR_32, ENCODER_4_3, DISCRIMINATOR_32, IMAGES_32, PAIRS_4_4),
    "celeba_crop": (64, (3, 64, 64), GENERATOR_4_5, ENCODER_4_5, DISCRIMINATOR_64, IMAGES_4_5, PAIRS_4_5),
    "celeba": (128, (3, 64, 64), GENERATOR_4_6, ENCODER_4_6, DISCRIMINATOR_64, IMAGES_4_6, PAIRS_4_6),
    "cartoon": (128, (3, 64, 64), GENERATOR_4_7, ENCODER_4_7, DISCRIMINATOR_64, IMAGES_4_6, PAIRS_4_6),
}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def built(name: str, image: tuple[int, int, int], **settings) -> SelfExGAN:
    """Return a model without weights, which only take time here."""
    with torch.device("meta"):
        return SelfExGAN(image[0], image[1], name, **settings)


def measured(stages: nn.Sequential, *shape: int) -> list[tuple]:
    x, rows = torch.zeros(2, *shape, device="meta"), []
    for stage in stages.eval():
        x = stage(x)
        rows.append((tuple(x.shape[1:]), count(stage)))
    return rows


@pytest.mark.parametrize("name", TABLES)
def test_every_feature_map_and_every_parameter_is_the_tables(name):
    latent_dim, image, *by_hand = BY_HAND[name]
    model = built(name, image)
    concatenated = by_hand[3][-1][0][0] + latent_dim
    assert concatenated == {64: 128, 128: 256}[latent_dim]
    assert [
        measured(model.generator, latent_dim),
        measured(model.encoder, *image),
        measured(model.discriminator, *image),
        measured(model.pair_discriminator.images, *image),
        measured(model.pair_discriminator.pairs, concatenated),
    ] == by_hand


def nonlinearities(stages: nn.Sequential) -> list[str]:
    """Return the nonlinearity of each row with weights, with a B before it where batch norm is."""
    rows = []
    for stage in stages:
        if count(stage):
            norm = any(isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d) for part in stage)
            last = stage[-1]
            rows.append("B " * norm + ("none" if isinstance(last, nn.Linear) else repr(last)))
    return rows


LEAKY = "LeakyReLU(negative_slope=0.2)"


@pytest.mark.parametrize("name", TABLES)
def test_batch_norm_and_nonlinearities_are_the_tables(name):
    image = BY_HAND[name][1]
    model = built(name, image)
    faces = image[1] == 64
    generator = ["B ReLU()", *[f"B {LEAKY}"] * 3] if faces else ["B ReLU()"] * 3
    assert nonlinearities(model.generator) == [*generator, "Tanh()"]
    encoder = [f"B {LEAKY}"] * 3 if name in ("cifar10", "imagenet") else ["B ReLU()"] * (4 if faces else 3)
    assert nonlinearities(model.encoder) == [*encoder, "none"]  # the sigmoid is the model's
    discriminator = ["B ReLU()"] * 4 if name in ("mnist", "svhn") else [f"B {LEAKY}"] * (5 if faces else 4)
    assert nonlinearities(model.discriminator) == [*discriminator, "none"]  # the losses take logits
    images = [*[f"B {LEAKY}"] * 3, LEAKY] if faces else ["B ReLU()", "B ReLU()", "ReLU()"]
    assert nonlinearities(model.pair_discriminator.images) == images
    hidden = {"svhn": 3, "cifar10": 4, "imagenet": 6}.get(name, 2)
    assert nonlinearities(model.pair_discriminator.pairs) == ["ReLU()", *["B ReLU()"] * hidden, "none"]
    rates = [part.p for part in model.pair_discriminator.modules() if isinstance(part, nn.Dropout)]
    assert rates == [0.1] * {"cifar10": 2, "imagenet": 3}.get(name, 0)


def test_a_base_width_scales_what_is_hidden_and_nothing_else():
    model = built("mnist", (1, 32, 32), base_width=4)
    assert measured(model.generator, 64) == [
        ((256,), 64 * 256 + 2 * 256), ((16, 4, 4), 0), ((8, 8, 8), 25 * 16 * 8 + 2 * 8),
        ((4, 16, 16), 25 * 8 * 4 + 2 * 4), ((1, 32, 32), 25 * 4 * 1 + 1),
    ]  # fmt: skip
    assert measured(model.encoder, 1, 32, 32)[-1] == ((64,), 256 * 64 + 64)
    assert measured(model.pair_discriminator.images, 1, 32, 32)[1:] == [
        ((64,), 1024 * 64 + 2 * 64), ((16,), 64 * 16 + 2 * 16), ((64,), 16 * 64 + 64),
    ]  # fmt: skip
    assert measured(model.pair_discriminator.pairs, 128)[0] == ((16,), 128 * 16 + 16)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([Conv(3, 1, (16, 16, 64), True, "ReLU")], r"row 1, Conv.*, gives maps of 8x8"),
        ([Flatten(), Conv(3, 1, (8, 8, 64), True, "ReLU")], r"row 2, Conv.*, takes feature maps, and gets a vector"),
        ([MaxPool(2, (8, 8))], r"row 1, MaxPool.*, gives maps of 4x4"),
        ([Deconv(5, 2, (8, 8, 64), True, "ReLU")], r"row 1, Deconv.*, gives maps of 16x16"),
        ([Flatten(), Reshape((4, 4, 64))], r"row 2, Reshape.*, reshapes 64 values"),
        ([FullyConnect(100, True, "ReLU"), Dropout(0.5)], r"row 1, .* a width of 100, which is no multiple of 64"),
    ],
)
def test_a_table_whose_rows_do_not_fit_is_refused(rows, message):
    with pytest.raises(SettingError, match=message):
        network(rows, (8, 8, 1))


def test_a_concatenation_of_another_length_is_refused():
    settings = {**vars(TABLES["celeba"])}
    with pytest.raises(SettingError, match=r"concat must be as long as .* got 192"):
        LayerTables(**settings | {"concat": 192})
