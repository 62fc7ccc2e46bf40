import pytest

from studio.clock import Clock

DAY = 86_400
START = 1_800_000_000.0


class Time:
    """What the clock shows, and how long the machine has been up."""

    def __init__(self):
        self.real, self.uptime = START, 0.0

    def time(self):
        return self.real

    def monotonic(self):
        return self.uptime

    def wait(self, seconds):
        self.real += seconds
        self.uptime += seconds


@pytest.fixture
def time(monkeypatch):
    time = Time()
    monkeypatch.setattr("studio.clock.time", time)
    return time


def test_time_goes_on(time, tmp_path):
    clock = Clock(tmp_path / "clock.json")
    assert clock.now() == START
    time.wait(30 * DAY)
    assert clock.now() == START + 30 * DAY


def test_a_clock_that_jumps_ahead_while_it_runs_or_before_is_not_believed(time, tmp_path):
    clock = Clock(tmp_path / "clock.json")
    clock.now()
    time.real += 400 * DAY
    time.uptime += 60
    assert clock.now() == START + 60
    assert Clock(tmp_path / "clock.json").now() == START + 60
    time.real = START + 120  # set right again
    assert Clock(tmp_path / "clock.json").now() == START + 120


def test_a_jump_that_lasts_a_day_was_right(time, tmp_path):
    Clock(tmp_path / "clock.json").now()
    time.real += 400 * DAY  # nobody was here for so long
    clock = Clock(tmp_path / "clock.json")
    assert clock.now() == START
    time.real += DAY
    time.uptime = 0.0  # and the machine was started anew
    assert Clock(tmp_path / "clock.json").now() == START + 401 * DAY


def test_a_home_from_before_is_judged_by_its_newest_thing(time, tmp_path):
    time.real += 400 * DAY
    assert Clock(tmp_path / "clock.json", newest=START).now() == START


def test_a_clock_that_goes_back_is_followed(time, tmp_path):
    clock = Clock(tmp_path / "clock.json")
    time.real -= 400 * DAY
    assert clock.now() == START - 400 * DAY


def test_a_damaged_file_does_no_harm(time, tmp_path):
    (tmp_path / "clock.json").write_text("{")
    assert Clock(tmp_path / "clock.json").now() == START
