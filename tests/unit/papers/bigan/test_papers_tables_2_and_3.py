"""What the paper prints of networks of ImageNet, beside what is measured of ours."""

import torch

from gan_lightning.evaluation import DepthProtocol, TensorImages
from gan_lightning.figures import metrics
from gan_lightning.measurements import Bench, FrozenDepth, VocClassification, VocDetection, VocSegmentation
from gan_lightning.papers import GAN, Autoencoder, BiGAN, ImageNetworks, LatentRegressor
from gan_lightning.papers.bigan.tables_2_and_3 import TABLE_2, TABLE_3

NETWORKS = ImageNetworks(latent_dim=3, base_width=2, encoder_width=6)


def test_table_2_stands_beside_every_figure_of_bigans_encoder_and_of_random_weights():
    model = BiGAN(1, 64, NETWORKS)
    printed = {name: cell for name, cell in model.published_figures("imagenet").items() if "voc_" not in name}
    rng = torch.Generator().manual_seed(0)
    split = torch.rand(8, 1, 64, 64, generator=rng), torch.arange(8) % 2
    data = TensorImages("imagenet", train=split, test=split, num_classes=2, batch_size=4)
    settings = FrozenDepth(protocol=DepthProtocol(epochs=1, batch_size=8, width=4), controls=["random"])
    outcome = Bench.of_model(model, data).measure(settings)
    assert metrics(outcome.figures).keys() == printed.keys()
    assert [cell.value for name, cell in printed.items() if "random" not in name] == list(TABLE_2["BiGAN"])
    assert printed["imagenet_frozen/encoder/random_weights/conv5/accuracy"].value == 0.12


def test_a_larger_encoder_has_a_row_of_its_own_and_other_data_have_none():
    larger = BiGAN(1, 112, NETWORKS).published_figures("imagenet")
    assert larger["imagenet_frozen/encoder/conv5/accuracy"].value == 0.348
    assert larger["voc_detection/encoder/mean_average_precision"].value == 0.469
    other_size = BiGAN(1, 80, NETWORKS).published_figures("imagenet")
    assert all("/random_weights/" in name for name in other_size)
    assert BiGAN(1, 64, NETWORKS).published_figures("tiny-imagenet-20") == {}


def test_the_printed_order_of_the_claims_holds():
    assert all(len(row) == 5 for table in (TABLE_2, TABLE_3) for row in table.values())
    for row in ("D", "LR", "JLR", "AE l2"):  # section 4.4: BiGAN is ahead, and further ahead at 112x112
        pairs = zip(TABLE_3[row][:3], TABLE_3["BiGAN"][:3], TABLE_3["BiGAN, 112"][:3], strict=True)
        assert all(theirs < ours < larger for theirs, ours, larger in pairs)


def test_table_3_stands_beside_every_figure_on_voc():
    printed = BiGAN(1, 64, NETWORKS).published_figures("imagenet")
    own = [cell.value for name, cell in printed.items() if name.startswith("voc_") and "random" not in name]
    assert own == list(TABLE_3["BiGAN"])
    kmeans = [cell.value for name, cell in printed.items() if name.startswith("voc_") and "/kmeans/" in name]
    assert kmeans == list(TABLE_3["k-means (Krähenbühl et al., 2016)"])
    measurements = {name.split("/")[0] for name in printed}
    assert measurements == {"imagenet_frozen", "voc_classification", "voc_detection", "voc_segmentation"}
    bench = Bench(BiGAN(1, 64, NETWORKS).extractors(), None)
    ours = [each.metrics(bench).keys() for each in (VocClassification(), VocDetection(), VocSegmentation())]
    names = [name for name in printed if name.startswith("voc_") and "random" not in name]
    assert sorted(name for each in ours for name in printed.keys() & each) == sorted(names)


def test_the_baselines_have_their_rows_of_table_3():
    models = {"D": GAN(1, 64, NETWORKS), "LR": LatentRegressor(1, 64, NETWORKS, joint_weight=0.0)}
    models |= {"JLR": LatentRegressor(1, 64, NETWORKS, joint_weight=0.25), "AE l2": Autoencoder(1, 64, NETWORKS)}
    for row, model in models.items():
        (extractor, *_) = model.extractors()
        found = model.published_figures("imagenet")
        assert found[f"voc_classification/{extractor}/fc8/mean_average_precision"].value == TABLE_3[row][0]
        assert (f"voc_detection/{extractor}/mean_average_precision" in found) == (TABLE_3[row][3] is not None)
        assert model.published_figures("digits") == {}
