"""The starter models as things to be compressed: weights by name, outputs on inputs of two kinds, and their quality.

`inputs` "calibrate" decide which layer gets how many bits; "judge" are other ones, by which the result is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from studio.compress import quality
from studio.ops.metrics import Found, Truth
from studio.train import world

MODELS = Path(__file__).resolve().parents[2] / "models"
CALIBRATE, JUDGE = 7_000_000, 8_000_000  # first scenes; no training and no evaluation draws these
Weights = Mapping[str, NDArray[np.float32]]


class Subject(Protocol):
    name: str
    weights: dict[str, NDArray[np.float32]]

    def put(self, changed: Weights) -> None:
        """Uses these arrays in place of its own."""

    def restore(self, names: list[str]) -> None:
        """Its own arrays again."""

    def outputs(self, inputs: str) -> list[NDArray[np.float32]]:
        """What it computes from the "calibrate" or "judge" inputs; lists of one layout."""

    def quality(self) -> tuple[dict[str, float], list[NDArray[np.uint8]]]:
        """Measures against fp32, and pictures to look at. The first call is made with its own weights."""


class TorchSubject:
    """Networks of torch, their arrays under "part.name"."""

    def __init__(self, **parts: torch.nn.Module) -> None:
        self._arrays = {
            f"{part}.{name}": value
            for part, net in parts.items()
            for name, value in net.eval().float().state_dict().items()
            if value.is_floating_point()
        }
        self.weights = {name: value.detach().numpy().copy() for name, value in self._arrays.items()}

    def put(self, changed: Weights) -> None:
        for name, array in changed.items():
            self._arrays[name].copy_(torch.from_numpy(np.ascontiguousarray(array)))

    def restore(self, names: list[str]) -> None:
        self.put({name: self.weights[name] for name in names})


class TextToImage(TorchSubject):
    """UNet and text encoder of the starter pipeline; what they predict, and finished pictures at fixed seeds."""

    name = "text-to-image"

    def __init__(self, prompts: int = 4, steps: int = 12) -> None:
        from studio.nets.torchvision_guard import install

        install()
        from diffusers import StableDiffusionPipeline

        self._pipe = StableDiffusionPipeline.from_pretrained(
            MODELS / "starter-text-to-image", torch_dtype=torch.float32
        )
        self._pipe.set_progress_bar_config(disable=True)
        self._steps, self._prompts = steps, self._captions(JUDGE, prompts)
        super().__init__(unet=self._pipe.unet, text=self._pipe.text_encoder)
        self._inputs = {"calibrate": self._noisy(CALIBRATE, 4), "judge": self._noisy(JUDGE, 6)}
        self._reference: list[NDArray[np.uint8]] = []

    def _captions(self, first: int, count: int) -> list[str]:
        return [world.scene(first + k).caption for k in range(count)]

    @torch.inference_mode()
    def _noisy(self, first: int, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Latents of scenes with noise of all strengths, times, tokens."""
        scenes = [world.scene(first + k) for k in range(count)]
        pixels = torch.from_numpy(np.stack([s.picture for s in scenes])).permute(0, 3, 1, 2).float() / 127.5 - 1
        latents = self._pipe.vae.encode(pixels).latents * self._pipe.vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(first))
        times = torch.linspace(60, 980, count).long()
        captions, longest = [scene.caption for scene in scenes], self._pipe.tokenizer.model_max_length
        padding = {"padding": "max_length", "truncation": True, "max_length": longest, "return_tensors": "pt"}
        tokens = self._pipe.tokenizer(captions, **padding).input_ids
        return self._pipe.scheduler.add_noise(latents, noise, times), times, tokens

    @torch.inference_mode()
    def outputs(self, inputs: str) -> list[NDArray[np.float32]]:
        sample, times, tokens = self._inputs[inputs]
        text = self._pipe.text_encoder(tokens)[0]
        return [self._pipe.unet(sample, times, text).sample.numpy()]

    def quality(self) -> tuple[dict[str, float], list[NDArray[np.uint8]]]:
        seeds = [torch.Generator().manual_seed(k) for k in range(len(self._prompts))]
        made = self._pipe(self._prompts, num_inference_steps=self._steps, guidance_scale=3.0, generator=seeds,
                          output_type="np").images  # fmt: skip
        shown = list((np.nan_to_num(made) * 255).round().astype(np.uint8))
        self._reference = self._reference or shown
        return quality.pictures(self._reference, shown), shown


class Autoencoder(TorchSubject):
    """The starter pipeline's autoencoder: coded and decoded scenes."""

    name = "autoencoder"

    def __init__(self, scenes: int = 24) -> None:
        from studio.nets.torchvision_guard import install

        install()
        from diffusers import AutoencoderTiny

        self._net = AutoencoderTiny.from_pretrained(MODELS / "starter-text-to-image" / "vae").float()
        super().__init__(vae=self._net)
        self._scenes = {
            "calibrate": [world.scene(CALIBRATE + k).picture for k in range(6)],
            "judge": [world.scene(JUDGE + k).picture for k in range(scenes)],
        }

    @torch.inference_mode()
    def outputs(self, inputs: str) -> list[NDArray[np.float32]]:
        pixels = torch.from_numpy(np.stack(self._scenes[inputs])).permute(0, 3, 1, 2).float() / 127.5 - 1
        return [self._net.decode(self._net.encode(pixels).latents).sample.numpy()]

    def quality(self) -> tuple[dict[str, float], list[NDArray[np.uint8]]]:
        made = (np.nan_to_num(self.outputs("judge")[0]).clip(-1, 1).transpose(0, 2, 3, 1) + 1) * 127.5
        shown = list(made.round().astype(np.uint8))
        return quality.coder(self._scenes["judge"], shown), shown[:4]


class Segmenter(TorchSubject):
    """The starter segmenter: features, masks for one click on each thing, and how sure it is of each."""

    name = "segmenter"

    def __init__(self, scenes: int = 16) -> None:
        from studio.train import segmenter

        self._sam = segmenter.load(MODELS / "starter-segmenter")
        super().__init__(sam=self._sam)
        self._cases = {"calibrate": self._drawn(CALIBRATE, 3), "judge": self._drawn(JUDGE, scenes)}
        self._reference: list[NDArray[np.bool_]] = []

    def _drawn(self, first: int, count: int) -> list[tuple[torch.Tensor, torch.Tensor, NDArray[np.bool_], Any]]:
        """Picture, clicks (P, 1, 2), masks (P, H, W) and the picture as it is."""
        from studio.train.asking import innermost, normalised
        from studio.train.photographs import photographs

        found = []
        for number in range(first, first + count):
            scene = world.scene(number, mode="scatter", size=256, photos=photographs())
            pixels = normalised(self._sam, torch.from_numpy(scene.picture)[None], [(256, 256)])
            clicks = torch.from_numpy(np.stack([innermost(mask) for mask in scene.masks]))[:, None]
            found.append((pixels, clicks, scene.masks, scene.picture))
        return found

    @torch.inference_mode()
    def _answer(self, pixels: torch.Tensor, clicks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        from studio.train.asking import Question, answer

        features = self._sam.image_encoder(pixels)
        question = Question(points=clicks, labels=torch.ones(clicks.shape[:2]))
        logits, scores = answer(self._sam, features, self._sam.prompt_encoder.get_dense_pe(), question)
        return features, logits, scores

    def outputs(self, inputs: str) -> list[NDArray[np.float32]]:
        parts = [self._answer(pixels, clicks) for pixels, clicks, _, _ in self._cases[inputs][:4]]
        return [part.numpy() for answer in parts for part in answer]

    def quality(self) -> tuple[dict[str, float], list[NDArray[np.uint8]]]:
        answers: list[NDArray[np.bool_]] = []
        truths: list[NDArray[np.bool_]] = []
        shown = []
        for pixels, clicks, masks, picture in self._cases["judge"]:
            _, logits, scores = self._answer(pixels, clicks)
            best = scores[:, 1:].argmax(1) + 1
            chosen = torch.nn.functional.interpolate(logits, (256, 256), mode="bilinear")[torch.arange(len(best)), best]
            answers += list((chosen > 0).numpy())
            truths += list(masks)
            shown.append(np.where((chosen > 0).numpy().any(0)[..., None], picture, picture // 4))
        self._reference = self._reference or answers
        return quality.masks(self._reference, answers, truths), shown[:4]


class Detector:
    """The starter detector: its ONNX graph with the weights as inputs, so that they can be changed."""

    name = "detector"

    def __init__(self, scenes: int = 48) -> None:
        import onnx
        import onnxruntime as ort

        from studio.train.photographs import photographs

        graph = onnx.load(str(MODELS / "starter-detector" / "model.onnx"))
        arrays = {item.name: onnx.numpy_helper.to_array(item) for item in graph.graph.initializer}
        self.weights = {n: a.astype(np.float32) for n, a in arrays.items() if a.dtype == np.float32 and a.size >= 16}
        kept = [item for item in graph.graph.initializer if item.name not in self.weights]
        del graph.graph.initializer[:]
        graph.graph.initializer.extend(kept)
        for name, array in self.weights.items():
            graph.graph.input.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape))
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
        self._now: dict[str, NDArray[np.float32]] = dict(self.weights)
        draw = {"calibrate": (CALIBRATE, 6), "judge": (JUDGE, scenes)}
        self._scenes = {
            name: [world.scene(first + k, mode="scatter", size=192, photos=photographs()) for k in range(count)]
            for name, (first, count) in draw.items()
        }
        self._reference: list[Found] = []

    def put(self, changed: Weights) -> None:
        self._now.update(changed)

    def restore(self, names: list[str]) -> None:
        self.put({name: self.weights[name] for name in names})

    def _raw(self, picture: NDArray[np.uint8]) -> NDArray[np.float32]:
        image = np.ascontiguousarray(picture.transpose(2, 0, 1)[None]).astype(np.float32) / 255
        answer: NDArray[np.float32] = self._session.run(None, {"images": image, **self._now})[0][0]
        return answer

    def outputs(self, inputs: str) -> list[NDArray[np.float32]]:
        raw = [self._raw(scene.picture) for scene in self._scenes[inputs][:12]]
        return [part for one in raw for part in (one[:4] / 192, one[4:])]

    def quality(self) -> tuple[dict[str, float], list[NDArray[np.uint8]]]:
        from studio.ops.detections import draw
        from studio.train.detector import decode

        found, shown, all_found = [], [], []
        names = np.array(world.DETECTOR_CLASSES)
        for number, scene in enumerate(self._scenes["judge"]):
            boxes, scores, labels = decode(np.nan_to_num(self._raw(scene.picture)))
            all_found.append(Found(boxes, list(names[labels]), scores))
            sure = scores > 0.25
            found.append(Found(boxes[sure], list(names[labels[sure]]), scores[sure]))
            if number < 4:
                data = {"boxes": boxes[sure].tolist(), "labels": found[-1].labels, "scores": scores[sure].tolist()}
                shown.append(draw(scene.picture, data))
        truths = [self._truth(scene) for scene in self._scenes["judge"]]
        self._reference = self._reference or found
        measured = quality.boxes(self._reference, found)
        return {**measured, "map50": quality.boxes(all_found, all_found, truths)["map50"]}, shown

    def _truth(self, scene: Any) -> Truth:
        known = [k for k, label in enumerate(scene.classes) if label is not None]
        return Truth(scene.boxes[known], [scene.classes[k] for k in known])


SUBJECTS: dict[str, type] = {one.name: one for one in (TextToImage, Autoencoder, Segmenter, Detector)}
