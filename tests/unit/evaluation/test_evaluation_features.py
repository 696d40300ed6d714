import copy

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import (
    RawPixels,
    TensorBatches,
    TensorImages,
    estimate_batch_norm_statistics,
    extract_features,
    frozen,
    reconstruction_statistics,
)
from gan_lightning.interfaces import ImageBatches, LabelledImages


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.LeakyReLU(0.2), nn.Conv2d(3, 2, 3), nn.BatchNorm2d(2)
    )


def batches(count: int = 10, batch_size: int = 4) -> TensorBatches:
    rng = torch.Generator().manual_seed(1)
    images = torch.rand(count, 1, 6, 6, generator=rng) * 2 - 1
    return TensorBatches(images, torch.arange(count) % 3, batch_size)


class Counter(nn.Module):
    """Changes a buffer in every forward pass, in whichever mode it is."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, images):
        self.calls += 1
        return images.flatten(1)


class Replacer(nn.Module):
    """Puts another tensor in its buffer's place."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.zeros(1, 1, 6, 6))

    def forward(self, images):
        self.last = images
        return images.flatten(1)


def test_freezing_restores_every_mode_and_every_requires_grad():
    model = network()
    model.train()
    model[1].eval()
    model[0].bias.requires_grad_(False)
    modes = [layer.training for layer in model.modules()]
    requires_grad = [weight.requires_grad for weight in model.parameters()]
    with frozen({"model": model, "its first layers": model[:2]}):
        assert not any(layer.training for layer in model.modules())
        assert not any(weight.requires_grad for weight in model.parameters())
    assert [layer.training for layer in model.modules()] == modes
    assert [weight.requires_grad for weight in model.parameters()] == requires_grad


def test_freezing_restores_modes_after_an_error_and_lets_that_error_through():
    model = network()
    with pytest.raises(RuntimeError, match="size of tensor"), frozen({"model": model}):
        model[1].running_mean.fill_(1).add_(torch.zeros(2))
    assert model[1].running_mean.tolist() == [1, 1, 1]
    assert all(layer.training for layer in model.modules())


@pytest.mark.parametrize(
    ("extractor", "buffer"), [(Counter(), "calls"), (Replacer(), "last")], ids=["changed", "replaced"]
)
def test_a_buffer_that_changes_in_eval_mode_is_named(extractor, buffer):
    with pytest.raises(RuntimeError, match=f"'mine.{buffer}' must stay as it is while its module is frozen"):
        extract_features({"mine": extractor}, batches())


def test_a_weight_that_an_optimizer_moves_is_named():
    model = network()
    with pytest.raises(RuntimeError, match=r"'model\.0\.weight'"), frozen({"model": model}):
        model[0].weight.data[0, 0, 0, 0] += 1e-6


def test_a_tensor_that_is_new_while_frozen_is_named():
    model = network()
    with pytest.raises(RuntimeError, match=r"'model\.late'"), frozen({"model": model}):
        model.register_buffer("late", torch.zeros(1))


def test_the_proof_compares_bits_so_nan_is_unchanged_and_minus_zero_is_a_change():
    model = nn.Linear(2, 1)
    model.weight.data[:] = torch.tensor([[float("nan"), 0.0]])
    with frozen({"model": model}):
        pass
    with pytest.raises(RuntimeError, match=r"model\.weight"), frozen({"model": model}):
        model.weight.data[0, 1] = -0.0


def test_features_are_those_of_one_forward_pass_in_eval_mode_in_stored_order():
    model = network()
    stored = batches()
    features, labels = extract_features({"model": model, "pixels": RawPixels()}, stored)
    with torch.no_grad():
        expected = copy.deepcopy(model).eval()(stored.images).flatten(1)
    assert_close(features["model"], expected)
    assert torch.equal(features["pixels"], stored.images.reshape(10, 36))
    assert torch.equal(labels, stored.labels)


def test_features_are_float32_and_can_be_trained_on_though_extraction_has_no_gradient():
    features, _ = extract_features({"double": nn.Sequential(RawPixels(), nn.Linear(36, 2))}, batches())
    matrix = features["double"]
    assert matrix.dtype == torch.float32
    assert not matrix.requires_grad
    weight = torch.ones(2, requires_grad=True)
    (matrix @ weight).sum().backward()
    assert_close(weight.grad, matrix.sum(0))


def test_low_precision_outputs_become_float32_features():
    class Half(nn.Module):
        def forward(self, images):
            return images.flatten(1).bfloat16()

    features, _ = extract_features({"half": Half()}, batches())
    assert torch.equal(features["half"], batches().images.flatten(1).bfloat16().float())


def test_a_split_without_images_is_refused():
    with pytest.raises(DataError, match=r"Every process must have an image .* got \[0\] images"):
        extract_features({"pixels": RawPixels()}, batches(count=0))


def test_batch_norm_statistics_are_the_mean_of_the_batches_means_and_unbiased_variances():
    model = network()
    images = batches(12).images
    estimate_batch_norm_statistics(model, batches(12))
    first, means, variances = model[0](images), [], []
    normalised = []
    for chunk in first.detach().split(4):
        means.append(chunk.mean((0, 2, 3)))
        variances.append(chunk.var((0, 2, 3), correction=1))
        biased = chunk.var((0, 2, 3), correction=0)
        normalised.append((chunk - means[-1][:, None, None]) / (biased[:, None, None] + model[1].eps).sqrt())
    assert_close(model[1].running_mean, torch.stack(means).mean(0))
    assert_close(model[1].running_var, torch.stack(variances).mean(0))
    # The second layer's inputs are normalised by the batches' own statistics, as in training.
    second = [model[3](model[2](chunk)).detach() for chunk in normalised]
    assert_close(model[4].running_mean, torch.stack([chunk.mean((0, 2, 3)) for chunk in second]).mean(0))


def test_batch_norm_estimation_forgets_old_statistics_and_takes_only_as_many_batches_as_asked():
    model, same = network(), network()
    model[1].running_mean.fill_(100)
    estimate_batch_norm_statistics(model, batches(12), max_batches=2)
    estimate_batch_norm_statistics(same, batches(12, batch_size=4), max_batches=None)
    means = network()[0](batches(12).images).detach().split(4)
    assert_close(model[1].running_mean, torch.cat(means[:2]).mean((0, 2, 3)))
    assert_close(same[1].running_mean, torch.cat(means).mean((0, 2, 3)))


def test_batch_norm_estimation_leaves_modes_momenta_weights_other_layers_and_random_state_alone():
    model = nn.Sequential(*network(), nn.Dropout(0.5))
    model[1].momentum = 0.3
    model[4].eval()
    weights = copy.deepcopy(list(model.parameters()))
    modes = [layer.training for layer in model.modules()]
    random_state = torch.get_rng_state()
    estimate_batch_norm_statistics(model, batches())
    assert (model[1].momentum, model[4].momentum) == (0.3, 0.1)
    assert [layer.training for layer in model.modules()] == modes
    assert all(torch.equal(new, old) for new, old in zip(model.parameters(), weights, strict=True))
    assert torch.equal(torch.get_rng_state(), random_state)


def test_batch_norm_estimation_restores_modes_and_momenta_after_an_error():
    model = nn.Sequential(nn.BatchNorm2d(2))
    with pytest.raises(RuntimeError, match="running_mean"):
        estimate_batch_norm_statistics(model.eval(), batches())
    assert not model[0].training
    assert model[0].momentum == 0.1


def test_a_last_batch_of_one_image_is_left_out_of_the_statistics():
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36))
    estimate_batch_norm_statistics(model, batches(9, batch_size=4))
    assert_close(model[1].running_mean, batches(9).images[:8].flatten(1).mean(0))


def test_batch_norm_statistics_of_no_batch_are_refused():
    with pytest.raises(DataError, match="need a batch of at least two images, got none"):
        estimate_batch_norm_statistics(network(), batches(3, batch_size=1))
    with pytest.raises(SettingError, match="max_batches must be at least 1, got 0"):
        estimate_batch_norm_statistics(network(), batches(), max_batches=0)


def test_a_module_without_batch_norm_is_not_even_run():
    model = Counter()
    estimate_batch_norm_statistics(model, batches())
    assert model.calls == 0


def test_tensors_are_a_labelled_data_set():
    stored = batches()
    data = TensorImages(
        "digits", train=(stored.images, stored.labels), test=(stored.images[:3], stored.labels[:3]), num_classes=3
    )
    assert isinstance(data, LabelledImages)
    assert isinstance(data.evaluation_batches("test", torch.device("cpu")), ImageBatches)
    assert (data.channels, data.image_size, data.label_kind) == (1, 6, "classes")
    images, labels = next(iter(data.evaluation_batches("test", torch.device("cpu"))))
    assert torch.equal(images, stored.images[:3])
    assert torch.equal(labels, stored.labels[:3])


def test_batches_cover_every_image_once_in_order():
    stored = batches(10, batch_size=4)
    assert len(stored) == 3
    assert [len(images) for images, _ in stored] == [4, 4, 2]
    assert torch.equal(torch.cat([images for images, _ in stored]), stored.images)


def test_tensor_images_refuse_an_empty_batch():
    stored = batches()
    split = (stored.images, stored.labels)
    with pytest.raises(SettingError, match="batch_size must be at least 1, got 0"):
        TensorImages("digits", train=split, test=split, num_classes=3, batch_size=0)


class Inverse(nn.Module):
    """An encoder and a generator with a layer of batch norm each."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(36, 5), nn.BatchNorm1d(5))
        self.generator = nn.Sequential(nn.Linear(5, 36), nn.BatchNorm1d(36))

    def encode(self, images):
        return self.encoder(images)

    def decode(self, latents):
        return self.generator(latents).unflatten(1, (1, 6, 6))

    def sample_latents(self, count, rng=None):
        return torch.randn(count, 5, generator=rng)


def test_the_statistics_of_reconstructions_are_those_of_a_pass_in_train_mode_and_what_was_there_comes_back():
    model, images = Inverse(), batches(count=8, batch_size=8)
    model.decode(model.encode(batches(count=5).images))  # statistics of something else
    model.eval()
    before = copy.deepcopy(model.state_dict())
    with frozen({"model": model}), reconstruction_statistics(model, images):
        first, second = model.encoder[:2](images.images), model.encode(images.images)
        assert_close(model.encoder[2].running_mean, first.mean(0))
        assert_close(model.encoder[2].running_var, first.var(0))
        assert_close(second.mean(0), torch.zeros(5), atol=1e-6, rtol=0)
        assert not torch.equal(model.generator[1].running_mean, before["generator.1.running_mean"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(layer.training for layer in model.modules())
    with reconstruction_statistics(model, None):
        assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
