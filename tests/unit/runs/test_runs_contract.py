"""What a model declares is tried once before the training; what it lacks for `test` and `predict` is supplied."""

import copy
import io
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from gan_lightning.errors import SettingError
from gan_lightning.evaluation import TensorImages
from gan_lightning.interfaces import LinearHead
from gan_lightning.papers import GAN, Autoencoder, PermutationInvariantNetworks
from gan_lightning.runs.contract import ModelContract, check_model, check_predicts, complete

IMAGES = torch.rand(6, 2, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
LABELS = torch.arange(6) % 2
DATA = TensorImages("noise", train=(IMAGES, LABELS), test=(IMAGES, LABELS), num_classes=2)


class Good(LightningModule):
    """Declares everything, as `interfaces` has it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Dropout(), nn.Flatten())
        self.head = nn.Linear(108, 1)
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(128, 5))
        self.generator = nn.Sequential(nn.Linear(5, 32), nn.BatchNorm1d(32), nn.Tanh(), nn.Unflatten(1, (2, 4, 4)))
        self.called: list[str] = []

    def extractors(self):
        self.called.append("extractors")
        return {"D": self.features, "pixels of one channel": lambda images: images[:, 0]}

    def heads(self):
        return {"D": LinearHead(self.head.weight, "discrimination")}

    def generate(self, count, rng=None):
        return torch.stack([self.decode(self.sample_latents(count, rng)) for _ in range(3)])

    def encode(self, images):
        return self.encoder(images)

    def decode(self, latents):
        return self.generator(latents)

    def sample_latents(self, count, rng=None):
        return torch.randn(count, 5, generator=rng, device=self.device)

    def real_logits(self, images):
        return self.head(self.features(images)).squeeze(1)

    def hot_parts(self):
        return ["features", "encoder.1", "real_logits"]

    def training_step(self, batch, batch_idx):
        return self.real_logits(batch[0]).mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def changed(**methods: Any) -> LightningModule:
    """Return a good model with something in the place of some of its methods."""
    return type("Mine", (Good,), methods)()


def holding(name: str, value: object) -> LightningModule:
    """Return a good model with an attribute in a method's place."""
    model = changed()
    vars(model)[name] = value
    return model


def unchecked_head(weight: torch.Tensor, task: str) -> LinearHead:
    """Return a head whose types nobody has looked at, as is so outside of these tests."""
    head = object.__new__(LinearHead)
    vars(head).update(weight=weight, task=task, softmax=False)
    return head


class Images(LightningDataModule):
    """The images, to be trained on."""

    name, channels, image_size, label_kind, num_classes = "noise", 2, 8, "classes", 2
    evaluation_batches = staticmethod(DATA.evaluation_batches)

    def train_dataloader(self):
        return DataLoader(list(zip(IMAGES, LABELS, strict=True)), batch_size=3)

    test_dataloader = predict_dataloader = train_dataloader


def trainer_with(*callbacks: Any) -> Trainer:
    return Trainer(
        callbacks=list(callbacks), max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accelerator="cpu",
    )  # fmt: skip


@pytest.mark.parametrize("data", [DATA, None, object()])
@pytest.mark.parametrize(
    "model",
    [Good(), GAN(2, 8, PermutationInvariantNetworks(3, 4)), Autoencoder(2, 8, PermutationInvariantNetworks(3, 4)),
     nn.Linear(2, 1), changed(real_logits=lambda *_: None), holding("heads", None)],
)  # fmt: skip
def test_a_model_that_does_as_it_declares_is_left_as_it_was(model, data, caplog):
    before, modes = copy.deepcopy(model.state_dict()), [layer.training for layer in model.modules()]
    drawn_from, numpys = torch.get_rng_state(), str(np.random.get_state())  # noqa: NPY002 (Python's: beartype draws)
    check_model(model, data)
    assert torch.equal(torch.get_rng_state(), drawn_from)
    assert str(np.random.get_state()) == numpys  # noqa: NPY002
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [layer.training for layer in model.modules()] == modes
    assert all(weight.requires_grad for weight in model.parameters())
    assert not caplog.text


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_images_come_in_the_type_of_the_weights(dtype):
    check_model(Good().to(dtype), DATA)


HEAD = LinearHead(torch.ones(1, 108), "discrimination")
WRONG: dict[str, tuple[LightningModule, str]] = {
    "heads is no method": (
        holding("heads", nn.ModuleList([nn.Linear(1, 1)])),
        r"Mine\.heads must be a method that returns a mapping from names of extractors to LinearHead, got a ModuleList"
        r"\. Rename the attribute, or make it a method",
    ),
    "extractors is no method": (holding("extractors", {}), r"Mine\.extractors must be a method .*, got a dict"),
    "encode is no method": (holding("encode", nn.Identity()), r"Mine\.encode must be a method .*, got a Identity"),
    "extractors is a list": (
        changed(extractors=lambda self: [self.features]),
        r"Mine\.extractors\(\) must return a mapping from names to modules or functions of images, got a list of 1\.",
    ),
    "an extractor is neither": (
        changed(extractors=lambda self: {"D": "features"}),
        r"Mine\.extractors\(\): the extractor 'D' must be a torch\.nn\.Module or a function of images, got str",
    ),
    "an extractor mixes images": (
        changed(extractors=lambda self: {"D": nn.BatchNorm2d(2, track_running_stats=False)}),
        r"Mine\.extractors\(\): the extractor 'D' must give an image the same features whatever is beside it",
    ),
    "a name is no text": (changed(extractors=lambda self: {1: self.features}), r"where 1 is no name for one"),
    "a name is taken": (changed(extractors=lambda self: {"labels": self.head}), r"where 'labels' is no name for one"),
    "it raises": (
        changed(extractors=lambda self: {"D": self.discriminator}),
        r"Mine\.extractors\(\) must return a mapping .*, got AttributeError: .*no attribute 'discriminator'\.$",
    ),
    "networks come later": (
        changed(extractors=lambda self: {"D": self.late}, configure_model=lambda self: None),
        r"no attribute 'late'\. Make the networks in __init__: models are tried before `setup` and `configure_model`\.",
    ),
    "a head is a layer": (
        changed(heads=lambda self: {"D": self.head}),
        r"Mine\.heads\(\) must return .* where 'D' is a Linear\. Use LinearHead\(layer\.weight, task=\.\.\.\)",
    ),
    "a head is another extractor's": (
        changed(heads=lambda self: {"E": HEAD}),
        r"beside the extractors 'D', 'pixels of one channel'\. Name each head like its extractor",
    ),
    "a head is of another width": (
        changed(heads=lambda self: {"D": LinearHead(torch.ones(1, 7), "discrimination")}),
        r"where the weight of 'D' is for 7 features, and its extractor gives 108\. Let the extractor end right before",
    ),
    "a head has another task": (
        changed(heads=lambda self: {"D": unchecked_head(torch.ones(1, 108), "guessing")}),
        r"where the task of 'D' is 'guessing'\. Use one of discrimination, classification, encoding",
    ),
    "a head is a vector": (
        changed(heads=lambda self: {"D": unchecked_head(torch.ones(108), "discrimination")}),
        r"where the weight of 'D' is a tensor of shape \(108,\)\. It must be \(outputs, features\)",
    ),
    "images of one generator": (
        changed(generate=lambda self, count, rng: torch.zeros(count, 2, 8, 8)),
        r"Mine\.generate\(\) must return images \(generators, count, channels, height, width\) in \[-1, 1\], got a "
        r"tensor of shape \(2, 2, 8, 8\) which lacks the dimension of the generators\. Return images\.unsqueeze\(0\)\.",
    ),
    "images after generators": (
        changed(generate=lambda self, count, rng: torch.zeros(count, 1, 2, 8, 8)),
        r"shape \(2, 1, 2, 8, 8\) for 2 images of 2 channel\(s\)",
    ),
    "images of other channels": (
        changed(generate=lambda self, count, rng: torch.zeros(1, count, 3, 8, 8)),
        r"shape \(1, 2, 3, 8, 8\) for 2 images of 2 channel",
    ),
    "images of integers": (
        changed(generate=lambda self, count, rng: torch.zeros(1, count, 2, 8, 8, dtype=torch.uint8)),
        r"got a tensor of shape \(1, 2, 2, 8, 8\) of torch\.uint8",
    ),
    "images that are not finite": (
        changed(generate=lambda self, count, rng: torch.full((1, count, 2, 8, 8), float("nan"))),
        r"with values from nan to nan",
    ),
    "latents are wanted": (
        changed(generate=lambda self, z: self.generator(z)),
        r"Mine\.generate must take \(count, rng\), got generate\(z\)\. Draw with rng, a torch\.Generator",
    ),
    "mean and variance": (
        changed(encode=lambda self, images: (self.encoder(images), self.encoder(images))),
        r"Mine\.encode\(\) must return latents \(batch, latent\), got a tuple of 2 for 2 images\. Return one tensor, "
        r"such as the mean\.",
    ),
    "latents of maps": (
        changed(encode=lambda self, images: self.encoder(images)[..., None, None]), r"shape \(2, 5, 1, 1\) for 2 images"
    ),
    "latents of another width": (
        changed(encode=lambda self, images: self.encoder(images)[:, :4]),
        r"shape \(2, 4\) and sample_latents\(\) gives latents of 5\. Both must be what decode\(\) takes",
    ),
    "one latent": (
        changed(sample_latents=lambda self, count, rng: torch.randn(5), generate=None),
        r"Mine\.sample_latents\(\) must return latents \(count, latent\), got a tensor of shape \(5,\) for 2 latents",
    ),
    "no rng": (
        changed(sample_latents=lambda self, count: torch.randn(count, 5), generate=None),
        r"Mine\.sample_latents must take \(count, rng\), got sample_latents\(count\)",
    ),
    "flat images": (
        changed(decode=lambda self, latents: self.generator(latents).flatten(1), generate=None),
        r"Mine\.decode\(\) must return images \(batch, .*got a tensor of shape \(2, 32\) for 2 latents of 2 channel",
    ),
    "a column of logits": (
        changed(real_logits=lambda self, images: self.head(self.features(images))),
        r"Mine\.real_logits\(\) must return a logit per image \(batch,\), or None, got a tensor of shape \(2, 1\) for "
        r"2 images\. Return logits\.squeeze\(1\)\.",
    ),
    "a hot part that is not there": (
        changed(hot_parts=lambda self: ["features", "encoder.7"]),
        r"Mine\.hot_parts\(\) must return .* of which 'encoder\.7' is no network and no method of the model"
    ),
    "hot parts in a text": (changed(hot_parts=lambda self: "features"), r"Mine\.hot_parts\(\) must return .*got a str"),
}  # fmt: skip


@pytest.mark.parametrize(("model", "message"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_named_with_the_method_what_came_out_and_what_was_expected(model, message):
    with pytest.raises(SettingError, match=message) as raised:
        check_model(model, DATA)
    assert "\n" not in str(raised.value)


def test_a_model_that_changes_in_eval_mode_is_named_with_what_changed():
    def counting(self, images):
        self.head.bias.data += 1
        return self.encoder(images)

    with pytest.raises(
        SettingError, match=r"the methods of Mine must leave it as it is in eval mode: 'Mine\.head\.bias'"
    ):
        check_model(changed(encode=counting), DATA)


def test_what_only_a_reader_can_judge_is_warned_of(caplog):
    check_model(changed(generate=lambda self, count, rng: torch.full((1, count, 2, 8, 8), 255.0), decode=None), DATA)
    assert "Mine.generate() gives values from 255 to 255, and measurements take images to be in [-1, 1]." in caplog.text
    assert "Mine has encode() without decode(): what needs E and G passes it over." in caplog.text


@pytest.mark.parametrize("wrong", ["extractors", "generate", "sample_latents", "hot_parts"])
def test_without_declared_images_only_what_needs_none_is_tried(wrong):
    refuses = {"extractors": lambda self: {"D": self.nothing}, "hot_parts": lambda self: ["nothing"]}
    methods = {"generate": None, wrong: refuses.get(wrong, lambda self, count, rng: torch.zeros(1))}
    with pytest.raises(SettingError, match=rf"Mine\.{wrong}"):
        check_model(changed(**methods), None)
    check_model(changed(encode=None, real_logits=lambda self, images: 1 / 0), None)


@pytest.mark.parametrize("task", ["fit", "test", "predict"])
def test_the_callback_tries_a_model_once_before_anything_else(task):
    model = Good()
    complete(model)
    getattr(trainer_with(ModelContract()), task)(model, Images())
    assert len(model.called) == (1 if task != "predict" else 3), "two batches"
    wrong = changed(heads=lambda self: [], training_step=lambda *_: pytest.fail("trained"))
    complete(wrong)
    with pytest.raises(SettingError, match=r"Mine\.heads\(\)"):
        getattr(trainer_with(ModelContract()), task)(wrong, Images())


class Bare(LightningModule):
    """Has extractors, and neither `forward` nor any step."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(128, 3)

    def extractors(self):
        return {"linear": nn.Sequential(nn.Flatten(), self.layer), "maps": lambda images: images}


def copied(model: LightningModule) -> LightningModule:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copies", [lambda model: model, copy.deepcopy, copied])
def test_what_a_model_lacks_is_supplied_to_it_and_to_its_copies(copies):
    original = Bare()
    complete(original)
    complete(original)
    model = copies(original)
    with torch.no_grad():
        model.layer.weight.mul_(2)
    trainer_with().test(model, Images())
    batches = trainer_with().predict(model, Images())
    assert batches is not None
    found = {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}
    assert torch.equal(found["labels"], LABELS)
    torch.testing.assert_close(found["linear"], model.layer(IMAGES.flatten(1)))
    assert torch.equal(found["maps"], IMAGES.flatten(1))


def test_batches_of_images_alone_have_no_labels():
    model = Bare()
    complete(model)
    assert model.predict_step(IMAGES, 0).keys() == model.predict_step([IMAGES], 0).keys() == {"linear", "maps"}
    with pytest.raises(SettingError, match="predict needs batches of images, or of images and labels, got a dict with"):
        model.predict_step({"image": IMAGES}, 0)


def test_what_a_model_has_of_its_own_stays():
    own = type("Own", (Bare,), {"test_step": lambda *_: None, "predict_step": lambda *_: 1})()
    before = own.test_step, own.predict_step
    complete(own)
    assert (own.test_step, own.predict_step) == before
    maps = type("Maps", (LightningModule,), {"forward": lambda self, batch: batch})()
    complete(maps)
    assert maps.predict_step(3) == 3, "Lightning's own, which calls forward"
    check_predicts(maps)


def test_a_model_with_nothing_to_predict_is_refused():
    nothing = LightningModule()
    complete(nothing)
    with pytest.raises(SettingError, match=r"predict needs a model with extractors\(\), .*got LightningModule without"):
        check_predicts(nothing)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_clip_val": 1.0}, r"gradient_clip_val must not be set for GAN, got 1\.0: .*Leave it out"),
        (
            {"accumulate_grad_batches": 2},
            r"accumulate_grad_batches must be 1 for GAN, got 2: .*larger batch",
        ),
    ],
)
def test_models_that_step_by_hand_refuse_what_lightning_would_do_for_them(settings, message):
    trainer = Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", **settings)
    with pytest.raises(SettingError, match=message):
        trainer.fit(GAN(2, 8, PermutationInvariantNetworks(3, 4)), Images())
