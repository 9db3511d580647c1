"""Reports: what is on the page, that the video plays, and what is said when the folder is not fit."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from fakes_io import FakePerception, make_frame, run
from tabletop import TARGET_ID, frame_at, scene_with_all

from sam_perception.config import GraspConfig
from sam_perception.errors import SinkError
from sam_perception.prompts import BoxPrompt
from sam_perception.scene import ObstacleKind
from sam_perception.sinks.history import RunHistory
from sam_perception.sinks.report import ReportSink
from sam_perception.sinks.svg import Series, line_plot, nice_ticks
from sam_perception.sinks.video import VideoWriter

FRAMES = 20


def write_report(path: Path, frames: int = FRAMES, *, independent: bool = False) -> ReportSink:
    perception = FakePerception()
    perception.prompt(BoxPrompt(3, (10, 20, 30, 40), label="red <b>"))
    perception.prompt(BoxPrompt(12, (50, 5, 60, 15)))
    with ReportSink(path, title="A & B", source="test", independent=independent) as report:
        for frame, scene in run((make_frame(i) for i in range(frames)), perception):
            report.write(frame, scene)
        report.add_table("Against truth", ("object", "IoU"), [("3 red", "0.91")])
        report.note("2 frames rejected")
    return report


class Page(HTMLParser):
    """Text and links; fails on tags that do not close."""

    VOID = ("meta", "img", "br", "path", "rect", "circle")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        assert tag in self.VOID

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_shows_each_object_and_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    write_report(tmp_path / "report")
    text = (tmp_path / "report/index.html").read_text(encoding="utf-8")
    page = Page(text)
    shown = " ".join(page.texts)
    for wanted in ("3 red <b>", "12", "Against truth", "0.91", "2 frames rejected", "A & B", "occluded", "frame 0"):
        assert wanted in shown
    assert page.links
    for link in page.links:
        assert (tmp_path / "report" / link).is_file()
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    assert text.count("<svg") == 4 + 1 + 1 + 2 * 3  # legend, states, map, three axes per object


def test_the_video_has_every_frame_at_its_time(tmp_path: Path) -> None:
    write_report(tmp_path / "report")
    with av.open(str(tmp_path / "report/overlay.mp4")) as container:
        stream = container.streams.video[0]
        frames = list(container.decode(stream))
        times = [float(frame.time) for frame in frames]
        assert stream.codec_context.name in ("h264", "vp9", "libdav1d", "av1")
        assert stream.codec_context.pix_fmt == "yuv420p"
    np.testing.assert_allclose(times, np.arange(FRAMES) / 15, atol=2e-3)
    red = frames[0].to_ndarray(format="rgb24")[30, 20]
    assert red[0] > red[2] + 40


def test_video_of_odd_size_and_stamps_that_go_back(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "odd.mp4", 33, 17)
    for stamp in (0, 10**8, 0, 10**8):
        writer.write(np.full((17, 33, 3), 120, np.uint8), stamp)
    writer.close()
    with av.open(str(tmp_path / "odd.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert len(times) == 4
    assert times == sorted(set(times))


def test_the_states_add_up() -> None:
    history, perception = RunHistory(), FakePerception()
    perception.prompt(BoxPrompt(3, (10, 20, 30, 40)))
    for _, scene in run((make_frame(i) for i in range(FRAMES)), perception):
        history.add(scene)
    one = history.objects[3]
    assert (len(one.frames), one.longest_gap()) == (FRAMES, 3)
    assert sum(state.visible for state in one.states) == FRAMES - 3
    assert np.isnan(one.centroids_m[6]).all()
    np.testing.assert_allclose(one.sigmas_m[0], 1e-3)
    np.testing.assert_allclose(history.seconds()[-1], (FRAMES - 1) / 15, atol=1e-6)


def test_long_runs_keep_a_limited_number_of_pictures(tmp_path: Path) -> None:
    write_report(tmp_path / "report", 80)
    pictures = sorted((tmp_path / "report/pictures").glob("*.jpg"))
    assert 10 <= len(pictures) <= 24
    steps = np.diff([int(re.findall(r"\d+", p.name)[0]) for p in pictures])
    assert len(set(steps)) == 1
    assert cv2.imread(str(pictures[0])).shape == (60, 80, 3)


def test_separate_scenes_all_have_a_picture_and_no_path(tmp_path: Path) -> None:
    write_report(tmp_path / "report", 30, independent=True)
    assert len(list((tmp_path / "report/pictures").glob("*.jpg"))) == 30
    text = (tmp_path / "report/index.html").read_text()
    assert "Tracks from above" not in text
    assert "scene 7: 3 red" in text


def test_an_earlier_report_is_replaced_other_files_are_not(tmp_path: Path) -> None:
    write_report(tmp_path / "report", 40)
    write_report(tmp_path / "report", 2)
    assert len(list((tmp_path / "report/pictures").glob("*.jpg"))) == 2
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("do not touch")
    with pytest.raises(SinkError, match="holds other files"):
        ReportSink(tmp_path / "thesis", title="", source="")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SinkError, match="cannot be written"):
        ReportSink(tmp_path / "file", title="", source="")


@pytest.mark.parametrize("independent", [False, True])
def test_grasps_and_obstacles_are_shown_where_there_are_any(tmp_path: Path, independent: bool) -> None:
    full = scene_with_all()
    ungraspable = replace(full, grasp_targets=(), grasp_reasons={TARGET_ID: "too <wide>"})
    with ReportSink(tmp_path, title="t", source="s", independent=independent, grasps=GraspConfig()) as report:
        for second, scene in enumerate((full, ungraspable, ungraspable)):
            report.write(frame_at(second * 10**9), replace(scene, stamp_ns=second * 10**9))
    page = Page((tmp_path / "index.html").read_text())
    assert "Grasps and obstacles" in page.texts
    assert "too <wide>" in page.texts
    if not independent:
        assert "1 of 3" in page.texts
        assert f"{full.grasp_targets[0].score:.2f}" in page.texts
    assert ("scene 2: 4 box" in page.texts) == independent
    assert "Ground seen in 3 of 3 frames" in " ".join(page.texts)
    (thing,) = [o for o in full.obstacles if o.kind is ObstacleKind.OBSTACLE]
    assert f"{thing.distance_m:.3f} m" in page.texts
    assert len([link for link in page.links if "pictures/scene_" in link]) == 3
    assert all((tmp_path / link).is_file() for link in page.links)


def test_a_run_without_frames_still_has_a_page(tmp_path: Path) -> None:
    with ReportSink(tmp_path / "report", title="nothing", source=""):
        pass
    Page((tmp_path / "report/index.html").read_text())


def test_a_run_that_fails_says_so_on_its_page(tmp_path: Path) -> None:
    def fail_halfway() -> None:
        with ReportSink(tmp_path / "report", title="t", source="s"):
            raise ZeroDivisionError("at frame 3")

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert "ended early: ZeroDivisionError: at frame 3" in (tmp_path / "report/index.html").read_text()


@pytest.mark.parametrize(
    ("low", "high", "ticks"), [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-3, 7, [-2, 0, 2, 4, 6]), (5, 5, [5])]
)
def test_ticks_are_round(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == ticks


def test_gaps_break_lines_and_lone_values_are_dots() -> None:
    y = np.array([1.0, 2.0, np.nan, 3.0, np.nan, 1.0, 1.5])
    plot = line_plot("t", "s", [Series("a", "#fff", np.arange(7.0), y, np.full(7, 0.1))])
    assert plot.count('class="line"') == 2
    assert plot.count("<circle") == 1
    assert plot.count('class="band"') == 3
