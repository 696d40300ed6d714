"""The settings of Fast R-CNN: its training and its test."""

from dataclasses import dataclass

from gan_lightning.errors import above, at_least, below_one, refused

STEPS = 40_000
"""Steps of the author's schedule."""


@dataclass(frozen=True)
class DetectionProtocol:
    """Training and test of Fast R-CNN with AlexNet, as its author's code has it; the BiGAN paper prints no settings.

    Attributes:
        frozen_stages: The first convolutions, which are not trained. The code freezes conv1.
        short_side: Edge to which the shorter side of an image is resized, pixels.
        long_side: Most pixels of the longer side; a longer image is resized to it.
        width: Units of fc6 and of fc7.
        dropout: Probability of leaving out a unit of fc6 or fc7.
        batch_size: Images per step.
        regions: Boxes per step, of all its images.
        object_share: Largest share of objects among them; the others are background.
        flip: Whether half of the images are mirrored in training.
        schedule: Share of the 40,000 steps. The learning rate falls to a tenth after three quarters of them.
        learning_rate: At the start. Biases learn at twice the rate.
        momentum: Share of the last step that is added to the next.
        weight_decay: Coupled ℓ2, on all trained weights.
        overlap: Largest intersection over union of two detections of a class in one image.
        least_score: Least probability of a detection. The code keeps all; most of them come too late to count.
        detections: Most detections in an image.

    Source:
        Girshick 2015, section 2.3, and the settings of models/CaffeNet in its code.
    """

    frozen_stages: int = 1
    short_side: int = 600
    long_side: int = 1000
    width: int = 4096
    dropout: float = 0.5
    batch_size: int = 2
    regions: int = 128
    object_share: float = 0.25
    flip: bool = True
    schedule: float = 1.0
    learning_rate: float = 1e-3
    momentum: float = 0.9
    weight_decay: float = 5e-4
    overlap: float = 0.3
    least_score: float = 0.01
    detections: int = 100

    def __post_init__(self) -> None:
        """Refuse values that do not allow a training."""
        at_least(self, 0, "1 is usual.", frozen_stages=self.frozen_stages)
        at_least(self, 1, "600 is usual.", short_side=self.short_side)
        at_least(self, self.short_side, "1000 is usual; it must not be below short_side.", long_side=self.long_side)
        at_least(self, 1, "4096 is AlexNet's.", width=self.width)
        below_one(self, "0.5 is usual.", dropout=self.dropout, momentum=self.momentum)
        at_least(self, 1, "2 is usual.", batch_size=self.batch_size)
        at_least(self, self.batch_size, "128 is usual; each image needs one.", regions=self.regions)
        if not 0 < self.object_share <= 1:
            raise refused(self, "object_share", "be above 0 and at most 1", self.object_share, "0.25 is usual.")
        above(self, 0, "1 is the author's, 0.01 has 400 steps.", schedule=self.schedule)
        above(self, 0, "0.001 is usual.", learning_rate=self.learning_rate)
        at_least(self, 0, "0.0005 is usual.", weight_decay=self.weight_decay)
        below_one(self, "0.3 is usual.", overlap=self.overlap)
        below_one(self, "0.01 is usual.", least_score=self.least_score)
        at_least(self, 1, "100 is usual.", detections=self.detections)

    @property
    def steps(self) -> int:
        """Number of steps of the training."""
        return max(1, round(STEPS * self.schedule))


DETECTION = DetectionProtocol()
