"""Model packs: what goes in comes out the same elsewhere, and a hostile one leaves nothing behind."""

import io
import json
import os
import tarfile

import pytest

from studio.cards import Card, Source, load_cards
from studio.config import ROOT, Config
from studio.device import Device
from studio.doctor import run_once
from studio.errors import Cancelled, IntegrityError, NotFound, StudioError, UnsafeFile, Unsupported
from studio.studio import Studio
from studio.weights.fetch import Hub
from studio.weights.packs import MANIFEST, pack, read_manifest, unpack
from studio.weights.shipped import seal
from studio.weights.store import Store
from tests.hub import FakeHub
from tests.weights.test_store import SHIPPED, make_card, sam_file

MODELS = ROOT / "models"
REMOTE = make_card("remote", source=Source(kind="hub", repo="o/remote", include=("model.bin8", "sub/config.json")))


def make_store(root, url="http://127.0.0.1:9", offline=True):
    (root / "models" / "shipped").mkdir(parents=True, exist_ok=True)
    (root / "models" / "shipped" / "model.dat").write_bytes(b"shipped" * 100)
    seal(root / "models")
    config = Config(home=root / "home", cache=root / "cache", models=root / "models")
    hub = Hub(offline=offline, cache=root / "hf", endpoint=url, pause=0.01)
    return Store(config, {card.id: card for card in (SHIPPED, REMOTE)}, hub)


@pytest.fixture
def here(tmp_path):
    with FakeHub() as fake:
        fake.add("o/remote", {"model.bin8": os.urandom(5000), "sub/config.json": b"{}"})
        store = make_store(tmp_path / "here", fake.url, offline=False)
        store.pull(REMOTE)
        yield store


@pytest.fixture
def there(tmp_path):
    return make_store(tmp_path / "there")


@pytest.fixture
def file(here, tmp_path):
    own = here.add(sam_file(tmp_path / "sam.safetensors"), title='Äpfel & "Birnen"')
    return pack(here, [REMOTE, own, SHIPPED], tmp_path / "models.pack")


def left(store, tmp_path):
    own = tmp_path / "there" / "home" / "models"
    return sorted(store.cards()), sorted(path.name for path in own.iterdir()) if own.exists() else []


NOTHING = (["remote", "shipped"], [])


def test_a_pack_carries_models_to_a_device_without_a_network(here, there, file):
    assert [card.id for card in read_manifest(file).cards] == ["remote", "sam", "shipped"]
    cards = unpack(there, file)
    assert [card.id for card in cards] == ["remote", "sam", "shipped"]
    assert cards[0] == REMOTE
    assert there.state(REMOTE).status == "ready"
    for card in cards:
        assert there.fingerprint(card) == here.fingerprint(card)
    assert there.cards()["sam"].title == 'Äpfel & "Birnen"'
    assert there.remove(REMOTE) == 5002
    assert there.state(REMOTE).status == "absent"


def test_a_pack_is_the_same_bytes_every_time_and_a_second_unpack_changes_nothing(here, there, file, tmp_path):
    again = pack(here, [REMOTE, here.cards()["sam"], SHIPPED], tmp_path / "again.pack")
    assert again.read_bytes() == file.read_bytes()
    unpack(there, file)
    assert [card.id for card in unpack(there, file)] == ["remote", "sam", "shipped"]
    assert left(there, tmp_path)[1] == ["remote", "sam"]


SHIPS = {card.id: card for card in load_cards(MODELS).values() if card.source.kind == "builtin"}


@pytest.mark.parametrize("card", SHIPS.values(), ids=SHIPS)
def test_every_shipped_model_travels_and_runs_elsewhere(card, tmp_path):
    (tmp_path / "none").mkdir()
    here = Store(
        Config(home=tmp_path / "here", cache=tmp_path / "cache", models=MODELS),
        hub=Hub(offline=True, cache=tmp_path / "hf"),
    )
    file = pack(here, [card], tmp_path / "one.pack")
    away = Config(
        home=tmp_path / "away", cache=tmp_path / "away" / "cache", models=tmp_path / "none", prewarm=False, offline=True
    )
    there = Studio(away, Device("test", 2, 16 * 2**30, "cpu"))
    try:
        (taken,) = unpack(there.store, file)
        assert (taken.id, taken.source.kind) == (card.id, "imported")
        assert there.store.fingerprint(taken) == here.fingerprint(card)
        there.start()
        found = run_once(there, taken)
    finally:
        there.close()
    assert found.ok, found.detail


def test_what_is_not_here_or_has_no_weights_is_not_packed(there, tmp_path):
    with pytest.raises(StudioError, match="not on this device"):
        pack(there, [REMOTE], tmp_path / "x")
    with pytest.raises(Unsupported, match="no weights"):
        pack(there, [make_card("none", source=Source(kind="none"))], tmp_path / "x")
    assert not list(tmp_path.glob("*x*"))
    with pytest.raises(NotFound):
        there.path(make_card("gone", source=Source(kind="imported")))


@pytest.mark.parametrize("part", [0.2, 0.5, 0.8, 0.999])
def test_a_cut_pack_leaves_nothing(there, file, tmp_path, part):
    with tarfile.open(file) as tar:
        last = tar.getmembers()[-1]
        end = last.offset_data + last.size  # only padding follows
    file.write_bytes(file.read_bytes()[: int(end * part)])
    with pytest.raises((IntegrityError, Unsupported)):
        unpack(there, file)
    assert left(there, tmp_path) == NOTHING


def test_a_flipped_bit_leaves_nothing(there, file, tmp_path):
    with tarfile.open(file) as tar:
        place = tar.getmember("remote/model.bin8").offset_data + 100
    data = bytearray(file.read_bytes())
    data[place] ^= 1
    file.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"remote/model\.bin8"):
        unpack(there, file)
    assert left(there, tmp_path) == NOTHING


def test_a_cancelled_unpacking_leaves_nothing(there, file, tmp_path):
    def stop():
        raise Cancelled

    with pytest.raises(Cancelled):
        unpack(there, file, stop)
    assert left(there, tmp_path) == NOTHING


# ── hostile packs ────────────────────────────────────────────────────────────


def hostile(path, files, members=None, cards=None):
    """A pack with a true manifest for `files`, and whatever members."""
    import hashlib

    entries = {name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    card = make_card("evil", source=Source(kind="imported")).model_dump(mode="json")
    manifest = {"format": "image-studio-pack", "version": 1, "cards": cards or [card], "files": entries}
    with tarfile.open(path, "w") as tar:
        add(tar, MANIFEST, json.dumps(manifest).encode())
        for member, data in members if members is not None else [(tarfile.TarInfo(n), d) for n, d in files.items()]:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def add(tar, name, data):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def special(name, kind, target=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


GOOD = {"evil/a.txt": b"a" * 10}
CASES = {
    "parent folder": ({"evil/../../a": b"x"}, None),
    "absolute": ({"/etc/evil": b"x"}, None),
    "other model": ({"shipped/model.dat": b"x"}, None),
    "case clash": ({"evil/a": b"x", "evil/A": b"x"}, None),
    "unicode clash": ({"evil/\u00e9": b"x", "evil/e\u0301": b"x"}, None),
    "symlink": (GOOD, [(special("evil/a.txt", tarfile.SYMTYPE, "/etc/passwd"), b"")]),
    "hard link": (GOOD, [(special("evil/a.txt", tarfile.LNKTYPE, "manifest.json"), b"")]),
    "device": (GOOD, [(special("evil/a.txt", tarfile.CHRTYPE), b"")]),
    "fifo": (GOOD, [(special("evil/a.txt", tarfile.FIFOTYPE), b"")]),
    "folder": (GOOD, [(special("evil/a.txt", tarfile.DIRTYPE), b"")]),
    "twice": (GOOD, [(tarfile.TarInfo("evil/a.txt"), b"a" * 10), (tarfile.TarInfo("evil/a.txt"), b"b" * 10)]),
    "unlisted": (GOOD, [(tarfile.TarInfo("evil/a.txt"), b"a" * 10), (tarfile.TarInfo("evil/b.txt"), b"b")]),
    "unlisted outside": (GOOD, [(tarfile.TarInfo("../../b.txt"), b"b")]),
    "wrong bytes": (GOOD, [(tarfile.TarInfo("evil/a.txt"), b"b" * 10)]),
    "wrong size": (GOOD, [(tarfile.TarInfo("evil/a.txt"), b"a" * 11)]),
    "missing": (GOOD, []),
    "pickle": ({"evil/model.safetensors": b"\x80\x02cos\nsystem\n."}, None),
    "archive": ({"evil/model.safetensors": b"PK\x03\x04rest"}, None),
    "code": ({"evil/model.py": b"print()"}, None),
    "bad safetensors": ({"evil/model.safetensors": b"\xff" * 20}, None),
    "foreign class": ({"evil/model_index.json": b'{"_class_name": "Evil"}'}, None),
}  # fmt: skip


@pytest.mark.parametrize(("files", "members"), CASES.values(), ids=CASES.keys())
def test_a_hostile_pack_leaves_nothing(there, tmp_path, files, members):
    with pytest.raises((UnsafeFile, IntegrityError)):
        unpack(there, hostile(tmp_path / "evil.pack", files, members))
    assert left(there, tmp_path) == NOTHING
    assert there.path(SHIPPED)


POINTERS = (
    {"file": "../../secret"},
    {"lora": [{"path": "/etc/passwd", "scale": 1.0}]},
    {"deep": {"deeper": [["~/secret"]]}},
    {"config": "C:\\models"},
)


@pytest.mark.parametrize("options", POINTERS, ids=str)
def test_a_card_that_points_out_of_its_folder_is_refused(there, tmp_path, options):
    card = make_card("evil", options=options).model_dump(mode="json")
    with pytest.raises(UnsafeFile, match="points out"):
        unpack(there, hostile(tmp_path / "evil.pack", GOOD, cards=[card]))
    assert left(there, tmp_path) == NOTHING


def test_classes_may_be_called_what_looks_like_a_path(there, tmp_path):
    names = ["/m/01g317", "c: drive", ".."]
    card = make_card("evil", source=Source(kind="imported"), options={"names": names}).model_dump(mode="json")
    (found,) = unpack(there, hostile(tmp_path / "fine.pack", GOOD, cards=[card]))
    assert found.options["names"] == names


def test_a_card_that_was_told_where_to_run_is_refused(there, tmp_path):
    card = make_card("evil", options={"fast": {"runtime": "onnxruntime", "folder": "cache"}}).model_dump(mode="json")
    with pytest.raises(UnsafeFile, match="another machine"):
        unpack(there, hostile(tmp_path / "evil.pack", GOOD, cards=[card]))


def test_a_pack_cannot_replace_a_shipped_model(there, tmp_path):
    card = SHIPPED.model_dump(mode="json")
    (found,) = unpack(there, hostile(tmp_path / "x.pack", {"shipped/model.dat": b"other"}, cards=[card]))
    assert found.id == "shipped-2"
    assert (there.path(SHIPPED) / "model.dat").read_bytes() == b"shipped" * 100


def test_a_pack_cannot_bring_other_bytes_than_the_published_ones(tmp_path):
    card = make_card("evil", sha256={"a.txt": "0" * 64})
    store = make_store(tmp_path / "there")
    store._cards["evil"] = card
    with pytest.raises(IntegrityError, match="not the published file"):
        unpack(store, hostile(tmp_path / "x.pack", GOOD, cards=[card.model_dump(mode="json")]))


def test_other_files_are_no_packs(there, tmp_path):
    for data in (b"", b"text", b"\x1f\x8b\x08", b"PK\x03\x04"):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises((Unsupported, IntegrityError)):
            unpack(there, tmp_path / "x")
    with tarfile.open(tmp_path / "y", "w") as tar:
        add(tar, "hello.txt", b"hello")
    with pytest.raises(Unsupported, match="no manifest"):
        unpack(there, tmp_path / "y")
    with tarfile.open(tmp_path / "z", "w") as tar:
        add(tar, MANIFEST, b'{"format": "image-studio-pack", "version": 9}')
    with pytest.raises((Unsupported, IntegrityError)):
        unpack(there, tmp_path / "z")
    assert left(there, tmp_path) == NOTHING


def test_cards_of_a_pack_are_checked(there, tmp_path):
    with pytest.raises(IntegrityError, match="manifest"):
        unpack(there, hostile(tmp_path / "x", GOOD, cards=[{"id": "../evil", "title": "x"}]))
    assert isinstance(SHIPPED, Card)
