"""What an imported ONNX detector is: its outputs, how its input is prepared, and what its classes are called.

Nothing of this is guessed. The engine itself is asked, in a child process, how it reads the outputs; a preparation is
taken from the family that the outputs give away; names are the file's, the user's, or (80 of them) assumed to be COCO's
and said to be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from studio.errors import CardError, InvalidTask, Unsupported
from studio.intake import child
from studio.intake.recognise import Finding

MODULE = "studio.engines.try_yolo"  # found by name, as engines are
FILE = "model.onnx"
MAX_NAMES = 10_000
ULTRA_LIGHT = 4420, 17640  # boxes for 320 x 240 and 640 x 480

_COCO = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
    stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear, zebra, giraffe, backpack,
    umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball, kite, baseball bat, baseball glove,
    skateboard, surfboard, tennis racket, bottle, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich,
    orange, broccoli, carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, dining table, toilet, tv,
    laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase,
    scissors, teddy bear, hair drier, toothbrush"""
COCO = tuple(name.strip() for name in _COCO.split(","))

# Layout that the engine chose -> how the family that writes it prepares its input, and what to call it.
FAMILIES: Mapping[str, tuple[str, dict[str, Any]]] = {
    "yolox": ("YOLOX", {"layout": "yolox", "bgr": True, "std": 1.0, "padding": "corner"}),
    "columns": ("YOLOv8 or later", {}),
    "objectness": ("YOLOv5 or v7", {}),
    "final": ("YOLOv10 or later", {}),
    "query-rows": ("RT-DETR", {"letterbox": False}),
    "query-final": ("RT-DETR", {"letterbox": False}),
    "query-pair": ("RT-DETR or D-FINE", {"letterbox": False}),
    "labelled": ("RT-DETR or D-FINE", {"letterbox": False}),
    "grid-pair": ("Ultra-Light face detector", {"letterbox": False, "mean": 127.0, "std": 128.0, "names": ["face"]}),
}


def finding(facts: Mapping[str, Any], name: str) -> Finding:
    """Takes a network for a detector where its inputs and outputs can be one's. Raises Unsupported with the shapes.

    Args:
        facts: what `inspect_graph` told.
        name: of the file, for the message.
    """
    inputs, outputs = list(facts["inputs"].values()), facts["outputs"]
    is_image = any(len(shape) == 4 and shape[1] in (0, 3) for shape in inputs)
    boxes = [shape for shape in outputs.values() if len(shape) == 3]
    is_named = {"logits", "pred_boxes"} <= set(outputs) or {"labels", "boxes", "scores"} <= set(outputs)
    if not is_image or not (boxes or is_named) or facts["task"] not in ("", "detect"):
        shapes = "; ".join(f"{key} {shape}" for key, shape in outputs.items())
        raise Unsupported(
            f"{name} is a sound ONNX network, but no detector the studio knows (outputs {shapes[:160]}).",
            "Import a detector exported by YOLO, YOLOX, RT-DETR or D-FINE.",
        )
    options = {"file": FILE, **({"names": facts["names"]} if facts["names"] else {})}
    return Finding("onnx-detector", "yolo", ("detect",), "A detector in ONNX.", options)


def settled(found: Finding, folder: Path, names: Sequence[str], tick: Any = None) -> Finding:
    """The finding with everything the engine needs, loaded once to see that it works.

    Args:
        folder: holds the network.
        names: of the classes, from the user; empty where the file has them or nobody knows.

    Raises Unsupported where the outputs can be read in two ways, and what loading raises; CardError for names of
    another number than the network tells apart.
    """
    options = {**found.options, **({"names": list(names)} if names else {})}
    told = json.loads(
        child.run(MODULE, folder.resolve(), json.dumps(options), seconds=120, memory=8 * child.GB, tick=tick)
    )
    layout, count = str(told["layout"]), told["classes"]
    family, prepared = FAMILIES[layout]
    if layout == "columns" and names and len(names) != min(told["table"]) - 4:
        raise CardError(
            f"The network tells {min(told['table']) - 4} classes apart, but {len(names)} names are given.",
            "Give each class its name.",
        )
    if layout == "grid-pair" and (told["table"][0] not in ULTRA_LIGHT or count != 1):
        raise Unsupported(
            f"This detector gives scores and {told['table'][0]} boxes; nothing tells how its input is to be scaled.",
            "Import one exported by YOLO, YOLOX, RT-DETR or D-FINE.",
        )
    text = f"A detector in ONNX, read as {family}."
    if "names" in prepared:
        text += " It finds faces."
    elif told["names"]:
        text += f" It knows {told['names']} classes by name."
    elif count == len(COCO):
        text += " Its file names no classes; its 80 are assumed to be COCO's."
        options["names"] = list(COCO)
    else:
        text += f" Its file names no classes, so its {count or 'classes'} are numbered until you name them."
    return replace(found, summary=text, options={**prepared, **options})


def parse_names(text: str) -> list[str]:
    """Class names: "coco", or one a line, or with commas between. Raises InvalidTask."""
    if text.strip().lower() == "coco":
        return list(COCO)
    names = [name.strip()[:200] for name in (text.splitlines() if "\n" in text.strip() else text.split(","))]
    names = [name for name in names if name]
    if not names or len(names) > MAX_NAMES or len(set(names)) != len(names):
        raise InvalidTask(
            f"These are {len(names)} class names, {len(set(names))} of them different.", "Give each class its own name."
        )
    return names
