"""The seven layer tables of SelfExGAN, as the thesis prints them: hold them against its pages line by line.

Columns are kernel, strides, feature map, batch norm and nonlinearity. `yes` and `no` are the thesis' words.

Source:
    Liu 2018, *Generative Adversarial Network for Understanding Latent Space*, Tables 4.1 to 4.7.

Deviations, where a table is silent or cannot be meant as it is printed:
    - D1's last map is printed as "2x2" without a width: 512, twice the one before.
    - The generators of 4.5 to 4.7 are printed to end at 32x32x3, after 32x32x64 and a stride of 2: 64x64x3.
    - D2 in 4.6 and 4.7 is printed to concatenate 64 values of the image with a latent of 128 to 256 values. As in the
      other five tables, the image gives the latent's number of values: 128.
    - "1x1x32*32" in D2 is a fully connected layer of 1024 units.
    - Convolutions keep or halve the size and deconvolutions double it, as the printed maps do: the padding follows.
    - Rows without batch norm have biases. Leaky ReLUs leak 0.2, as section 2.2.1 says. Weights start from N(0, 0.02),
      as in DCGAN, the networks' model.
"""

from dataclasses import dataclass
from typing import Literal

from gan_lightning.errors import SettingError
from gan_lightning.nets.table_rows import (
    Conv,
    Deconv,
    Dropout,
    Flatten,
    FullyConnect,
    Map,
    MaxPool,
    Nonlinearity,
    Reshape,
    Row,
)

yes, no = True, False
RELU: Nonlinearity = "ReLU"
LEAKY: Nonlinearity = "LeakyReLU"
TANH: Nonlinearity = "Tanh"
SIGMOID: Nonlinearity = "Sigmoid"
SOFTMAX: Nonlinearity = "Softmax"


@dataclass(frozen=True)
class LayerTables:
    """One table of the thesis, a list of rows per network.

    Attributes:
        image: Height, width and channels of x.
        latent_dim: Length of z.
        generator: G(z).
        encoder: E(x).
        discriminator: D1(x).
        pair_images: D2(x, z): the rows for x alone.
        concat: D2(x, z): number of values of x and z after they are concatenated.
        pairs: D2(x, z): the rows after the concatenation.
    """

    image: Map
    latent_dim: int
    generator: tuple[Row, ...]
    encoder: tuple[Row, ...]
    discriminator: tuple[Row, ...]
    pair_images: tuple[Row, ...]
    concat: int
    pairs: tuple[Row, ...]

    def __post_init__(self) -> None:
        """Check the concatenation.

        Raises:
            SettingError: It is not as long as its two parts together.
        """
        values = self.pair_images[-1]
        if not isinstance(values, FullyConnect) or values.units + self.latent_dim != self.concat:
            raise SettingError(
                f"concat must be as long as D2's values of x and z together, got {self.concat} for {values} and a "
                f"latent of {self.latent_dim}. Correct the table."
            )


MNIST = LayerTables(  # Table 4.1: MNIST
    image=(32, 32, 1),
    latent_dim=64,
    generator=(
        FullyConnect(       4096,          yes, RELU),
        Reshape(            (4, 4, 256)),
        Deconv(       5, 2, (8, 8, 128),   yes, RELU),
        Deconv(       5, 2, (16, 16, 64),  yes, RELU),
        Deconv(       5, 2, (32, 32, 1),   no,  TANH),
    ),
    encoder=(
        Conv(         3, 1, (32, 32, 64),  yes, RELU),
        MaxPool(      2,    (16, 16)),
        Conv(         3, 1, (16, 16, 128), yes, RELU),
        MaxPool(      2,    (8, 8)),
        Conv(         3, 1, (8, 8, 256),   yes, RELU),
        MaxPool(      2,    (4, 4)),
        Flatten(),
        FullyConnect(       64,            no,  SIGMOID),
    ),
    discriminator=(
        Conv(         5, 2, (16, 16, 64),  yes, RELU),
        Conv(         5, 2, (8, 8, 128),   yes, RELU),
        Conv(         5, 2, (4, 4, 256),   yes, RELU),
        Conv(         5, 2, (2, 2, 512),   yes, RELU),
        Flatten(),
        FullyConnect(       1,             no,  SIGMOID),
    ),
    pair_images=(
        Flatten(),
        FullyConnect(       32 * 32,       yes, RELU),
        FullyConnect(       256,           yes, RELU),
        FullyConnect(       64,            no,  RELU),
    ),
    concat=128,
    pairs=(
        FullyConnect(       256,           no,  RELU),
        FullyConnect(       128,           yes, RELU),
        FullyConnect(       64,            yes, RELU),
        FullyConnect(       1,             no,  SIGMOID),
    ),
)  # fmt: skip

SVHN = LayerTables(  # Table 4.2: SVHN
    image=(32, 32, 3),
    latent_dim=128,
    generator=(
        FullyConnect(       4096,          yes, RELU),
        Reshape(            (4, 4, 256)),
        Deconv(       5, 2, (8, 8, 128),   yes, RELU),
        Deconv(       5, 2, (16, 16, 64),  yes, RELU),
        Deconv(       5, 2, (32, 32, 3),   no,  TANH),
    ),
    encoder=(
        Conv(         3, 1, (32, 32, 64),  yes, RELU),
        MaxPool(      2,    (16, 16)),
        Conv(         3, 1, (16, 16, 128), yes, RELU),
        MaxPool(      2,    (8, 8)),
        Conv(         3, 1, (8, 8, 256),   yes, RELU),
        MaxPool(      2,    (4, 4)),
        Flatten(),
        FullyConnect(       128,           no,  SIGMOID),
    ),
    discriminator=(
        Conv(         5, 2, (16, 16, 64),  yes, RELU),
        Conv(         5, 2, (8, 8, 128),   yes, RELU),
        Conv(         5, 2, (4, 4, 256),   yes, RELU),
        Conv(         5, 2, (2, 2, 512),   yes, RELU),
        Flatten(),
        FullyConnect(       2,             no,  SOFTMAX),
    ),
    pair_images=(
        Flatten(),
        FullyConnect(       32 * 32,       yes, RELU),
        FullyConnect(       256,           yes, RELU),
        FullyConnect(       128,           no,  RELU),
    ),
    concat=256,
    pairs=(
        FullyConnect(       512,           no,  RELU),
        FullyConnect(       256,           yes, RELU),
        FullyConnect(       128,           yes, RELU),
        FullyConnect(       64,            yes, RELU),
        FullyConnect(       2,             no,  SOFTMAX),
    ),
)  # fmt: skip

CIFAR10 = LayerTables(  # Table 4.3: Cifar10
    image=(32, 32, 3),
    latent_dim=128,
    generator=(
        FullyConnect(       4096,          yes, RELU),
        Reshape(            (4, 4, 256)),
        Deconv(       5, 2, (8, 8, 128),   yes, RELU),
        Deconv(       5, 2, (16, 16, 64),  yes, RELU),
        Deconv(       5, 2, (32, 32, 3),   no,  TANH),
    ),
    encoder=(
        Conv(         5, 1, (32, 32, 64),  yes, LEAKY),
        MaxPool(      2,    (16, 16)),
        Conv(         5, 1, (16, 16, 128), yes, LEAKY),
        MaxPool(      2,    (8, 8)),
        Conv(         5, 1, (8, 8, 256),   yes, LEAKY),
        MaxPool(      2,    (4, 4)),
        Flatten(),
        FullyConnect(       128,           no,  SIGMOID),
    ),
    discriminator=(
        Conv(         5, 2, (16, 16, 64),  yes, LEAKY),
        Conv(         5, 2, (8, 8, 128),   yes, LEAKY),
        Conv(         5, 2, (4, 4, 256),   yes, LEAKY),
        Conv(         5, 2, (2, 2, 512),   yes, LEAKY),
        Flatten(),
        FullyConnect(       2,             no,  SOFTMAX),
    ),
    pair_images=(
        Flatten(),
        FullyConnect(       32 * 32,       yes, RELU),
        FullyConnect(       256,           yes, RELU),
        FullyConnect(       128,           no,  RELU),
    ),
    concat=256,
    pairs=(
        FullyConnect(       256,           no,  RELU),
        Dropout(0.1),
        FullyConnect(       512,           yes, RELU),
        Dropout(0.1),
        FullyConnect(       256,           yes, RELU),
        FullyConnect(       128,           yes, RELU),
        FullyConnect(       64,            yes, RELU),
        FullyConnect(       2,             no,  SOFTMAX),
    ),
)  # fmt: skip

IMAGENET = LayerTables(  # Table 4.4: Imagenet
    image=(32, 32, 3),
    latent_dim=128,
    generator=(
        FullyConnect(       4096,          yes, RELU),
        Reshape(            (4, 4, 256)),
        Deconv(       5, 2, (8, 8, 128),   yes, RELU),
        Deconv(       5, 2, (16, 16, 64),  yes, RELU),
        Deconv(       5, 2, (32, 32, 3),   no,  TANH),
    ),
    encoder=(
        Conv(         5, 1, (32, 32, 64),  yes, LEAKY),
        MaxPool(      2,    (16, 16)),
        Conv(         5, 1, (16, 16, 128), yes, LEAKY),
        MaxPool(      2,    (8, 8)),
        Conv(         5, 1, (8, 8, 256),   yes, LEAKY),
        MaxPool(      2,    (4, 4)),
        Flatten(),
        FullyConnect(       128,           no,  SIGMOID),
    ),
    discriminator=(
        Conv(         5, 2, (16, 16, 64),  yes, LEAKY),
        Conv(         5, 2, (8, 8, 128),   yes, LEAKY),
        Conv(         5, 2, (4, 4, 256),   yes, LEAKY),
        Conv(         5, 2, (2, 2, 512),   yes, LEAKY),
        Flatten(),
        FullyConnect(       2,             no,  SOFTMAX),
    ),
    pair_images=(
        Flatten(),
        FullyConnect(       32 * 32,       yes, RELU),
        FullyConnect(       256,           yes, RELU),
        FullyConnect(       128,           no,  RELU),
    ),
    concat=256,
    pairs=(
        FullyConnect(       256,           no,  RELU),
        FullyConnect(       512,           yes, RELU),
        Dropout(0.1),
        FullyConnect(       1024,          yes, RELU),
        Dropout(0.1),
        FullyConnect(       512,           yes, RELU),
        Dropout(0.1),
        FullyConnect(       256,           yes, RELU),
        FullyConnect(       128,           yes, RELU),
        FullyConnect(       64,            yes, RELU),
        FullyConnect(       2,             no,  SOFTMAX),
    ),
)  # fmt: skip

CELEBA_CROP = LayerTables(  # Table 4.5: CelebA (with center crop)
    image=(64, 64, 3),
    latent_dim=64,
    generator=(
        FullyConnect(       4096,          yes, RELU),
        Reshape(            (4, 4, 256)),
        Deconv(       3, 2, (8, 8, 128),   yes, LEAKY),
        Deconv(       3, 2, (16, 16, 64),  yes, LEAKY),
        Deconv(       3, 2, (32, 32, 64),  yes, LEAKY),
        Deconv(       5, 2, (64, 64, 3),   no,  TANH),
    ),
    encoder=(
        Conv(         3, 1, (64, 64, 64),  yes, RELU),
        MaxPool(      2,    (32, 32)),
        Conv(         3, 1, (32, 32, 64),  yes, RELU),
        MaxPool(      2,    (16, 16)),
        Conv(         3, 1, (16, 16, 128), yes, RELU),
        MaxPool(      2,    (8, 8)),
        Conv(         3, 1, (8, 8, 256),   yes, RELU),
        MaxPool(      2,    (4, 4)),
        Flatten(),
        FullyConnect(       64,            no,  SIGMOID),
    ),
    discriminator=(
        Conv(         5, 2, (32, 32, 64),  yes, LEAKY),
        Conv(         5, 2, (16, 16, 64),  yes, LEAKY),
        Conv(         5, 2, (8, 8, 128),   yes, LEAKY),
        Conv(         5, 2, (4, 4, 256),   yes, LEAKY),
        Conv(         5, 2, (2, 2, 512),   yes, LEAKY),
        Flatten(),
        FullyConnect(       2,             no,  SOFTMAX),
    ),
    pair_images=(
        Conv(         5, 2, (32, 32, 64),  yes, LEAKY),
        Conv(         5, 2, (16, 16, 64),  yes, LEAKY),
        Conv(         5, 2, (8, 8, 128),   yes, LEAKY),
        FullyConnect(       64,            no,  LEAKY),
    ),
    concat=128,
    pairs=(
        FullyConnect(       256,           no,  RELU),
        FullyConnect(       128,           yes, RELU),
        FullyConnect(       64,            yes, RELU),
        FullyConnect(       2,             no,  SOFTMAX),
    ),
)  # fmt: skip

CELEBA = LayerTables(  # Table 4.6: CelebA (resized to 64x64)
    image=(64, 64, 3),
    latent_dim=128,
    generator=(
        FullyConnect(       4096,          yes, RELU),
        Reshape(            (4, 4, 256)),
        Deconv(       3, 2, (8, 8, 128),   yes, LEAKY),
        Deconv(       3, 2, (16, 16, 64),  yes, LEAKY),
        Deconv(       3, 2, (32, 32, 64),  yes, LEAKY),
        Deconv(       5, 2, (64, 64, 3),   no,  TANH),
    ),
    encoder=(
        Conv(         3, 1, (64, 64, 64),  yes, RELU),
        MaxPool(      2,    (32, 32)),
        Conv(         3, 1, (32, 32, 64),  yes, RELU),
        MaxPool(      2,    (16, 16)),
        Conv(         3, 1, (16, 16, 128), yes, RELU),
        MaxPool(      2,    (8, 8)),
        Conv(         3, 1, (8, 8, 256),   yes, RELU),
        MaxPool(      2,    (4, 4)),
        Flatten(),
        FullyConnect(       128,           no,  SIGMOID),
    ),
    discriminator=(
        Conv(         5, 2, (32, 32, 64),  yes, LEAKY),
        Conv(         5, 2, (16, 16, 64),  yes, LEAKY),
        Conv(         5, 2, (8, 8, 128),   yes, LEAKY),
        Conv(         5, 2, (4, 4, 256),   yes, LEAKY),
        Conv(         5, 2, (2, 2, 512),   yes, LEAKY),
        Flatten(),
        FullyConnect(       2,             no,  SOFTMAX),
    ),
    pair_images=(
        Conv(         5, 2, (32, 32, 64),  yes, LEAKY),
        Conv(         5, 2, (16, 16, 64),  yes, LEAKY),
        Conv(         5, 2, (8, 8, 128),   yes, LEAKY),
        FullyConnect(       128,           no,  LEAKY),
    ),
    concat=256,
    pairs=(
        FullyConnect(       256,           no,  RELU),
        FullyConnect(       128,           yes, RELU),
        FullyConnect(       64,            yes, RELU),
        FullyConnect(       2,             no,  SOFTMAX),
    ),
)  # fmt: skip

CARTOON = LayerTables(  # Table 4.7: Cartoon
    image=(64, 64, 3),
    latent_dim=128,
    generator=(
        FullyConnect(       4096,          yes, RELU),
        Reshape(            (4, 4, 256)),
        Deconv(       5, 2, (8, 8, 128),   yes, LEAKY),
        Deconv(       5, 2, (16, 16, 64),  yes, LEAKY),
        Deconv(       5, 2, (32, 32, 64),  yes, LEAKY),
        Deconv(       5, 2, (64, 64, 3),   no,  TANH),
    ),
    encoder=(
        Conv(         5, 1, (64, 64, 64),  yes, RELU),
        MaxPool(      2,    (32, 32)),
        Conv(         5, 1, (32, 32, 64),  yes, RELU),
        MaxPool(      2,    (16, 16)),
        Conv(         5, 1, (16, 16, 128), yes, RELU),
        MaxPool(      2,    (8, 8)),
        Conv(         3, 1, (8, 8, 256),   yes, RELU),
        MaxPool(      2,    (4, 4)),
        Flatten(),
        FullyConnect(       128,           no,  SIGMOID),
    ),
    discriminator=(
        Conv(         5, 2, (32, 32, 64),  yes, LEAKY),
        Conv(         5, 2, (16, 16, 64),  yes, LEAKY),
        Conv(         5, 2, (8, 8, 128),   yes, LEAKY),
        Conv(         5, 2, (4, 4, 256),   yes, LEAKY),
        Conv(         5, 2, (2, 2, 512),   yes, LEAKY),
        Flatten(),
        FullyConnect(       2,             no,  SOFTMAX),
    ),
    pair_images=(
        Conv(         5, 2, (32, 32, 64),  yes, LEAKY),
        Conv(         5, 2, (16, 16, 64),  yes, LEAKY),
        Conv(         5, 2, (8, 8, 128),   yes, LEAKY),
        FullyConnect(       128,           no,  LEAKY),
    ),
    concat=256,
    pairs=(
        FullyConnect(       256,           no,  RELU),
        FullyConnect(       128,           yes, RELU),
        FullyConnect(       64,            yes, RELU),
        FullyConnect(       2,             no,  SOFTMAX),
    ),
)  # fmt: skip


TableName = Literal["mnist", "svhn", "cifar10", "imagenet", "celeba_crop", "celeba", "cartoon"]

TABLES: dict[TableName, LayerTables] = {
    "mnist": MNIST,
    "svhn": SVHN,
    "cifar10": CIFAR10,
    "imagenet": IMAGENET,
    "celeba_crop": CELEBA_CROP,
    "celeba": CELEBA,
    "cartoon": CARTOON,
}
"""Tables 4.1 to 4.7, under the names of their data sets."""
