"""The layouts of the tables in docs/results: which figures stand in which column, in the words of `tables.Layout`."""

from benchmarks.results.tables import Layout

_D, _C = "transfer/discriminator/{protocol}", "transfer/classifier/{protocol}"
_DIFFERENCE = "transfer/classifier - discriminator/{protocol}/accuracy"
_NEAREST = "transfer/{subject}/nearest"

_USES = {
    "similarity: ROC AUC by codes": "similarity/codes/roc_auc .3",
    "by angle": "similarity/centred_codes_by_angle/roc_auc .3",
    "by neighbourhoods": "similarity/neighbourhoods/roc_auc .3",
    "by raw pixels": "similarity/pixels/roc_auc .3",
    "nearest image is of the same class: by codes": "embedding/codes/same_class_as_the_nearest .3",
    "in the plane of t-SNE": "embedding/plane/same_class_as_the_nearest .3",
    "by pixels": "embedding/pixels/same_class_as_the_nearest .3",
    "feeding: distance moved in round 1": "feeding/moved@1 .1",
    "in round 2": "feeding/moved@2 .1",
    "in round 5": "feeding/moved@5 .1",
    "in round 10": "feeding/moved@10 .3",
    "variations at noise 0.3: diversity": "variations/noise-0.3/diversity .2",
    "fidelity": "variations/noise-0.3/fidelity .3",
}
"""What codes are worth: similarity, t-SNE, iterative feeding and variations."""


def _anatomy(extractor: str) -> dict[str, str]:
    of = f"anatomy/{extractor}/{{weights}}"
    return {
        "n": f"n: {of}real/row_share",
        "f_row's share of the variance": f"{of}real/row_share .3",
        "a random subspace's": f"{of}rank_share .3",
        "probe on f": f"{of}real/accuracy_whole .3",
        "on f_row": f"{of}real/accuracy_row .3",
        "on f_null": f"{of}real/accuracy_null .3",
    }


_HARMS = ("clean", "noise", "blur", "occlusion")
_TOLD = "anatomy/{subject}/{weights}real_or_generated"
_TOGETHER = "together/discriminator+classifier/tuned"
_DEPTH = "imagenet_frozen/encoder"
_VOC = "voc_classification/encoder"
_MAP = "mean_average_precision"

LAYOUTS = {
    "sharing": Layout(
        {
            "D": f"{_D}/accuracy",
            "C": f"{_C}/accuracy",
            "n": f"n: {_D}/accuracy",
            "C - D": _DIFFERENCE,
            "p": f"p: {_DIFFERENCE}",
            "paper's D": f"paper: {_D}/accuracy",
            "paper's C": f"paper: {_C}/accuracy",
            "paper's C - D": f"paper: {_DIFFERENCE}",
            "random weights, D": f"{_D}/random_weights/accuracy",
            "random weights, C": f"{_C}/random_weights/accuracy",
            "raw pixels": "transfer/pixels/{protocol}/accuracy",
        },
        "transfer/", ("protocol",), ("probe",), {"protocol": ["paper", "tuned", "nearest"]},
    ),
    "targets": Layout(
        {
            "D": "transfer/discriminator/{protocol}/{under}accuracy",
            "C": "transfer/classifier/{protocol}/{under}accuracy",
            "n": "n: transfer/discriminator/{protocol}/{under}accuracy",
            "C - D": "transfer/classifier - discriminator/{protocol}/{under}accuracy",
            "p": "p: transfer/classifier - discriminator/{protocol}/{under}accuracy",
            "random weights, D": "transfer/discriminator/{protocol}/random_weights/{under}accuracy",
            "random weights, C": "transfer/classifier/{protocol}/random_weights/{under}accuracy",
            "raw pixels": "transfer/pixels/{protocol}/{under}accuracy",
            "chance": "transfer/chance/{under}accuracy",
        },
        "transfer/", ("condition", "protocol"), ("data set", "probe"),
        {
            "condition": ["", "digits", "mnist", "cifar10", "tiny-imagenet-20", "imagenette-224"],
            "protocol": ["paper", "tuned", "nearest"],
        },
    ),
    "quality": Layout(
        {
            "n": "n: quality/*/fid",
            "FID": "quality/*/fid .3",
            "KID": "quality/*/kid .4",
            "precision": "quality/*/precision",
            "recall": "quality/*/recall",
            "density": "quality/*/density",
            "coverage": "quality/*/coverage",
            "entropy of the classes, nats": "quality/*/class_entropy",
        },
        digits=3,
    ),
    "quality_in_brief": Layout(
        {
            "n": "n: quality/*/fid",
            "FID": "quality/*/fid .1",
            "entropy of the classes, nats": "quality/*/class_entropy .2",
            "rank correlation of FID with accuracy: D": "quality/discriminator/tuned/rank_correlation_of_fid .2",
            "C": "quality/classifier/tuned/rank_correlation_of_fid .2",
        },
    ),
    "quality_and_features": Layout(
        {
            "n": "n: quality/*/fid@{epoch}",
            "FID": "quality/*/fid@{epoch} .2",
            "D, paper's probe": "transfer/discriminator/paper/accuracy@{epoch}",
            "C, paper's probe": "transfer/classifier/paper/accuracy@{epoch}",
            "D, tuned probe": "transfer/discriminator/tuned/accuracy@{epoch}",
            "C, tuned probe": "transfer/classifier/tuned/accuracy@{epoch}",
        },
        "quality/", ("epoch",), ("epoch",),
    ),
    "anatomy_of_d": Layout(_anatomy("discriminator"), "anatomy/discriminator/", ("weights",), ("weights",)),
    "anatomy_of_c": Layout(
        {
            **_anatomy("classifier"),
            "naming the generator from f_row": "anatomy/classifier/{weights}generated/accuracy_row .3",
            "from f_null": "anatomy/classifier/{weights}generated/accuracy_null .3",
        },
        "anatomy/classifier/", ("weights",), ("weights",),
    ),
    "row_share_over_training": Layout(
        {str(epoch): f"anatomy/discriminator/real/row_share@{epoch} .3" for epoch in (20, 40, 60, 80, 100)},
    ),
    "real_or_generated": Layout(
        {
            "n": f"n: {_TOLD}/accuracy_whole",
            "by f": f"{_TOLD}/accuracy_whole",
            "by f_row": f"{_TOLD}/accuracy_row",
            "by a random subspace": f"{_TOLD}/accuracy_random_row",
            "by f_null": f"{_TOLD}/accuracy_null",
            "by f without the random subspace": f"{_TOLD}/accuracy_random_null",
        },
        "anatomy/", ("subject", "weights"), ("features", "weights"), digits=3,
    ),
    "robustness": Layout(
        {
            "n": "n: robustness/{subject}/tuned/{weights}clean/accuracy",
            **{x: f"robustness/{{subject}}/tuned/{{weights}}{x}/accuracy" for x in _HARMS},
        },
        "robustness/", ("subject", "weights"), ("features", "weights"), digits=3,
    ),
    "together": Layout(
        {
            "n": "n: together/classifier/tuned/accuracy",
            "D": "together/discriminator/tuned/accuracy",
            "C": "together/classifier/tuned/accuracy",
            "D and C": f"{_TOGETHER}/accuracy",
            "C with a D of random weights": f"{_TOGETHER}/random_weights/discriminator/accuracy",
            "what training adds to that": f"{_TOGETHER}/random_weights/discriminator/gain",
        },
        digits=3,
    ),
    "rates": Layout(
        {
            "n": f"n: {_D}/accuracy",
            "accuracy": f"{_D}/accuracy",
            "less that at 0.0002": f"less: {_D}/accuracy",
            "p": f"p_less: {_D}/accuracy",
            "random weights": f"{_D}/random_weights/accuracy",
            "raw pixels": "transfer/pixels/{protocol}/accuracy",
        },
        "transfer/", ("protocol",), ("probe",), {"protocol": ["paper", "tuned"]}, {"discriminator_lr": 0.0002},
    ),
    "verdicts": Layout(
        {
            "n": "n: verdicts/gap",
            "mean, real test images": "verdicts/real/mean",
            "spread between them": "verdicts/real/spread",
            "mean, generated images": "verdicts/generated/mean",
            "spread between those": "verdicts/generated/spread",
            "gap of the means": "verdicts/gap",
        },
        digits=2,
    ),
    "density_ratio": Layout(
        {
            "n": "n: density_ratio/distance",
            "root mean square of log α": "density_ratio/distance",
            "spread": "density_ratio/spread",
            "5% quantile": "density_ratio/q05",
            "95% quantile": "density_ratio/q95",
            "correlation with the check before": "density_ratio/correlation",
        },
        digits=2,
    ),
    "alarm": Layout(
        {
            "fell": "count: density_ratio/fell",
            "alarm": "count: density_ratio/alarm",
            "false": "count: density_ratio/false",
            "missed": "count: density_ratio/missed",
            "alarms without a fall": "count: density_ratio/without_a_fall",
            "median lead, steps": "density_ratio/median/lead .0",
            "leads, steps": "density_ratio/range/lead .0",
        },
    ),
    "false_alarms": Layout(
        {
            "checks of a run": "density_ratio/checks .0",
            "runs with a false alarm, one check": "count: density_ratio/one_check/false",
            "two checks in a row": "count: density_ratio/two_checks/false",
        },
    ),
    "nearest": Layout(
        {
            "ours": f"{_NEAREST}/accuracy",
            "n": f"n: {_NEAREST}/accuracy",
            "paper (400 epochs)": f"paper: {_NEAREST}/accuracy",
            "random weights": f"{_NEAREST}/random_weights/accuracy",
            "margin": f"margin: {_NEAREST}/accuracy",
            "raw pixels": "transfer/pixels/nearest/accuracy",
        },
        "transfer/", ("subject",), ("features",), {"subject": ["encoder_hidden", "encoder", "discriminator"]},
    ),
    "differences": Layout(
        {
            "n": f"n: {_NEAREST}/accuracy",
            "1NN": f"{_NEAREST}/accuracy",
            "less the text's": f"less: {_NEAREST}/accuracy",
            "p": f"p_less: {_NEAREST}/accuracy",
            "random weights": f"{_NEAREST}/random_weights/accuracy",
            "raw pixels": "transfer/pixels/nearest/accuracy",
        },
        "transfer/", ("subject",), ("features",), {"subject": ["encoder_hidden", "encoder"]},
        than={"difference": "none: the paper's text"},
    ),
    "reconstruction": Layout(
        {
            "n": "n: reconstruction/image/distance",
            "saturated outputs of E": "train/saturated",
            "‖x - G(E(x))‖": "reconstruction/image/distance",
            "to another image": "reconstruction/image/distance_to_another",
            "share": "reconstruction/image/share",
            "‖z - E(G(z))‖": "reconstruction/latent/distance",
            "to another latent": "reconstruction/latent/distance_to_another",
            "share of that": "reconstruction/latent/share",
            "‖G(z) - G(E(G(z)))‖": "reconstruction/generated/distance",
            "to another generated image": "reconstruction/generated/distance_to_another",
            "class kept": "kept_class/reconstructions/share",
        },
        digits=2,
    ),
    "gradients": Layout(
        {
            "n": "n: subproblem/gradient_angle",
            "checks": "subproblem/checks .0",
            "gradient ratio": "subproblem/gradient_ratio .5",
            "angle, degrees": "subproblem/gradient_angle .2",
            "G's loss": "train/generator_loss .2",
            "D's loss": "train/discriminator_loss .2",
        },
    ),
    "updates": Layout(
        {
            "n": "n: quality/*/fid",
            "FID": "quality/*/fid .1",
            "FID - direct's": "less: quality/*/fid .1",
            "p": "p_less: quality/*/fid",
            "coverage": "quality/*/coverage .2",
            "precision": "quality/*/precision .2",
            "entropy of the classes, nats": "quality/*/class_entropy .2",
        },
        than={"update": "direct, Fig. 2 (a)"},
    ),
    "toy": Layout(
        {
            "n": "n: toy/mean_error",
            "mean's error": "toy/mean_error .4",
            "covariance's error": "toy/covariance_error .4",
            "variance along the means' difference": "toy/variance_along .3",
            "variance across it": "toy/variance_across .3",
        },
    ),
    "inductive_bias": Layout(
        {
            "n": "n: subproblem/trace",
            "trace / d": "subproblem/trace .2",
            "effective rank / d": "subproblem/effective_rank .3",
            "distance from the identity": "subproblem/distance_from_identity .1",
            "distance from its multiples": "subproblem/distance_from_multiples .3",
        },
    ),
    "inductive_bias_over_training": Layout(
        {
            "trace / d": "subproblem/trace@{epoch} .0",
            "effective rank / d": "subproblem/effective_rank@{epoch} .3",
        },
        "subproblem/", ("epoch",), ("epoch",),
    ),
    "applications": Layout(
        {
            "n": "n: transfer/encoder/tuned/accuracy",
            "‖x - G(E(x))‖": "reconstruction/image/distance .2",
            "the same to another image's reconstruction": "reconstruction/image/distance_to_another .2",
            "‖z - E(G(z))‖": "reconstruction/latent/distance .2",
            "the same to another latent's": "reconstruction/latent/distance_to_another .2",
            "tuned probe on E(x) before its sigmoid": "transfer/encoder/tuned/accuracy",
            "random weights": "transfer/encoder/tuned/random_weights/accuracy",
            "tuned probe on the layer before it": "transfer/encoder_hidden/tuned/accuracy",
            "random weights of that": "transfer/encoder_hidden/tuned/random_weights/accuracy",
            "tuned probe on D1": "transfer/discriminator/tuned/accuracy",
            "random weights of D1": "transfer/discriminator/tuned/random_weights/accuracy",
            "tuned probe on raw pixels": "transfer/pixels/tuned/accuracy",
            **_USES,
            "matching loss at the end, nats": "train/matching_loss .1",
        },
        turned=True,
    ),
    "reconstruction_by_adam": Layout(
        {
            "n": "n: reconstruction/image/share",
            "saturated outputs of E": "train/saturated .3",
            "matching loss, nats": "train/matching_loss .3",
            "‖x - G(E(x))‖": "reconstruction/image/distance .2",
            "share of another image's": "reconstruction/image/share .3",
            "less the thesis'": "less: reconstruction/image/share .3",
            "p": "p_less: reconstruction/image/share",
            "class kept": "kept_class/reconstructions/share .3",
            "share of another latent's": "reconstruction/latent/share .3",
        },
        than={"betas": "[0.9, 0.99]"},
    ),
    "probes_by_adam": Layout(
        {
            "n": "n: transfer/{subject}/tuned/accuracy",
            "tuned probe": "transfer/{subject}/tuned/accuracy",
            "random weights, fresh statistics": "transfer/{subject}/tuned/random_weights/fresh_statistics/accuracy",
            "estimated statistics": "transfer/{subject}/tuned/random_weights/estimated_statistics/accuracy",
            "raw pixels": "transfer/pixels/tuned/accuracy",
        },
        "transfer/", ("subject",), ("features",), {"subject": ["encoder", "encoder_hidden", "discriminator"]},
    ),
    "frozen_depth": Layout(
        {
            "n": f"n: {_DEPTH}/conv1/accuracy",
            **{
                f"frozen up to conv{depth}, {weights}": f"{_DEPTH}/{part}conv{depth}/accuracy"
                for depth in range(1, 6)
                for weights, part in (
                    ("trained", ""), ("random weights", "random_weights/"), ("k-means", "random_weights/kmeans/"),
                )
            },
            "nothing frozen, random weights": f"{_DEPTH}/random_weights/scratch/accuracy",
        },
        digits=3, turned=True,
    ),
    "table_3": Layout(
        {
            "n": f"n: {_VOC}/fc8/{_MAP}",
            **{
                f"{task}, convolutions {weights}": figure.format(part)
                for task, figure in (
                    ("classification, fc8 trained", f"{_VOC}/fc8/{{}}{_MAP}"),
                    ("classification, fc6 to fc8 trained", f"{_VOC}/fc6-8/{{}}{_MAP}"),
                    ("detection", f"voc_detection/encoder/{{}}{_MAP}"),
                    ("segmentation", "voc_segmentation/encoder/{}mean_iou"),
                )
                for weights, part in (
                    ("of BiGAN's E", ""), ("random", "random_weights/"), ("of k-means", "random_weights/kmeans/"),
                )
            },
            "detection, all from scratch": f"voc_detection/encoder/random_weights/scratch/{_MAP}",
        },
        digits=3, turned=True,
    ),
    "today": Layout(
        {
            "D": f"{_D}/accuracy",
            "random weights, D": f"{_D}/random_weights/accuracy",
            "C": f"{_C}/accuracy",
            "random weights, C": f"{_C}/random_weights/accuracy",
            "n": f"n: {_D}/accuracy",
            "raw pixels": "transfer/pixels/{protocol}/accuracy",
        },
        "transfer/", ("protocol",), ("probe",),
        {"protocol": ["paper", "tuned", "nearest", "weighted_neighbours", "few_shot", "many_rates"]}, digits=3,
    ),
    "attentive": Layout(
        {
            f"{name}, {weights}": f"attentive/{subject}/{{protocol}}/{part}accuracy"
            for name, subject in (("D", "discriminator"), ("C", "classifier"))
            for weights, part in (("trained", ""), ("random weights", "random_weights/"))
        },
        "attentive/", ("protocol",), ("pooling",), digits=3,
    ),
    "spectrum": Layout(
        {
            "effective rank": "spectrum/{subject}/effective_rank .1",
            "random weights, fresh": "spectrum/{subject}/random_weights/fresh_statistics/effective_rank .1",
            "estimated": "spectrum/{subject}/random_weights/estimated_statistics/effective_rank .1",
            "exponent": "spectrum/{subject}/exponent .2",
            "exponent, random weights, fresh": "spectrum/{subject}/random_weights/fresh_statistics/exponent .2",
            "exponent, estimated": "spectrum/{subject}/random_weights/estimated_statistics/exponent .2",
        },
        "spectrum/", ("subject",), ("features",),
    ),
    "cka": Layout(
        {
            "D and C, debiased": "cka/discriminator+classifier/{condition}/debiased",
            "both with random weights": "cka/discriminator+classifier/random_weights/{condition}/debiased",
            "D and C, by definition": "cka/discriminator+classifier/{condition}/linear",
            "random weights, by definition": "cka/discriminator+classifier/random_weights/{condition}/linear",
        },
        "cka/", ("condition",), ("layer",), digits=3,
    ),
    "layers": Layout(
        {
            "tuned probe": "layers/{subject}/tuned/{condition}/accuracy",
            "random weights": "layers/{subject}/tuned/random_weights/{condition}/accuracy",
            "raw pixels": "layers/pixels/tuned/accuracy",
        },
        "layers/", ("subject", "condition"), ("network", "layer"),
        {"subject": ["discriminator", "classifier", "shufflenet_v2_x0_5"]}, digits=3,
    ),
    "uses_of_codes": Layout({"n": "n: similarity/codes/roc_auc", **_USES}, turned=True),
    "synthetic_data": Layout(
        {
            "n": "n: synthetic_data/synthetic/{condition}/accuracy",
            "trained on real images": "synthetic_data/real/{condition}/accuracy",
            "on synthetic ones": "synthetic_data/synthetic/{condition}/accuracy",
            "on both": "synthetic_data/both/{condition}/accuracy",
        },
        "synthetic_data/", ("condition",), ("labels",), digits=3,
    ),
}  # fmt: skip
