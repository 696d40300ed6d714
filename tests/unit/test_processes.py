"""Two processes on the CPU must see what one sees."""

import pickle
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.testing import assert_close

from gan_lightning.errors import DataError
from gan_lightning.evaluation import (
    PaperProtocol,
    RawPixels,
    TensorImages,
    TunedProtocol,
    estimate_batch_norm_statistics,
    evaluate_transfer,
    extract_features,
    first_images,
    image_reconstruction,
    neighbours_picture,
)
from gan_lightning.losses import matching_loss
from gan_lightning.processes import moments

CPU = torch.device("cpu")


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten())


def data(count: int = 23) -> TensorImages:
    """An odd number of images, so that the shares differ in size."""
    rng = torch.Generator().manual_seed(0)
    images, labels = torch.rand(count, 1, 4, 4, generator=rng) * 2 - 1, torch.arange(count) % 2
    return TensorImages(
        "noise",
        train=(images, labels),
        test=(images[:5], labels[:5]),
        num_classes=2,
        batch_size=4,
    )


def matching(rows: slice) -> dict:
    """Return the matching loss of SelfExGAN's encoder for a process's rows of a batch, and its gradient under DDP."""
    torch.manual_seed(0)
    encoder, batch = nn.Linear(5, 3), torch.randn(10, 5)
    wrapped = nn.parallel.DistributedDataParallel(encoder) if dist.is_initialized() else encoder
    mean, variance = moments(torch.sigmoid(wrapped(batch[rows])))
    loss = matching_loss(mean, variance)
    loss.backward()
    return {
        "loss": loss.detach(),
        "mean": mean.detach(),
        "variance": variance.detach(),
        "gradient": encoder.weight.grad,
    }


def measure() -> dict:
    protocols = (PaperProtocol(epochs=2), TunedProtocol(strengths=(0.1,)))
    model = network()
    estimate_batch_norm_statistics(model, data().evaluation_batches("train", CPU))
    records = evaluate_transfer({"a": network()}, data(), random_extractors={"a": network()}, protocols=protocols)
    broken = network()
    broken[0].weight.data.fill_(float("nan"))
    errors = []
    for extractors, images in (({"a": broken}, data()), ({}, data(count=1))):
        try:
            evaluate_transfer(extractors, images, protocols=protocols)
        except DataError as error:
            errors.append(str(error))
    train = data().evaluation_batches("train", CPU)
    queries = first_images(train, 14)
    return {
        "first": [first_images(train, count) for count in (3, 14, 30)],
        "neighbours": neighbours_picture(network().eval(), queries, train, count=3),
        "reconstruction": image_reconstruction(train, lambda images: images, lambda latents: latents / 2),
        "features": extract_features(
            {"model": network(), "pixels": RawPixels()}, data().evaluation_batches("train", CPU)
        ),
        "share": len(data().evaluation_batches("train", CPU).images),
        "running_mean": model[1].running_mean,
        "running_var": model[1].running_var,
        "records": [(r.extractor, r.weights, r.protocol, r.epoch, r.accuracy) for r in records],
        "seconds": [r.seconds for r in records],
        "errors": errors,
    }


def process(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    halves, unequal = (slice(0, 5), slice(5, 10)), (slice(0, 7), slice(7, 10))
    shares = {"halves": matching(halves[rank]), "unequal": matching(unequal[rank])}
    Path(folder, f"{rank}.pickle").write_bytes(pickle.dumps(measure() | shares))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    mp.spawn(process, (str(folder),), nprocs=2)
    return [pickle.loads((folder / f"{rank}.pickle").read_bytes()) for rank in (0, 1)]


def test_every_process_gets_the_features_of_all_shares_in_stored_order(two):
    assert [result["share"] for result in two] == [12, 11]
    stored = data().evaluation_batches("train", CPU)
    expected, labels = extract_features({"model": network(), "pixels": RawPixels()}, stored)
    for result in two:
        features, gathered_labels = result["features"]
        assert torch.equal(features["pixels"], stored.images.flatten(1))
        assert_close(features["model"], expected["model"])
        assert torch.equal(gathered_labels, labels)


@pytest.mark.parametrize("shares", ["halves", "unequal"])
def test_the_matching_loss_and_its_gradient_are_those_of_one_process_with_the_whole_batch(two, shares):
    alone = matching(slice(0, 10))
    for result in two:
        for quantity in ("loss", "mean", "variance"):
            assert_close(result[shares][quantity], alone[quantity])
        assert_close(result[shares]["gradient"], alone["gradient"])


def test_batch_norm_statistics_are_the_average_over_the_batches_of_both_processes(two):
    first = network()[0]
    stored = data().evaluation_batches("train", CPU).images
    chunks = [chunk for share in stored.tensor_split(2) for chunk in first(share).detach().split(4)]
    for result in two:
        assert_close(result["running_mean"], torch.stack([chunk.mean((0, 2, 3)) for chunk in chunks]).mean(0))
        assert_close(result["running_var"], torch.stack([chunk.var((0, 2, 3)) for chunk in chunks]).mean(0))


def test_the_first_process_fits_and_both_return_its_records(two):
    assert two[0]["records"] == two[1]["records"]
    assert two[0]["seconds"] == two[1]["seconds"]
    # Batches end elsewhere in a share, so the random control's batch-norm statistics differ a little.
    alone = [record for record in measure()["records"] if record[1] != "random"]
    assert [record for record in two[0]["records"] if record[1] != "random"] == alone


def test_an_error_of_the_first_process_and_an_empty_share_are_raised_by_both(two):
    for result in two:
        assert len(result["errors"]) == 2
        assert "train features of 'a (trained weights)' must be finite" in result["errors"][0]
        assert "Every process must have an image to extract features from, got [1, 0]" in result["errors"][1]


def test_pictures_and_reconstructions_are_those_of_all_shares(two):
    alone, images = measure(), data().evaluation_batches("train", CPU).images
    for result in two:
        for count, first in zip((3, 14, 30), result["first"], strict=True):
            assert torch.equal(first, images[:count])
        assert_close(result["neighbours"], alone["neighbours"])
        assert result["reconstruction"] == two[0]["reconstruction"]
        assert result["reconstruction"].samples == 23
        assert_close(result["reconstruction"].distance, alone["reconstruction"].distance)
