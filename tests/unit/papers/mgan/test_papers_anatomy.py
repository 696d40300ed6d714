"""The anatomy of features as a measurement."""

import copy
import json

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.testing import assert_close

from gan_lightning.data import Digits
from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import TensorImages, TunedProbe, estimate_batch_norm_statistics
from gan_lightning.evaluation.judges import choose
from gan_lightning.figures import Figure, metrics
from gan_lightning.interfaces import LinearHead
from gan_lightning.measurements import Bench, Outcome, Transfer
from gan_lightning.papers import GAN, MGAN, BiGAN, PermutationInvariantNetworks
from gan_lightning.papers.mgan.anatomy import Anatomy
from gan_lightning.papers.mgan.null_space import VarianceShares, head_matrix, row_space, variance_shares

CPU = torch.device("cpu")
QUICK = TunedProbe(strengths=(0.1,))
MLP = PermutationInvariantNetworks(latent_dim=6, width=16)
SHARES = {"row_share", "row_share_within", "row_share_between", "between_share_of_row", "between_share_of_null"}
ACCURACIES = {
    *("accuracy_whole", "accuracy_row", "accuracy_null"),
    *("accuracy_random_row", "accuracy_random_null", "chance"),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Let probes be fitted once instead of seven times: here it does not matter how good they are."""
    monkeypatch.setattr("gan_lightning.papers.mgan.anatomy.TUNED", QUICK)


def built(kind: type, *arguments: object, **settings: object) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(*arguments, **settings)


@pytest.fixture(scope="module")
def digits() -> Digits:
    return Digits(image_size=32, limit=80, batch_size=40, evaluation_batch_size=50)


@pytest.fixture(scope="module")
def mgan() -> MGAN:
    settings = {"base_width": 2, "feature_dim": 12, "generators": 3, "fake_batch_size": 6, "shares_removed": 2}
    return built(MGAN, 1, 32, **settings)


def whole(data: Digits) -> tuple[torch.Tensor, torch.Tensor]:
    return data.to_images(data.store("test").images), data.store("test").labels


def shares_of(network: nn.Module, head: LinearHead, data: Digits) -> VarianceShares:
    """Return the shares of the test images, computed from the images up."""
    images, labels = whole(data)
    with torch.no_grad():
        return variance_shares(row_space(head_matrix(head)), copy.deepcopy(network).eval()(images), labels)


def printed(outcome: Outcome) -> str:
    console = Console(width=200, markup=False)
    with console.capture() as captured:
        console.print(*outcome.tables)
    return captured.get()


def test_the_anatomy_of_every_head_is_measured_printed_and_drawn(mgan, digits):
    outcome = Bench.of_model(mgan, digits, epoch=3).measure(Anatomy())
    found, table = metrics(outcome.figures), printed(outcome)
    own = {f"{kind}/{metric}" for kind in ("real", "generated") for metric in SHARES} | {"rank_share"}
    assert set(found) <= {f"anatomy/{name}/{metric}" for name in mgan.heads() for metric in own}
    for name, network in mgan.extractors().items():
        expected, own = shares_of(network, mgan.heads()[name], digits), f"anatomy/{name}"
        assert_close(found[f"{own}/real/row_share"], expected.row.total, rtol=1e-4, atol=1e-7)
        assert_close(found[f"{own}/real/row_share_within"], expected.row_share("within"), rtol=1e-4, atol=1e-7)
        assert_close(found[f"{own}/real/between_share_of_null"], expected.between_share("null"), rtol=1e-4, atol=1e-7)
        assert f"{found[f'{own}/real/row_share']:.4f}" in table
    assert (found["anatomy/discriminator/rank_share"], found["anatomy/classifier/rank_share"]) == (1 / 12, 2 / 12)
    of_images = {(figure.condition, figure.split, figure.images, figure.epoch) for figure in outcome.figures}
    assert of_images == {("real", "test", 80, 3), ("generated", "", 501, 3), ("", "", None, 3)}  # 501: three generators
    # D's row space is that of its logit: another way to the same share.
    with torch.no_grad():
        eval_copy = copy.deepcopy(mgan).eval()
        logits, features = (f(whole(digits)[0]).double() for f in (eval_copy.discriminate, eval_copy.discriminator))
    own = logits.var() / mgan.discriminator_head.weight.double().square().sum() / features.var(dim=0).sum()
    assert_close(found["anatomy/discriminator/real/row_share"], own.item(), rtol=1e-4, atol=0)
    of_classifier = outcome.details["extractors"][1]
    assert (of_classifier["task"], of_classifier["rank"], of_classifier["outputs"]) == ("classification", 2, 3)
    assert set(of_classifier["generated"]["row_within_class"]) == {0, 1, 2}
    assert [each["theorem"] for each in outcome.details["predictions"]] == ["1", "2, 3"]
    json.dumps(outcome.details)
    assert "What Mao et al. 2022 predict" in table
    assert list(outcome.pictures) == [""]


def test_probes_read_what_the_transfer_evaluation_does_and_come_with_random_weights(mgan, digits):
    bench = Bench.of_model(mgan, digits)
    outcome = bench.measure(Anatomy(probes=True, generated=60, draws=1, seed=3))
    found = metrics(outcome.figures)
    transfer = metrics(bench.measure(Transfer(paper=None, tuned=QUICK, raw_pixels=False, seed=3)).figures)
    for name in ("discriminator", "classifier"):
        for weights, control in (("", ""), ("random_weights/", "random_weights/estimated_statistics/")):
            accuracy = found[f"anatomy/{name}/{weights}real/accuracy_whole"]
            assert accuracy == transfer[f"transfer/{name}/tuned/{control}accuracy"]
            assert_close(found[f"anatomy/{name}/{weights}generated/chance"], 1 / 3)
    assert {figure.images for figure in outcome.figures} == {80, 60, 120, None}
    assert [each["theorem"] for each in outcome.details["predictions"]] == [*["1"] * 5, *["2, 3"] * 2]
    assert all(each["random_weights"] is not None for each in outcome.details["predictions"])
    table = printed(outcome)
    for metric in ("generated/accuracy_row", "real_or_generated/accuracy_random_null"):
        assert f"{found[f'anatomy/classifier/random_weights/{metric}']:.4f}" in table
    assert "real or generated" in table
    # The control's head is that of the model built anew, and its batch norm has the training images' statistics.
    control = bench.control(3)
    fresh = copy.deepcopy(control.networks["classifier"])
    estimate_batch_norm_statistics(fresh, digits.evaluation_batches("train", CPU))
    expected = shares_of(fresh, control.heads["classifier"], digits)
    assert_close(found["anatomy/classifier/random_weights/real/row_share"], expected.row.total, rtol=1e-4, atol=0)


def test_batch_norm_may_have_the_statistics_of_the_training_images(mgan, digits):
    found = metrics(
        Bench.of_model(mgan, digits).measure(Anatomy(extractors=["discriminator"], batch_norm="real")).figures
    )
    assert not [name for name in found if "classifier" in name]
    estimated, head = copy.deepcopy(mgan.discriminator), mgan.heads()["discriminator"]
    estimate_batch_norm_statistics(estimated, digits.evaluation_batches("train", CPU))
    real, running = (shares_of(network, head, digits).row.total for network in (estimated, mgan.discriminator))
    assert_close(found["anatomy/discriminator/real/row_share"], real, rtol=1e-4, atol=0)
    assert abs(real - running) > 0.01 * real


# Models and data of one's own


class Own(nn.Module):
    """Has an extractor of six features, and a head or none."""

    def __init__(self, head: torch.Tensor | None, name: str = "mine") -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), built(nn.Linear, 64, 6))
        self.head, self.head_name = head, name

    def extractors(self) -> dict[str, nn.Module]:
        return {"mine": self.network}

    def heads(self) -> dict[str, LinearHead]:
        return {} if self.head is None else {self.head_name: LinearHead(self.head, "classification", softmax=True)}


class ThreeGreys(Own):
    """Has three generators, each of which makes images of a brightness of its own."""

    def generate(self, count: int, rng: torch.Generator | None = None) -> torch.Tensor:
        greys = torch.tensor([-0.5, 0.0, 0.5]).reshape(3, 1, 1, 1, 1)
        return greys + 0.001 * torch.rand(3, count, 1, 16, 16, generator=rng)


def noise(labels: torch.Tensor | None = None, count: int = 40, num_classes: int = 4) -> TensorImages:
    images = 2 * torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 1
    images[::2, :, :4] = 1  # so that means of classes differ
    own = torch.arange(count) % 4 if labels is None else labels
    return TensorImages("noise", train=(images, own), test=(0.9 * images, own), num_classes=num_classes, batch_size=16)


HEAD = torch.eye(3, 6)


def bench(head: torch.Tensor | None = HEAD, kind: type = Own, data: object = None, **settings: object) -> Bench:
    return Bench.of_model(kind(head), data or noise(), **settings)


@pytest.mark.parametrize(
    ("make", "subject", "task"),
    [(GAN, "discriminator", "discrimination"), (BiGAN, "encoder_hidden", "encoding")],
)
def test_models_of_one_generator_are_measured_without_classes_of_their_own(make, subject, task):
    outcome = Bench.of_model(built(make, 1, 8, MLP), noise()).measure(Anatomy(probes=True, generated=30, draws=1))
    assert [(each["extractor"], each["task"]) for each in outcome.details["extractors"]] == [(subject, task)] * 2
    own = {
        name.removeprefix(f"anatomy/{subject}/") for name in metrics(outcome.figures) if "random_weights" not in name
    }
    probed = {f"{kind}/{metric}" for kind in ("real", "real_or_generated") for metric in SHARES | ACCURACIES}
    assert own == probed | {"generated/row_share", "rank_share"}


def test_a_model_without_a_generator_that_cannot_be_built_anew_has_heads_that_point_anywhere_as_a_control():
    outcome = bench().measure(Anatomy(probes=True))
    assert {figure.condition for figure in outcome.figures} == {"real", ""}
    found = metrics(outcome.figures)
    assert found["anatomy/mine/real/row_share"] != found["anatomy/mine/random_weights/real/row_share"]
    assert [each["rank"] for each in outcome.details["extractors"]] == [2, 2]


def test_generated_images_belong_to_their_generators_and_have_the_datas_size():
    outcome = bench(kind=ThreeGreys).measure(Anatomy(images=450))
    found = metrics(outcome.figures)
    assert {figure.images for figure in outcome.figures if figure.condition == "generated"} == {450}
    assert found["anatomy/mine/generated/between_share_of_row"] > 0.99
    assert found["anatomy/mine/generated/between_share_of_null"] > 0.99


def test_the_images_are_those_that_a_choice_of_as_many_would_be():
    model, data = Own(HEAD), noise()
    found = metrics(Bench.of_model(model, data).measure(Anatomy(images=15, seed=4)).figures)
    chosen = choose(data.evaluation_batches("test", CPU), 15, 4)
    images, labels = (torch.cat(parts) for parts in zip(*chosen, strict=True))
    shares = variance_shares(row_space(head_matrix(model.heads()["mine"])), model.network(images).detach(), labels)
    assert_close(found["anatomy/mine/real/row_share_between"], shares.row_share("between"), rtol=1e-4, atol=1e-6)
    other = metrics(Bench.of_model(model, data).measure(Anatomy(images=15, seed=5)).figures)
    assert other["anatomy/mine/real/row_share"] != found["anatomy/mine/real/row_share"]


def test_data_without_labels_have_shares_of_all_variance():
    outcome = bench(data=noise(torch.full((40,), -1))).measure(Anatomy())
    assert set(metrics(outcome.figures)) == {"anatomy/mine/real/row_share", "anatomy/mine/rank_share"}


def test_settings_reach_the_measurement():
    outcome = bench(torch.diag(torch.tensor([1.0, 1.0, 0.05, 0, 0, 0]))).measure(Anatomy(tolerance=0.1))
    assert outcome.details["extractors"][0]["rank"] == 2


def test_weights_of_half_precision_are_measured():
    found = metrics(Bench.of_model(ThreeGreys(HEAD).bfloat16(), noise()).measure(Anatomy(images=30)).figures)
    whole = metrics(bench(kind=ThreeGreys).measure(Anatomy(images=30)).figures)
    assert_close(found["anatomy/mine/real/row_share"], whole["anatomy/mine/real/row_share"], rtol=0.05, atol=0)


# While training


def attributes() -> TensorImages:
    return noise(nn.functional.one_hot(torch.arange(40) % 4)[:, :3], num_classes=3)


@pytest.mark.parametrize(
    ("kind", "data", "probes"),
    [
        (ThreeGreys, noise, True),
        (Own, attributes, True),
        (Own, attributes, False),
        (lambda head: built(GAN, 1, 8, MLP), noise, True),
    ],
)
def test_while_training_the_figures_are_those_that_were_announced(kind, data, probes):
    training = Bench.of_model(kind(HEAD), data(), controls=False)
    anatomy = Anatomy(every_n_epochs=1, probes=probes, generated=60, draws=int(kind is ThreeGreys))
    announced = anatomy.metrics(training)
    outcome = training.measure(anatomy)
    found = metrics(outcome.figures)
    # Where all means differ by chance alone, there is no variance between them to share.
    assert {name.rpartition("/")[2] for name in announced.keys() - found.keys()} <= {"row_share_between"}
    assert found.keys() <= announced.keys()
    assert {name for name, best in announced.items() if best == "max"} == {name for name in found if "accuracy" in name}
    assert not outcome.pictures
    assert not outcome.tables


def test_figures_of_earlier_epochs_are_drawn_as_curves():
    earlier = [
        Figure(measurement="anatomy", subject="mine", condition="real", metric="row_share", value=value, epoch=epoch)
        for epoch, value in ((1, 0.2), (2, 0.4), (6, 0.9))
    ]
    alone, with_curves, again = (
        bench(epoch=6, history=history).measure(Anatomy()).pictures[""] for history in ([], earlier, earlier[:2])
    )
    assert with_curves.shape[1] > alone.shape[1]
    assert_close(with_curves, again, rtol=0, atol=0)  # what is measured now counts for its epoch


# Bad input


def test_what_has_no_head_or_no_images_is_passed_over():
    assert "heads()" in Anatomy().passes_over(bench(None))
    assert "a data set that declares its images" in Anatomy().passes_over(Bench.of_model(Own(HEAD), None))
    assert Anatomy().passes_over(bench()) is None


def test_an_extractor_without_a_head_is_refused_by_name():
    message = r"extractors must name extractors .* got \['encoder'\]\. Choose from \['encoder_hidden'\]"
    with pytest.raises(SettingError, match=message):
        Bench.of_model(built(BiGAN, 1, 8, MLP), noise()).measure(Anatomy(extractors=["encoder", "encoder_hidden"]))


@pytest.mark.parametrize("setting", [{"extractors": ["mine"]}, {"probes": True}, {"every_n_epochs": 1}])
def test_asking_for_the_anatomy_of_a_model_without_heads_is_refused(setting):
    (name,) = setting
    message = rf"{name} asks for the anatomy of extractors, none of which has a head: declare .* leave out"
    with pytest.raises(SettingError, match=message):
        bench(None).measure(Anatomy(**setting))


def test_a_head_that_does_not_take_its_extractors_features_is_refused_before_anything_is_measured():
    own = bench(torch.ones(1, 5))
    with pytest.raises(SettingError, match=r"head of the extractor 'mine' must take its 6 features, got .* \(1, 5\)\."):
        Anatomy().check(own)
    with pytest.raises(SettingError, match=r"heads must be named like networks, got \['yours'\]"):
        Bench.of_model(Own(torch.ones(1, 6), "yours"), noise())


def test_probes_need_images_with_labels():
    with pytest.raises(DataError, match=r"no train image of noise has one.*set its `enabled` to false"):
        bench(data=noise(torch.full((40,), -1))).measure(Anatomy(probes=True))
    with pytest.raises(DataError, match=r"data module that declares its images, got none.*set its `enabled` to false"):
        Bench.of_model(Own(HEAD), None).measure(Anatomy(every_n_epochs=1))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"images": 1}, r"images must be at least 2, got 1"),
        ({"generated": 1}, r"generated must be at least 2, got 1"),
        ({"draws": -1}, r"draws must be at least 0, got -1"),
        ({"tolerance": 1.5}, r"tolerance must be at least 0 and below 1, .* got 1\.5"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises(SettingError, match=message):
        Anatomy(**settings)
