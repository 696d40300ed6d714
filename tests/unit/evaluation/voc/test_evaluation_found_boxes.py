"""Which detections are right by VOC's rule, against cases by hand and an independent implementation."""

from pathlib import Path

import pytest
import torch

from gan_lightning.errors import DataError
from gan_lightning.evaluation.voc.average_precision import average_precision
from gan_lightning.evaluation.voc.detection import measured_classes, precisions_of
from gan_lightning.evaluation.voc.devkit import BoxedImage
from gan_lightning.evaluation.voc.found_boxes import Detections, judged

SQUARE, OTHER = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0)
HALF = (0.0, 0.0, 10.0, 5.0)  # an intersection over union of 0.5 with SQUARE
LESS = (0.0, 0.0, 10.0, 4.9)


def image(*objects: tuple[tuple[float, ...], int, bool]) -> BoxedImage:
    boxes, labels, difficult = zip(*objects, strict=True) if objects else ((), (), ())
    return BoxedImage(
        Path("000001.jpg"),
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(difficult, dtype=torch.bool),
    )


def found(*detections: tuple[tuple[float, ...], int, float]) -> Detections:
    boxes, labels, scores = zip(*detections, strict=True) if detections else ((), (), ())
    return Detections(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(scores, dtype=torch.float32),
    )


def test_half_an_overlap_is_enough_and_less_is_wrong():
    verdict = judged([image((SQUARE, 0, False))] * 2, [found((HALF, 0, 0.9)), found((LESS, 0, 0.8))], 0)
    assert verdict.right.tolist() == [True, False]
    assert verdict.objects == 2


def test_a_second_detection_of_an_object_is_wrong_even_if_it_fits_better():
    verdict = judged([image((SQUARE, 0, False))], [found((SQUARE, 0, 0.3), (HALF, 0, 0.9))], 0)
    assert verdict.right.tolist() == [True, False]
    assert verdict.scores.tolist() == pytest.approx([0.9, 0.3])


def test_a_difficult_object_neither_counts_nor_makes_its_detections_wrong():
    own = [image((SQUARE, 0, True), (OTHER, 0, False))]
    verdict = judged(own, [found((SQUARE, 0, 0.9), (SQUARE, 0, 0.8), (OTHER, 0, 0.7))], 0)
    assert (verdict.right.tolist(), verdict.objects) == ([True], 1)


def test_other_classes_other_images_and_empty_ones_are_no_help():
    images = [image((SQUARE, 0, False), (OTHER, 1, False)), image()]
    verdict = judged(images, [found((OTHER, 0, 0.9), (SQUARE, 1, 0.8)), found((SQUARE, 0, 0.95))], 0)
    assert (verdict.right.tolist(), verdict.objects) == ([False, False], 1)
    assert verdict.scores.tolist() == pytest.approx([0.95, 0.9])


def test_the_average_precisions_of_a_case_by_hand():
    """Right, wrong, right, of 4 objects: precisions 1 and 2/3 at the recalls 1/4 and 1/2."""
    images = [image((SQUARE, 5, False), (OTHER, 5, False))] * 2
    detections = [found((SQUARE, 5, 0.9), (LESS, 5, 0.8)), found((OTHER, 5, 0.7))]
    by_area = precisions_of(images, detections, {5: "bus"}, "area")["bus"]
    by_points = precisions_of(images, detections, {5: "bus"}, "11_points")["bus"]
    assert by_area == pytest.approx(1 / 4 + 2 / 3 / 4)
    assert by_points == pytest.approx((3 * 1 + 3 * 2 / 3) / 11)  # recalls 0, .1, .2, then .3, .4, .5
    assert precisions_of(images, [found(), found()], {5: "bus"}, "area") == {"bus": 0.0}


def test_without_difficult_objects_and_duplicates_it_is_what_cocos_program_finds():
    """COCO's precisions are the highest at each recall or a larger one, at 101 recalls; ours are interpolated alike."""
    pycocotools = pytest.importorskip("pycocotools.cocoeval", reason="needs pycocotools")
    from pycocotools.coco import COCO

    rng = torch.Generator().manual_seed(0)
    images, detections = [], []
    for _ in range(40):
        corners = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]]) + 5 * torch.rand(3, 2, generator=rng)
        boxes = torch.cat([corners, corners + 20 + 20 * torch.rand(3, 2, generator=rng)], dim=1)
        shifted = boxes + 14 * torch.rand(3, 1, generator=rng)
        images.append(image(*((tuple(box), 0, False) for box in boxes.tolist())))
        scores = torch.rand(3, generator=rng).tolist()
        detections.append(found(*((tuple(b), 0, s) for b, s in zip(shifted.tolist(), scores, strict=True))))
    verdict = judged(images, detections, 0)
    assert 0.3 < verdict.right.float().mean() < 0.9

    def annotation(number: int, at: int, box: list[float]) -> dict:
        left, top, right, bottom = box
        wide, high = right - left, bottom - top
        place = {"bbox": [left, top, wide, high], "area": wide * high, "iscrowd": 0}
        return {"id": number, "image_id": at, "category_id": 1, **place}

    pairs = [(at, box) for at, each in enumerate(images, start=1) for box in each.boxes.tolist()]
    truth = COCO()
    truth.dataset = {
        "info": {},
        "images": [{"id": at} for at in range(1, 41)],
        "categories": [{"id": 1}],
        "annotations": [annotation(number, *pair) for number, pair in enumerate(pairs, start=1)],
    }
    truth.createIndex()
    results = [
        {**annotation(0, at, box), "score": score}
        for at, each in enumerate(detections, start=1)
        for box, score in zip(each.boxes.tolist(), each.scores.tolist(), strict=True)
    ]
    program = pycocotools.COCOeval(truth, truth.loadRes(results), "bbox")
    program.params.iouThrs = program.params.iouThrs[:1]
    program.evaluate()
    program.accumulate()
    theirs = program.eval["precision"][0, :, 0, 0, 2]
    assert average_precision(verdict.scores, verdict.right, "area", positives=120) == pytest.approx(
        theirs.mean(), abs=0.02
    )
    assert average_precision(verdict.scores, verdict.right, "11_points", positives=120) == pytest.approx(
        theirs[::10].mean(), abs=1e-6
    )


def test_a_class_that_either_list_lacks_is_named_with_the_reason():
    train = [image((SQUARE, 0, False), (OTHER, 1, True), (OTHER, 2, False))]
    test = [image((SQUARE, 0, False), (OTHER, 1, False))]
    classes = measured_classes(train, test)
    assert [kind for kind, why in classes.items() if not why] == ["aeroplane"]
    assert classes["bicycle"] == "no training image has it"
    assert classes["bird"] == "no test image has it"
    with pytest.raises(DataError, match=r"^Detection needs a class with objects to train on and to find, got none\."):
        measured_classes(train, [image()])
