import copy

import pytest
import torch
from card_stand_in import Reads
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import DataError, SettingError
from gan_lightning.evaluation import (
    RawPixels,
    TensorBatches,
    TensorImages,
    check_extractor,
    estimate_batch_norm_statistics,
    extract_features,
    frozen,
    reconstruction_statistics,
)
from gan_lightning.evaluation.features import FunctionExtractor, as_extractor, described, dtype_of, features_of
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


def test_the_proof_and_the_statistics_of_batch_norm_do_not_wait_for_a_gpu_at_each_tensor():
    with Reads() as reads, frozen({"model": network()}):
        estimate_batch_norm_statistics(network(), batches(12))
    assert not reads.counts


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


# Extractors of any kind


CPU = torch.device("cpu")


class Gives(nn.Module):
    """Gives what a function makes of a network's features."""

    def __init__(self, function, width: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.function, self.network = function, nn.Sequential(nn.Flatten(), nn.Linear(36, width))

    def forward(self, images):
        return self.function(self.network(images))


def tokens(features, count: int):
    return features.unflatten(1, (count, -1))


@pytest.mark.parametrize(
    ("extractor", "width"),
    [
        (network().double(), 8),
        (network().bfloat16(), 8),
        (network().half(), 8),
        (network(), 8),
        (RawPixels(), 36),
        (FunctionExtractor(lambda images: images[:, 0]), 36),
        (Gives(lambda features: tokens(features, 3), 6), 6),
        (Gives(lambda features: features[:, 0]), 1),
        (Gives(lambda features: features.argmax(1)), 1),
        (nn.Sequential(nn.Dropout(0.5), nn.Flatten()), 36),
    ],
    ids=[
        "float64",
        "bfloat16",
        "float16",
        "batch norm",
        "pixels",
        "function",
        "tokens",
        "a number",
        "class",
        "dropout",
    ],
)
def test_extractors_of_every_kind_are_tried_and_left_as_they_were(extractor, width):
    before, modes = copy.deepcopy(extractor.state_dict()), [layer.training for layer in extractor.modules()]
    assert check_extractor("mine", extractor, 1, 6, CPU) == width
    assert all(torch.equal(tensor, before[name]) for name, tensor in extractor.state_dict().items())
    assert [layer.training for layer in extractor.modules()] == modes
    features, _ = extract_features({"mine": extractor}, batches())
    assert features["mine"].shape == (10, width)
    assert features["mine"].dtype == torch.float32


ROWS = r"the extractor 'mine' must give a row of features per image, got an output of shape "
ALONE = r"the extractor 'mine' must give an image the same features whatever is beside it in the batch, but "
REMEDY = r" Keep the images along the first dimension, and give batch norm running statistics\."


@pytest.mark.parametrize(
    ("extractor", "message"),
    [
        (Gives(lambda rows: {"a": rows, "b": rows}), r"must give a tensor .*, got a dict with the keys 'a', 'b'"),
        (Gives(lambda rows: (rows, rows)), r"must give a tensor of features, got a tuple of 2\. Wrap it in a module"),
        (Gives(lambda features: None), r"must give a tensor of features, got a NoneType"),
        (Gives(lambda features: features.mean()), ROWS + r"\(\) for 2 images\. Return the images along the first"),
        (Gives(lambda features: features.T), ROWS + r"\(3, 2\) for 2 images"),
        (Gives(lambda features: tokens(features, 3).transpose(0, 1), 6), ROWS + r"\(3, 2, 2\) for 2 images"),
        # As many tokens, or features, as images: the shape does not tell.
        (Gives(lambda rows: tokens(rows, 2).transpose(0, 1), 6), ALONE + r"it cannot take one image alone .*" + REMEDY),
        (Gives(lambda rows: rows.T, 2), ALONE + r"it cannot take one image alone .*\(2, 1\) for 1 images.*" + REMEDY),
        (nn.BatchNorm2d(1, track_running_stats=False), ALONE + r"its features differ by up to \d.*alone\." + REMEDY),
        (nn.Sequential(nn.Flatten(), nn.BatchNorm1d(36, track_running_stats=False)),
         ALONE + r"it cannot take one image alone \(ValueError: Expected more than 1 value per channel" ),
        (Gives(lambda features: features - features.mean(0)), ALONE + r"its features differ by up to"),
        (Gives(lambda features: features + torch.rand(())), ALONE + r"its features differ by up to"),
        (Gives(lambda features: features * float("nan")), ALONE + r"its features differ by up to nan"),
        (nn.Conv2d(3, 1, 3), r"must take images of shape \(2, 1, 6, 6\), got RuntimeError: .*to have 3 channels"),
    ],
    ids=["dict", "tuple", "nothing", "0-d", "transposed", "sequence first", "two tokens first", "two features first",
         "batch norm of maps", "batch norm of rows", "centred", "random", "NaN", "other channels"],
)  # fmt: skip
def test_an_extractor_that_mixes_images_or_gives_no_rows_is_refused_with_the_reason(extractor, message):
    with pytest.raises(SettingError, match=message) as raised:
        check_extractor("mine", extractor, 1, 6, CPU)
    assert "\n" not in str(raised.value)


def test_batch_norm_of_large_images_without_running_statistics_does_not_pass_for_rounding():
    with pytest.raises(SettingError, match=ALONE + "its features differ"):
        check_extractor("mine", nn.BatchNorm2d(3, track_running_stats=False), 3, 256, CPU)


def test_a_larger_batch_is_looked_at_too():
    with pytest.raises(SettingError, match=ROWS + r"\(3, 4\) for 4 images"):
        extract_features({"mine": Gives(lambda features: features.T)}, batches())


@pytest.mark.parametrize(("pool", "width"), [(None, 8), (1, 2), (2, 8)])
def test_maps_are_averaged_to_an_edge_before_they_become_a_row(pool, width):
    images, extractor = batches().images, network().eval()
    with torch.no_grad():
        maps = extractor(images)
        row = features_of("maps", extractor, images, pool)
    assert row.shape == (10, width)
    if pool == 1:
        assert_close(row, maps.mean((2, 3)))
    features, _ = extract_features({"maps": extractor, "rows": Gives(lambda features: features)}, batches(), pool=pool)
    assert_close(features["maps"], row)
    assert features["rows"].shape == (10, 3), "what is no map stays"


def test_functions_become_extractors_and_anything_else_is_refused():
    layer = nn.Flatten()
    assert as_extractor("mine", layer) is layer
    assert torch.equal(as_extractor("mine", torch.Tensor.double)(torch.ones(2)), torch.ones(2).double())
    with pytest.raises(SettingError, match=r"'mine' must be a torch\.nn\.Module or a function of images, got list"):
        as_extractor("mine", [layer])


def test_images_get_the_type_of_the_weights():
    assert dtype_of(nn.Flatten()) == torch.float32
    assert dtype_of(nn.Sequential(nn.Flatten(), nn.Linear(1, 1).double())) == torch.float64
    only_buffers = nn.Module()
    only_buffers.register_buffer("count", torch.zeros((), dtype=torch.int64))
    only_buffers.register_buffer("mean", torch.zeros((), dtype=torch.bfloat16))
    assert dtype_of(only_buffers) == torch.bfloat16


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (torch.zeros(2, 3), "a tensor of shape (2, 3)"),
        (torch.zeros(2, dtype=torch.uint8), "a tensor of shape (2,) of torch.uint8"),
        ([1, 2], "a list of 2"),
        ({"a": 1}, "a dict with the keys 'a'"),
        (None, "a NoneType"),
    ],
)
def test_an_output_is_said_in_words(output, said):
    assert described(output) == said
