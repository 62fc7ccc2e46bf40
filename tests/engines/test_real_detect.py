"""The detector engine with real weights on real photographs, against the same network driven by hand."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import onnxruntime as ort
import pytest
from PIL import Image

from studio.cards import Card, Source
from studio.device import probe
from studio.engines.yolo import Yolo
from studio.ops.metrics import Found, Truth, mean_average_precision
from studio.tasks import Detect
from tests.fakes import FakeReport

ID = "0" * 64
COCO_TEXT = (
    "person,bicycle,car,motorcycle,airplane,bus,train,truck,boat,traffic light,fire hydrant,stop sign,"
    "parking meter,bench,bird,cat,dog,horse,sheep,cow,elephant,bear,zebra,giraffe,backpack,umbrella,handbag,"
    "tie,suitcase,frisbee,skis,snowboard,sports ball,kite,baseball bat,baseball glove,skateboard,surfboard,"
    "tennis racket,bottle,wine glass,cup,fork,knife,spoon,bowl,banana,apple,sandwich,orange,broccoli,carrot,"
    "hot dog,pizza,donut,cake,chair,couch,potted plant,bed,dining table,toilet,tv,laptop,mouse,remote,keyboard,"
    "cell phone,microwave,oven,toaster,sink,refrigerator,book,clock,vase,scissors,teddy bear,hair drier,"
    "toothbrush"
)
COCO = COCO_TEXT.split(",")
VOC = {
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "diningtable": "dining table",
    "sofa": "couch",
    "tvmonitor": "tv",
    "pottedplant": "potted plant",
}
CONFIDENCE, IOU = 0.001, 0.6


def load(file: Path, **options) -> Yolo:
    options = {"file": file.name, **options}
    card = Card(
        id="x", title="X", tasks=("detect",), engine="yolo", licence="X", source=Source(kind="none"), options=options
    )
    return Yolo(card, file.parent, probe("cpu"))


def read(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB"))


def truth_of(file: Path) -> Truth:
    things = ElementTree.parse(file).findall("object")
    boxes = [[float(thing.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")] for thing in things]
    labels = [VOC.get(thing.findtext("name"), thing.findtext("name")) for thing in things]
    return Truth(np.array(boxes, np.float32), labels, [thing.findtext("difficult") == "1" for thing in things])


def by_hand(session: ort.InferenceSession, image: np.ndarray) -> Found:
    """YOLOv5's published recipe, sharing no code with the engine: PIL's resizing, OpenCV's suppression."""
    scale = 640 / max(image.shape[:2])
    size = round(image.shape[1] * scale), round(image.shape[0] * scale)
    canvas = np.full((640, 640, 3), 114, np.uint8)
    left, top = (640 - size[0]) // 2, (640 - size[1]) // 2
    canvas[top : top + size[1], left : left + size[0]] = Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)
    table = session.run(None, {"images": canvas.transpose(2, 0, 1)[None].astype(np.float32) / 255})[0][0]
    scores = table[:, 5:] * table[:, 4:5]
    labels, best = scores.argmax(1), scores.max(1)
    kept = best > CONFIDENCE
    boxes, labels, best = table[kept, :4], labels[kept], best[kept]
    boxes[:, :2] -= boxes[:, 2:] / 2 + (left, top)
    boxes /= scale
    order = cv2.dnn.NMSBoxesBatched(boxes, best, labels, CONFIDENCE, IOU)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)[order]
    return Found(corners, [COCO[label] for label in labels[order]], best[order])


@pytest.mark.timeout(900)  # 18 s of one core; a machine that trains beside it may take minutes
def test_yolov5_on_voc(shared_weights, capsys):
    file = shared_weights / "detect" / "yolov5n_640.onnx"
    engine, session = load(file, names=COCO), ort.InferenceSession(str(file))
    truths, ours, theirs = [], [], []
    for annotation in sorted((shared_weights / "detect" / "voc" / "annotations").glob("*.xml")):
        image = read(annotation.parent.parent / "images" / f"{annotation.stem}.jpg")
        task = Detect(image=ID, confidence=CONFIDENCE, iou=IOU, max_detections=1000)
        data = engine.run(task, FakeReport({ID: image})).data
        truths.append(truth_of(annotation))
        ours.append(Found(np.array(data["boxes"], np.float32).reshape(-1, 4), data["labels"], np.array(data["scores"])))
        theirs.append(by_hand(session, image))
    assert len(truths) == 50
    found, expected = mean_average_precision(truths, ours)[0], mean_average_precision(truths, theirs)[0]
    with capsys.disabled():
        print(f" mAP50 {found:.4f}, by hand {expected:.4f}")  # noqa: T201 - the figure is the point
    assert found == pytest.approx(expected, abs=0.01)
    assert found > 0.7


def test_yolov5_finds_what_is_there(shared_weights):
    engine = load(shared_weights / "detect" / "yolov5n_640.onnx", names=COCO)
    image = read(shared_weights / "segment" / "truck.jpg")
    data = engine.run(Detect(image=ID), FakeReport({ID: image})).data
    assert data["labels"][0] in ("truck", "car")
    x1, y1, x2, y2 = data["boxes"][0]
    assert (x2 - x1) * (y2 - y1) > 0.3 * image.shape[0] * image.shape[1]


@pytest.mark.parametrize(("picture", "faces"), [("3.jpg", 5), ("6.jpg", 14)])
def test_ultra_light_faces(shared_weights, picture, faces):
    """The number of faces was counted by eye on the pictures."""
    folder = shared_weights / "faces"
    engine = load(folder / "version-RFB-320.onnx", mean=127, std=128, resize=[240, 320], names=["face"])
    data = engine.run(Detect(image=ID, confidence=0.6), FakeReport({ID: read(folder / picture)})).data
    assert data["labels"] == ["face"] * faces
