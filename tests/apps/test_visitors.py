"""An owner cannot be invented, and new ones cost something."""

import re
import stat

import pytest

from apps import visitors
from apps.visitors import Allowance, Visitors
from studio.config import Config


@pytest.fixture
def config(tmp_path):
    return Config(home=tmp_path / "home", cache=tmp_path / "cache", mode="kiosk")


def cookie_of(line):
    return {"cookie": line.decode().partition(";")[0]}


def test_a_visitor_is_known_again_also_after_a_restart(config):
    id_, line = Visitors(config).welcome("1.2.3.4", {})
    assert Visitors(config).owner(cookie_of(line)) == id_
    assert stat.S_IMODE((config.home / visitors.KEY).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "change",
    [
        lambda value: "f" * 32 + value[32:],  # another's id with one's own signature
        lambda value: value[:-1] + ("0" if value[-1] != "0" else "1"),
        lambda value: value[:32],
        lambda value: value[:32] + "." + "0" * 64,
        lambda value: "",
    ],
)
def test_an_owner_cannot_be_invented(config, change):
    known = Visitors(config)
    _, line = known.welcome("", {})
    value = re.match(r"studio=([0-9a-f.]+)", line.decode())[1]
    assert known.owner({"cookie": f"studio={change(value)}"}) == ""
    assert known.owner({"cookie": "studio=\"\\777\"; =;;"}) == ""
    assert known.owner({}) == ""


def test_another_home_has_another_key(config, tmp_path):
    _, line = Visitors(config).welcome("", {})
    assert Visitors(config.model_copy(update={"home": tmp_path / "other"})).owner(cookie_of(line)) == ""


def test_no_script_reads_the_cookie_and_no_other_site_sends_it(config):
    flags = Visitors(config).welcome("", {})[1].decode()
    assert "HttpOnly" in flags
    assert "SameSite=Strict" in flags
    space = Visitors(config.model_copy(update={"mode": "space"}))
    framed = space.welcome("", {"x-forwarded-proto": "https"})[1].decode()
    assert "HttpOnly" in framed
    assert "Partitioned" in framed, "a browser keeps no other cookie of a page in another site's frame"


def test_on_ones_own_machine_all_are_local(config):
    assert Visitors(config.model_copy(update={"mode": "local"})).owner({}) == "local"
    assert not (config.home / visitors.KEY).exists()


def test_one_address_cannot_be_a_crowd(config):
    known = Visitors(config)
    assert all(known.welcome("1.2.3.4", {})[0] for _ in range(visitors.NEW_AT_ONCE))
    assert known.welcome("1.2.3.4", {}) == ("", b"")
    assert known.welcome("5.6.7.8", {})[0], "others are still welcome"


def test_only_a_space_believes_what_a_proxy_says(config):
    headers = {"x-forwarded-for": "9.9.9.9, 1.1.1.1"}
    assert Visitors(config).address(("127.0.0.1", 1), headers) == "127.0.0.1"
    assert Visitors(config.model_copy(update={"mode": "space"})).address(("127.0.0.1", 1), headers) == "1.1.1.1"


def test_an_allowance_comes_back(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(visitors.time, "monotonic", lambda: now[0])
    allowance = Allowance(2, 1)
    assert [allowance.take("a") for _ in range(3)] == [0, 0, 1]
    now[0] = 1.0
    assert [allowance.take("a") for _ in range(2)] == [0, 1]
