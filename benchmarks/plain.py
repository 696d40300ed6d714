"""The programs that a user would write without the framework, in PyTorch alone.

They compute what the framework's models compute: from the same weights and the same draws a step gives the same new
weights, up to rounding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gan_lightning import losses
from gan_lightning.papers import GAN, MGAN, BiGAN, SelfExGAN
from gan_lightning.system.processes import moments


class PlainMGAN:
    """M-GAN: a module per generator in a Python loop, D and C called separately, Adam as torch makes it.

    The layers that the generators share see all images at once: on each generator's images alone their batch norm would
    compute something else.

    Args:
        model: Gives the sizes, and the weights to start with, which are copied. All layers of D and C are shared.
        device: Where to compute.
    """

    def __init__(self, model: MGAN, device: torch.device) -> None:
        heads = model.generator_heads
        copies, latent_dim, _ = heads.weight.shape
        channels, size = heads.channels, heads.size
        self.latent_dim, self.per_generator = latent_dim, model.images_per_generator
        self.class_weight, self.device = model.class_weight, device
        self.first_layers = nn.ModuleList()
        for k in range(copies):
            layer = nn.ConvTranspose2d(latent_dim, channels, size, 1, 0, bias=False)
            norm = nn.BatchNorm2d(channels)
            with torch.no_grad():
                layer.weight.copy_(heads.weight[k].view(latent_dim, channels, size, size))
                norm.weight.copy_(heads.norm.weight[k * channels : (k + 1) * channels])
                norm.bias.copy_(heads.norm.bias[k * channels : (k + 1) * channels])
            self.first_layers.append(nn.Sequential(layer, norm, nn.ReLU()))
        width, feature_dim = model.discriminator[0][0].out_channels, model.discriminator[3][0].out_channels
        image_channels = model.discriminator[0][0].in_channels
        self.trunk = nn.Sequential(
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, image_channels, 4, 2, 1, bias=False),
            nn.Tanh(),
        )
        self.features = nn.Sequential(
            nn.Conv2d(image_channels, width, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1, bias=False),
            nn.BatchNorm2d(4 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(4 * width, feature_dim, 4, 1, 0, bias=False),
            nn.Flatten(),
        )
        self.real_or_fake = nn.Linear(feature_dim, 1, bias=False)
        self.which = nn.Linear(feature_dim, copies, bias=False)
        _copy_weights(self.trunk, model.generator_trunk)
        _copy_weights(self.features, model.discriminator)
        _copy_weights(self.real_or_fake, model.discriminator_head)
        _copy_weights(self.which, model.classifier_head)
        for network in (self.first_layers, self.trunk, self.features, self.real_or_fake, self.which):
            network.to(device)
        self.g_weights = [*self.first_layers.parameters(), *self.trunk.parameters()]
        self.d_weights = [*self.features.parameters(), *self.real_or_fake.parameters()]
        self.c_weights = [*self.features.parameters(), *self.which.parameters()]
        rates, betas = model.learning_rates, model.betas
        self.step_g = torch.optim.Adam(self.g_weights, lr=rates[0], betas=betas)
        self.step_d = torch.optim.Adam(self.d_weights, lr=rates[1], betas=betas)
        self.step_c = torch.optim.Adam(self.c_weights, lr=rates[2], betas=betas)
        self.made_by = torch.arange(copies, device=device).repeat_interleave(self.per_generator)

    def discriminate(self, images: Tensor) -> Tensor:
        """Return D's logits."""
        return self.real_or_fake(self.features(images)).squeeze(1)

    def classify(self, images: Tensor) -> Tensor:
        """Return C's logits."""
        return self.which(self.features(images))

    def step(self, real: Tensor) -> None:
        """Step D and C on the same weights, and then the generators."""
        latents = torch.randn(len(self.first_layers), self.per_generator, self.latent_dim, device=self.device)
        maps = [layer(z[:, :, None, None]) for layer, z in zip(self.first_layers, latents, strict=True)]
        fake = self.trunk(torch.cat(maps))

        real_logits, fake_logits = self.discriminate(real), self.discriminate(fake.detach())
        loss_d = F.binary_cross_entropy_with_logits(real_logits, torch.ones_like(real_logits))
        loss_d = loss_d + F.binary_cross_entropy_with_logits(fake_logits, torch.zeros_like(fake_logits))
        loss_c = F.cross_entropy(self.classify(fake.detach()), self.made_by)
        gradients_d = torch.autograd.grad(loss_d, self.d_weights)
        gradients_c = torch.autograd.grad(loss_c, self.c_weights)
        for optimizer, weights, gradients in (
            (self.step_d, self.d_weights, gradients_d),
            (self.step_c, self.c_weights, gradients_c),
        ):
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
            optimizer.step()
            optimizer.zero_grad()

        self.step_g.zero_grad()
        fake_logits = self.discriminate(fake)
        loss_g = F.binary_cross_entropy_with_logits(fake_logits, torch.ones_like(fake_logits))
        loss_g = loss_g + self.class_weight * F.cross_entropy(self.classify(fake), self.made_by)
        loss_g.backward()
        self.step_g.step()


class PlainDCGAN:
    """DCGAN as PyTorch's example trains it: real and fake one after the other, D's output read at every step.

    Args:
        model: Gives the sizes, Adam's settings and the weights to start with, which are copied.
        device: Where to compute.

    Source:
        https://github.com/pytorch/examples, dcgan/main.py.
    """

    def __init__(self, model: GAN, device: torch.device) -> None:
        self.latent_dim, self.device = model.latent_dim, device
        w = model.discriminator.conv1[0].out_channels
        channels = model.hparams["channels"]
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(self.latent_dim, 8 * w, 4, 1, 0, bias=False),
            nn.BatchNorm2d(8 * w),
            nn.ReLU(True),
            nn.ConvTranspose2d(8 * w, 4 * w, 4, 2, 1, bias=False),
            nn.BatchNorm2d(4 * w),
            nn.ReLU(True),
            nn.ConvTranspose2d(4 * w, 2 * w, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * w),
            nn.ReLU(True),
            nn.ConvTranspose2d(2 * w, w, 4, 2, 1, bias=False),
            nn.BatchNorm2d(w),
            nn.ReLU(True),
            nn.ConvTranspose2d(w, channels, 4, 2, 1, bias=False),
            nn.Tanh(),
        )
        self.discriminator = nn.Sequential(
            nn.Conv2d(channels, w, 4, 2, 1, bias=False),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(w, 2 * w, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * w),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(2 * w, 4 * w, 4, 2, 1, bias=False),
            nn.BatchNorm2d(4 * w),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(4 * w, 8 * w, 4, 2, 1, bias=False),
            nn.BatchNorm2d(8 * w),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(8 * w, 1, 4, 1, 0, bias=False),
            nn.Sigmoid(),
        )
        _copy_weights(self.generator, model.generator)
        _copy_weights(self.discriminator, model.discriminator)
        self.generator.to(device)
        self.discriminator.to(device)
        self.criterion = nn.BCELoss()
        adam = {"lr": model.adam.learning_rate, "betas": model.adam.betas}
        self.step_d = torch.optim.Adam(self.discriminator.parameters(), **adam)
        self.step_g = torch.optim.Adam(self.generator.parameters(), **adam)

    def discriminate(self, images: Tensor) -> Tensor:
        """Return the probability that images are real."""
        return self.discriminator(images).view(-1)

    def step(self, real: Tensor) -> tuple[float, float, float]:
        """Step D on real and then fake images, and G; return D's mean output for each of the three."""
        self.discriminator.zero_grad()
        label = torch.full((len(real),), 1.0, device=self.device)
        output = self.discriminate(real)
        self.criterion(output, label).backward()
        mean_real = output.mean().item()

        noise = torch.randn(len(real), self.latent_dim, device=self.device)[:, :, None, None]
        fake = self.generator(noise)
        label.fill_(0.0)
        output = self.discriminate(fake.detach())
        self.criterion(output, label).backward()
        mean_fake = output.mean().item()
        self.step_d.step()

        self.generator.zero_grad()
        label.fill_(1.0)
        output = self.discriminate(fake)
        self.criterion(output, label).backward()
        mean_fooled = output.mean().item()
        self.step_g.step()
        return mean_real, mean_fake, mean_fooled


class BareDCGAN:
    """What the framework's DCGAN computes in a step, call for call, without a Trainer around it.

    Args:
        model: The model, whose networks it trains.
    """

    def __init__(self, model: GAN, device: torch.device) -> None:
        self.model = model.to(device)
        self.step_g, self.step_d = (model.adam.over(networks) for networks in model.trained().values())
        self.g_weights, self.d_weights = list(model.generator.parameters()), list(model.discriminator.parameters())

    def step(self, real: Tensor) -> None:
        """Step D, and then G."""
        model = self.model
        fake = model.generator(model.sample_latents(len(real)))
        real_logits, fake_logits = model.discriminate(real), model.discriminate(fake.detach())
        loss_d = F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()
        loss_d.backward(inputs=self.d_weights)
        self.step_d.step()
        self.step_d.zero_grad(set_to_none=True)
        loss_g = F.softplus(-model.discriminate(fake)).mean()
        loss_g.backward(inputs=self.g_weights)
        self.step_g.step()
        self.step_g.zero_grad(set_to_none=True)


class PlainBiGAN:
    """BiGAN's multi-layer perceptrons: z joined to D's hidden units, networks stepped at once, Adam as torch makes it.

    Args:
        model: Gives the sizes, Adam's settings and the weights to start with, which are copied. Its networks are
            `PermutationInvariantNetworks`.
        device: Where to compute.
    """

    def __init__(self, model: BiGAN, device: torch.device) -> None:
        self.latent_dim, self.device = model.latent_dim, device
        width, pixels = model.encoder.hidden1[0].weight.shape
        self.generator = nn.Sequential(
            nn.Linear(self.latent_dim, width, bias=False),
            nn.ReLU(),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width, affine=False),
            nn.ReLU(),
            nn.Linear(width, pixels, bias=False),
            nn.Sigmoid(),
        )
        self.encoder = nn.Sequential(
            nn.Linear(pixels, width, bias=False),
            nn.LeakyReLU(0.2),
            nn.Linear(width, width, bias=False),
            nn.BatchNorm1d(width, affine=False),
            nn.LeakyReLU(0.2),
            nn.Linear(width, self.latent_dim, bias=False),
            nn.Sigmoid(),
        )
        self.hidden1 = nn.Linear(pixels, width, bias=False)
        self.hidden2 = nn.Linear(width + self.latent_dim, width, bias=False)
        self.norm = nn.BatchNorm1d(width, affine=False)
        self.output = nn.Linear(width + self.latent_dim, 1, bias=False)
        _copy_weights(self.generator, model.generator)
        _copy_weights(self.encoder, model.encoder)
        rows, maps = model.discriminator.rows, model.discriminator.latent_maps
        with torch.no_grad():
            self.hidden1.weight.copy_(rows.hidden1[0].weight)
            self.hidden2.weight.copy_(torch.cat([rows.hidden2[0].weight, maps["hidden2"].weight], dim=1))
            self.output.weight.copy_(torch.cat([rows.output[0].weight, maps["output"].weight], dim=1))
        self.discriminator = nn.ModuleList([self.hidden1, self.hidden2, self.norm, self.output])
        for network in (self.generator, self.encoder, self.discriminator):
            network.to(device)
        self.ge_weights = [*self.generator.parameters(), *self.encoder.parameters()]
        self.d_weights = list(self.discriminator.parameters())
        adam = {"lr": model.adam.learning_rate, "betas": model.adam.betas, "weight_decay": model.adam.weight_decay}
        self.step_ge = torch.optim.Adam(self.ge_weights, **adam)
        self.step_d = torch.optim.Adam(self.d_weights, **adam)

    def discriminate(self, pixels: Tensor, latents: Tensor) -> Tensor:
        """Return D's logits for pairs of pixels in [0, 1] and latents."""
        hidden = F.leaky_relu(self.hidden1(pixels), 0.2)
        hidden = F.leaky_relu(self.norm(self.hidden2(torch.cat([hidden, latents], dim=1))), 0.2)
        return self.output(torch.cat([hidden, latents], dim=1)).squeeze(1)

    def step(self, real: Tensor) -> None:
        """Step G, E and D on the same weights."""
        pixels = (real.flatten(1) + 1) / 2
        latents = 2 * torch.rand(len(real), self.latent_dim, device=self.device) - 1
        real_logits = self.discriminate(pixels, 2 * self.encoder(pixels) - 1)
        fake_logits = self.discriminate(self.generator(latents), latents)
        ones, zeros = torch.ones_like(real_logits), torch.zeros_like(real_logits)
        loss_d = F.binary_cross_entropy_with_logits(real_logits, ones)
        loss_d = loss_d + F.binary_cross_entropy_with_logits(fake_logits, zeros)
        loss_ge = F.binary_cross_entropy_with_logits(fake_logits, ones)
        loss_ge = loss_ge + F.binary_cross_entropy_with_logits(real_logits, zeros)
        gradients_ge = torch.autograd.grad(loss_ge, self.ge_weights, retain_graph=True)
        gradients_d = torch.autograd.grad(loss_d, self.d_weights)
        for optimizer, weights, gradients in (
            (self.step_ge, self.ge_weights, gradients_ge),
            (self.step_d, self.d_weights, gradients_d),
        ):
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.grad = gradient
            optimizer.step()
            optimizer.zero_grad()


class BareSelfExGAN:
    """What the framework's SelfExGAN computes in a step, call for call, without a Trainer around it.

    Args:
        model: The model, whose networks it trains.
        device: Where to compute.
    """

    def __init__(self, model: SelfExGAN, device: torch.device) -> None:
        self.model = model.to(device)
        self.step_d1, self.step_d2, self.step_g, self.step_e = model.configure_optimizers()
        networks = model.discriminator, model.pair_discriminator, model.generator, model.encoder
        self.weights = [list(network.parameters()) for network in networks]

    def step(self, real: Tensor) -> None:
        """Step D1 and D2, and then G and E."""
        model, (d1, d2, g, e) = self.model, self.weights
        made = model.infer(real)
        loss_d1, loss_d2 = model.discriminator_losses(real, made.detach()).values()
        loss_d1.backward(inputs=d1)
        loss_d2.backward(inputs=d2)
        self._step(self.step_d1, self.step_d2)
        matching_loss = losses.matching_loss(*moments(made.latents), model.matching_reduction)
        model.generator_loss(real, made, matching_loss).value.backward(inputs=[*g, *e])
        self._step(self.step_g, self.step_e)

    def _step(self, *optimizers: torch.optim.Optimizer) -> None:
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


@torch.no_grad()
def _copy_weights(plain: nn.Module, ours: nn.Module) -> None:
    """Copy parameters in their order; a layer may be written in another shape."""
    for own, given in zip(plain.parameters(), ours.parameters(), strict=True):
        own.copy_(given.view_as(own))
