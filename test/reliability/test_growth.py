"""The soak's verdict: a leak is seen, noise and steps are not."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from sam_perception.commands.growth import growth_of

TIMES_S = np.linspace(0.0, 900.0, 180)  # a quarter of an hour


def rss(leak_mb_per_min: float = 0.0, seed: int = 0) -> np.ndarray:
    """A process that warms up, breathes by some megabytes with its objects, and leaks as told."""
    rng = np.random.default_rng(seed)
    warm_up = 60 * (1 - np.exp(-TIMES_S / 40))
    return 600 + warm_up + rng.normal(0, 4, len(TIMES_S)) + leak_mb_per_min * TIMES_S / 60


@pytest.mark.parametrize("seed", range(5))
def test_warming_up_and_breathing_is_no_growth(seed: int) -> None:
    found = growth_of("memory", "MB", TIMES_S, rss(seed=seed), 20.0)
    assert not found.grows
    assert "does not grow" in found.sentence
    assert abs(found.growth) < 5


@pytest.mark.parametrize("seed", range(5))
def test_a_leak_is_seen(seed: int) -> None:
    found = growth_of("memory", "MB", TIMES_S, rss(2.5, seed), 20.0)
    assert found.grows
    assert found.slope_per_h == pytest.approx(150, rel=0.2)
    assert found.low_per_h < 150 < found.high_per_h
    assert found.growth == pytest.approx(2.5 * 0.75 * 15, rel=0.2)


def test_one_thread_a_minute_is_seen_and_a_spike_is_not() -> None:
    assert growth_of("threads", "", TIMES_S, np.floor(18 + TIMES_S / 60), 1.0).grows
    spike = np.full(len(TIMES_S), 18.0)
    spike[120:130] = 40
    assert not growth_of("threads", "", TIMES_S, spike, 1.0).grows


def test_a_run_that_is_too_short_has_no_verdict() -> None:
    assert not growth_of("threads", "", TIMES_S[:6], np.arange(6.0), 1.0).grows


def test_the_figures_and_the_plot_are_written(tmp_path: Path) -> None:
    pytest.importorskip("rclpy")
    import cv2

    from sam_perception.commands.soak import growths, write_csv, write_plot
    from sam_perception.ros.soak import Sample

    samples = [
        Sample(t, 3 * i, i % 4, float(m), 18, 23, 36) for i, (t, m) in enumerate(zip(TIMES_S, rss(), strict=True))
    ]
    write_csv(tmp_path / "soak.csv", samples)
    lines = (tmp_path / "soak.csv").read_text().splitlines()
    assert lines[0].split(",") == [f.name for f in dataclasses.fields(Sample)]
    assert len(lines) == 181
    assert [float(x) for x in lines[1].split(",")[4:]] == [18, 23, 36]
    found = growths(samples)
    assert [g.name for g in found] == ["memory", "threads", "file handles", "DDS entities"]
    assert not any(g.grows for g in found)
    write_plot(tmp_path / "soak.png", samples, found)
    picture = cv2.imread(str(tmp_path / "soak.png"))
    assert picture.shape == (1000, 900, 3)
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
