"""GGUF: what we write opens in the gguf package and in diffusers, equal within the error of the format."""

import numpy as np
import pytest

from studio.compress.gguf_file import KINDS, read_gguf, write_gguf
from studio.errors import Cancelled, IntegrityError, InvalidTask

gguf = pytest.importorskip("gguf")
# Largest error of a weight, in shares of the largest weight of its block, as the formats have it.
STEP = {"F16": 2**-11, "Q8_0": 0.5 / 127, "Q6_K": 1.3 / 31, "Q5_1": 1 / 31, "Q5_0": 1 / 16, "Q4_1": 1 / 15,
        "Q4_K": 0.3, "Q4_0": 1 / 8}  # fmt: skip
BITS = {"F16": 16, "Q8_0": 8.5, "Q6_K": 6.5625, "Q5_1": 6, "Q5_0": 5.5, "Q4_1": 5, "Q4_K": 4.5, "Q4_0": 4.5}


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(3)
    return {
        "to_q.weight": rng.normal(size=(64, 512)).astype(np.float32),
        "to_q.bias": rng.normal(size=64).astype(np.float32),
        "conv.weight": rng.normal(size=(32, 64, 3, 3)).astype(np.float32),
        "odd.weight": rng.normal(size=(40, 50)).astype(np.float32),
        "token_embedding.weight": rng.normal(size=(100, 64)).astype(np.float32),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_read_back_within_the_error_of_the_format(kind, weights, tmp_path):
    file = tmp_path / "model.gguf"
    written = write_gguf(file, weights, kind, architecture="sd1")
    reader = gguf.GGUFReader(file)
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    assert types["to_q.weight"] == kind
    assert types["to_q.bias"] == "F32"
    assert {types[name] for name in ("conv.weight", "odd.weight", "token_embedding.weight")} == {"F16"}
    assert sum(written.kinds.values()) == 5
    size = next(tensor.n_bytes for tensor in reader.tensors if tensor.name == "to_q.weight")
    assert size * 8 == weights["to_q.weight"].size * BITS[kind]
    for name, back in read_gguf(file).items():
        assert back.shape == weights[name].shape
        limit = STEP[kind if name == "to_q.weight" else "F16"] * np.abs(weights[name]).max()
        assert np.abs(back - weights[name]).max() <= limit * 1.01, name


def test_k_quants_err_less_than_their_plain_neighbours(weights, tmp_path):
    rms = {}
    for kind in KINDS:
        write_gguf(tmp_path / kind, weights, kind, architecture="sd1")
        rms[kind] = np.sqrt(np.square(read_gguf(tmp_path / kind)["to_q.weight"] - weights["to_q.weight"]).mean())
    assert rms["F16"] < rms["Q8_0"] < rms["Q6_K"] < rms["Q5_1"] < rms["Q4_1"]
    assert rms["Q4_K"] < rms["Q4_0"]
    assert rms["Q6_K"] < 0.02


def test_folded_convolutions_come_back_in_shape(weights, tmp_path):
    file = tmp_path / "model.gguf"
    written = write_gguf(file, weights, "Q8_0", architecture="sd1", fold=True)
    assert written.kinds["Q8_0"] == 2
    back = read_gguf(file)
    assert back["conv.weight"].shape == (32, 64, 3, 3)
    assert np.abs(back["conv.weight"] - weights["conv.weight"]).max() < 0.03


def test_diffusers_opens_it(weights, tmp_path):
    pytest.importorskip("torch")
    from studio.nets.torchvision_guard import install

    install()
    from diffusers.models.model_loading_utils import load_gguf_checkpoint
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    for kind in ("Q8_0", "Q6_K", "Q4_1", "Q4_K"):
        file = tmp_path / f"{kind}.gguf"
        write_gguf(file, weights, kind, architecture="sd1")
        mine, theirs = read_gguf(file), load_gguf_checkpoint(str(file))
        for name, tensor in theirs.items():
            plain = dequantize_gguf_tensor(tensor) if hasattr(tensor, "quant_type") else tensor
            near = 4e-3 * np.abs(mine[name]).max()  # diffusers multiplies in fp16
            assert np.abs(plain.float().numpy() - mine[name]).max() <= near, (kind, name)


def test_bad_input(weights, tmp_path):
    def stop(done, total):
        raise Cancelled

    with pytest.raises(InvalidTask, match="no GGUF type"):
        write_gguf(tmp_path / "x.gguf", weights, "Q17_0", architecture="sd1")
    with pytest.raises(Cancelled):
        write_gguf(tmp_path / "x.gguf", weights, "Q8_0", architecture="sd1", tick=stop)
    for bad in (np.nan, 1e30):
        with pytest.raises(IntegrityError, match="to_q"):
            write_gguf(tmp_path / "x.gguf", {"to_q.weight": np.full((32, 32), bad)}, "Q8_0", architecture="sd1")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    with pytest.raises(IntegrityError):
        read_gguf(tmp_path / "cut.gguf")


def test_a_network_of_diffusers_runs_from_it(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from studio.nets.torchvision_guard import install

    install()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from diffusers import GGUFQuantizationConfig, UNet2DConditionModel

    torch.manual_seed(0)
    net = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 64), layers_per_block=1,
        cross_attention_dim=32, attention_head_dim=8, norm_num_groups=8,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    ).eval()  # fmt: skip
    net.save_pretrained(tmp_path / "unet")
    weights = {name: value.numpy() for name, value in net.state_dict().items()}
    written = write_gguf(tmp_path / "unet.gguf", weights, "Q8_0", architecture="sd1")
    config = GGUFQuantizationConfig(compute_dtype=torch.float32)
    read = UNet2DConditionModel.from_single_file(
        str(tmp_path / "unet.gguf"),
        config=str(tmp_path / "unet"),
        quantization_config=config,
        torch_dtype=torch.float32,
    ).eval()
    with torch.inference_mode():
        given = torch.randn(1, 4, 8, 8), torch.tensor([300]), torch.randn(1, 5, 32)
        wanted, got = net(*given).sample, read(*given).sample
    assert written.kinds["Q8_0"] > 20
    assert float((got - wanted).norm() / wanted.norm()) < 0.02
