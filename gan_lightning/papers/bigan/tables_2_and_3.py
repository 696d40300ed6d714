"""The printed Tables 2 and 3: what networks of ImageNet are worth for other tasks.

Source:
    Donahue et al. 2017, *Adversarial Feature Learning*, Tables 2 and 3; one seed each.
"""

from collections.abc import Mapping

from gan_lightning.interfaces import PublishedFigure

TABLE_2 = {  # top-1 accuracy on ImageNet with conv1, conv1 to conv2, ..., conv1 to conv5 frozen
    "Random (Noroozi & Favaro, 2016)": (0.485, 0.410, 0.348, 0.271, 0.120),
    "Wang & Gupta (2015)":             (0.518, 0.469, 0.428, 0.388, 0.298),
    "Doersch et al. (2015)":           (0.531, 0.476, 0.487, 0.456, 0.304),
    "Noroozi & Favaro (2016)":         (0.571, 0.560, 0.524, 0.483, 0.381),  # of larger maps, "not directly comparable"
    "BiGAN":                           (0.562, 0.544, 0.494, 0.439, 0.333),
    "BiGAN, 112":                      (0.553, 0.532, 0.493, 0.444, 0.348),
}  # fmt: skip

TABLE_3 = {  # VOC: classification (mAP) with fc8, fc6 to fc8, or all trained; detection (mAP); segmentation (mIU)
    "ImageNet (Krizhevsky et al., 2012)":  (0.770, 0.788, 0.783, 0.568, 0.480),
    "Agrawal et al. (2015)":               (0.312, 0.310, 0.542, 0.439, None),
    "Pathak et al. (2016)":                (0.305, 0.346, 0.565, 0.445, 0.300),
    "Wang & Gupta (2015)":                 (0.284, 0.556, 0.631, 0.474, None),
    "Doersch et al. (2015)":               (0.447, 0.551, 0.653, 0.511, None),
    "k-means (Krähenbühl et al., 2016)":   (0.320, 0.392, 0.566, 0.456, 0.326),
    "D":                                   (0.307, 0.405, 0.564, None,  None),
    "LR":                                  (0.369, 0.479, 0.571, None,  None),
    "JLR":                                 (0.371, 0.479, 0.565, None,  None),
    "AE l2":                               (0.248, 0.160, 0.538, 0.419, None),
    "BiGAN":                               (0.375, 0.487, 0.589, 0.462, 0.349),
    "BiGAN, 112":                          (0.407, 0.523, 0.601, 0.469, 0.352),
}  # fmt: skip

ROWS = {64: "BiGAN", 112: "BiGAN, 112"}
"""Rows of BiGAN, by the edge of its encoder's images in pixels."""


def printed_in_table_2(data: str, image_size: int) -> Mapping[str, PublishedFigure]:
    """Return the accuracies of BiGAN's encoder and of random weights, by the names of our figures.

    Args:
        data: The data set's `name`; none are printed for others than "imagenet".
        image_size: Edge of the encoder's images, pixels. For others than 64 and 112 only random weights are printed.
    """
    if data != "imagenet":
        return {}
    rows = {"encoder/random_weights": "Random (Noroozi & Favaro, 2016)"}
    if image_size in ROWS:
        rows["encoder"] = ROWS[image_size]
    return {
        f"imagenet_frozen/{subject}/conv{number}/accuracy": PublishedFigure(accuracy, "Donahue et al. 2017, Table 2")
        for subject, row in rows.items()
        for number, accuracy in enumerate(TABLE_2[row], start=1)
    }


COLUMNS = (
    *("voc_classification/{}/fc8/{}mean_average_precision", "voc_classification/{}/fc6-8/{}mean_average_precision"),
    *("voc_classification/{}/all/{}mean_average_precision", "voc_detection/{}/{}mean_average_precision"),
    "voc_segmentation/{}/{}mean_iou",
)
"""Names of our figures in Table 3's columns, for an extractor and a kind of weights."""


def printed_in_table_3(data: str, row: str | None, extractor: str) -> Mapping[str, PublishedFigure]:
    """Return a network's figures on VOC and those of k-means, by the names of our figures.

    Args:
        data: The data set's `name`; none are printed for others than "imagenet".
        row: Of `TABLE_3`; for None only k-means is printed.
        extractor: Name of the network.
    """
    if data != "imagenet":
        return {}
    rows = {"random_weights/kmeans/": TABLE_3["k-means (Krähenbühl et al., 2016)"]}
    if row is not None:
        rows[""] = TABLE_3[row]
    return {
        column.format(extractor, weights): PublishedFigure(value, "Donahue et al. 2017, Table 3")
        for weights, values in rows.items()
        for column, value in zip(COLUMNS, values, strict=True)
        if value is not None
    }
