"""Framesets of the real SDK as frames: units, alignment, lens models, filters, what does not belong together."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from fake_realsense import HEIGHT, PERIOD_MS, START_MS, WIDTH, SoftwareCamera, intrinsics, sdk

from sam_perception.errors import FrameError, InvalidIntrinsics, StampError, UnsupportedEncoding
from sam_perception.frame import CameraIntrinsics, DistortionModel
from sam_perception.geometry import deproject_mask, project
from sam_perception.sources.realsense_config import FilterConfig, RealSenseConfig
from sam_perception.sources.realsense_frames import FrameMaker, depth_in_metres, intrinsics_of

# As calibrations of RealSense colour cameras have them, and of a fisheye.
LENSES = {
    "none": (0.0,) * 5,
    "brown_conrady": (0.1, -0.2, 0.003, -0.002, 0.05),
    "inverse_brown_conrady": (-0.0565, 0.0682, 0.00037, 0.00069, -0.0218),
    "kannala_brandt4": (0.05, -0.02, 0.01, -0.003, 0.0),
}


class Bench:
    """A camera, its pipeline, and what makes frames of it."""

    def __init__(self, camera: SoftwareCamera, config: RealSenseConfig | None = None) -> None:
        self.camera, self.pipeline = camera, camera.pipeline()
        self.maker = FrameMaker(sdk(), config or RealSenseConfig())

    def frameset(self, number: int = 1, **pushed):
        return self.camera.frameset(self.pipeline, number, **pushed)

    def frame(self, number: int = 1, **pushed):
        return self.maker.make(self.frameset(number, **pushed))


@pytest.fixture
def bench() -> Iterator:
    made: list[Bench] = []

    def make(camera: SoftwareCamera | None = None, **config) -> Bench:
        made.append(Bench(camera or SoftwareCamera(), RealSenseConfig(**config)))
        return made[-1]

    yield make
    for one in made:
        one.pipeline.stop()


@pytest.mark.parametrize("unit_m", [0.001, 0.0001, 0.00025])
def test_depth_units_of_every_family(bench, unit_m: float) -> None:
    depth = np.full((HEIGHT, WIDTH), round(0.75 / unit_m), np.uint16)
    frame = bench(SoftwareCamera(depth_unit_m=unit_m)).frame(depth=depth)
    assert frame.depth_m.dtype == np.float32
    assert frame.depth_m[HEIGHT // 2, WIDTH // 2] == np.float32(0.75)
    assert set(np.unique(frame.depth_m)) <= {np.float32(0.0), np.float32(0.75)}  # 0 where depth does not reach


def test_units_are_rounded_once_and_never_guessed() -> None:
    units = np.arange(65536, dtype=np.uint16)
    exact = units / 10_000  # float64
    np.testing.assert_array_equal(depth_in_metres(units, float(np.float32(0.0001))), exact.astype(np.float32))
    odd = depth_in_metres(units, 0.00123)  # no whole number of units makes a metre
    np.testing.assert_allclose(odd, units * 0.00123, rtol=1e-7)
    with pytest.raises(FrameError, match=r"depth unit is 0\.0 m"):
        depth_in_metres(units, 0.0)


def random_depth() -> np.ndarray:
    return np.random.default_rng(4).integers(300, 4000, (HEIGHT, WIDTH)).astype(np.uint16)


def points_of(frame) -> np.ndarray:
    """(H * W, 3), every pixel."""
    return deproject_mask(frame.intrinsics, frame.depth_m, np.ones(frame.depth_m.shape, np.bool_))


def test_points_are_those_of_librealsenses_own_point_cloud(bench) -> None:
    # Of a camera without distortion: the SDK's cloud block leaves Brown-Conrady and fisheye lenses out, and
    # bends the inverse model the other way than the SDK's projection (and so its alignment) does.
    rs = sdk()
    used = bench(SoftwareCamera())
    frames = used.frameset(depth=random_depth())
    frame = used.maker.make(frames)
    theirs = rs.pointcloud().calculate(rs.align(rs.stream.color).process(frames).get_depth_frame())
    vertices = np.asanyarray(theirs.get_vertices()).view(np.float32).reshape(-1, 3)
    seen = frame.depth_m.reshape(-1) > 0
    assert seen.mean() > 0.8
    assert np.abs(points_of(frame)[seen] - vertices[seen]).max() < 1e-4  # metres


@pytest.mark.parametrize("model", LENSES)
def test_points_are_what_librealsense_deprojects(bench, model: str) -> None:
    given = intrinsics(WIDTH, HEIGHT, 150.0, model, LENSES[model])
    frame = bench(SoftwareCamera(color=given)).frame(depth=random_depth())
    points = points_of(frame).reshape(HEIGHT, WIDTH, 3)
    measured = np.argwhere(frame.depth_m > 0)
    assert len(measured) > 0.75 * HEIGHT * WIDTH
    for v, u in measured[::7]:
        expected = sdk().rs2_deproject_pixel_to_point(given, [float(u), float(v)], float(frame.depth_m[v, u]))
        np.testing.assert_allclose(points[v, u], expected, atol=1e-4)


@pytest.mark.parametrize("corner", [(16, 16), (205, 16), (16, 285), (205, 285)])
@pytest.mark.parametrize("model", LENSES)
def test_points_lie_where_the_depth_camera_sees_them(bench, model: str, corner: tuple[int, int]) -> None:
    """The whole way onto a distorted colour image and back, against the undistorted depth camera's own cloud."""
    rs = sdk()
    width, height = 320, 240
    color, depth_camera = intrinsics(width, height, 300.0, model, LENSES[model]), intrinsics(width, height, 280.0)
    used = bench(SoftwareCamera(color=color, depth=depth_camera, translation_m=(0.01, 0.0, 0.0)))
    depth = np.full((height, width), 2000, np.uint16)
    plate = np.s_[corner[0] : corner[0] + 19, corner[1] : corner[1] + 19]
    depth[plate] = 1000
    frames = used.frameset(depth=depth)
    frame = used.maker.make(frames)
    vertices = np.asanyarray(rs.pointcloud().calculate(frames.get_depth_frame()).get_vertices())
    native = vertices.view(np.float32).reshape(height, width, 3)[plate].reshape(-1, 3) + np.array([0.01, 0, 0])
    points = points_of(frame)[frame.depth_m.reshape(-1) == 1.0]
    # A pixel is 3.3 mm there. What `rs.align` gives is 4 to 10 mm off with these lenses, 70 mm with the fisheye.
    np.testing.assert_allclose(points.mean(axis=0), native.mean(axis=0), atol=0.0025)


@pytest.mark.parametrize("model", LENSES)
def test_depth_comes_to_lie_on_the_colour_pixel_that_sees_it(bench, model: str) -> None:
    color = intrinsics(WIDTH, HEIGHT, 150.0, model, LENSES[model])
    camera = SoftwareCamera(color=color, translation_m=(0.04, -0.01, 0.0))
    depth = np.full((HEIGHT, WIDTH), 2000, np.uint16)
    depth[50:59, 60:69] = 500  # around depth pixel (64, 54)
    frame = bench(camera).frame(depth=depth)
    near = np.argwhere(np.abs(frame.depth_m - 0.5) < 1e-6)
    d = camera.depth_intrinsics
    point = 0.5 * np.array([(64 - d.ppx) / d.fx, (54 - d.ppy) / d.fy, 1.0]) + [0.04, -0.01, 0.0]
    expected = project(frame.intrinsics, point[None])[0]
    np.testing.assert_allclose(near.mean(axis=0)[::-1], expected, atol=0.5)  # pixels


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("none", DistortionModel.NONE),
        ("brown_conrady", DistortionModel.PLUMB_BOB),
        ("inverse_brown_conrady", DistortionModel.INVERSE_BROWN_CONRADY),
        ("modified_brown_conrady", DistortionModel.INVERSE_BROWN_CONRADY),
        ("kannala_brandt4", DistortionModel.EQUIDISTANT),
    ],
)
def test_lens_models_project_as_librealsense_does(theirs: str, ours: DistortionModel) -> None:
    coefficients = LENSES.get(theirs, LENSES["brown_conrady"])
    given = intrinsics(WIDTH, HEIGHT, 150.0, theirs, coefficients)
    camera = intrinsics_of(Profile(given))
    assert camera.distortion_model is ours
    points = np.random.default_rng(5).uniform([-0.4, -0.3, 0.8], [0.4, 0.3, 2.0], (200, 3))
    expected = [sdk().rs2_project_point_to_pixel(given, list(point)) for point in points]
    np.testing.assert_allclose(project(camera, points), expected, atol=1e-3)


class Profile:
    """A stream profile with these intrinsics."""

    def __init__(self, given) -> None:
        self.given = given

    def as_video_stream_profile(self):
        return self

    def get_intrinsics(self):
        return self.given


def test_a_polynomial_without_coefficients_is_no_distortion_but_a_fisheye_is() -> None:
    assert intrinsics_of(Profile(intrinsics(8, 8, 9.0, "inverse_brown_conrady"))).distortion_model is (
        DistortionModel.NONE
    )
    assert intrinsics_of(Profile(intrinsics(8, 8, 9.0, "kannala_brandt4"))).distortion_model is (
        DistortionModel.EQUIDISTANT
    )


def test_a_lens_model_without_counterpart_is_refused() -> None:
    with pytest.raises(InvalidIntrinsics, match="lens model is ftheta"):
        intrinsics_of(Profile(intrinsics(8, 8, 9.0, "ftheta", (0.9, 0, 0, 0, 0))))


def test_colour_stays_as_it_is_and_intrinsics_are_the_colour_cameras(bench) -> None:
    color = np.random.default_rng(6).integers(0, 256, (96, 128, 3)).astype(np.uint8)
    camera = SoftwareCamera(color=intrinsics(128, 96, 110.0))  # of another size than depth
    frame = bench(camera, camera_name="wrist").frame(color=color)
    np.testing.assert_array_equal(frame.rgb, color)
    assert frame.depth_m.shape == (96, 128)
    assert frame.intrinsics == CameraIntrinsics(128, 96, 110.0, frame.intrinsics.fy, 65.25, 45.5)
    assert frame.intrinsics.fy == pytest.approx(0.99 * 110.0)
    assert frame.frame_id == "wrist_color_optical_frame"


def test_a_frame_keeps_its_picture_when_the_sdk_reuses_the_buffer(bench) -> None:
    used = bench()
    first = used.frame(1, color=np.full((HEIGHT, WIDTH, 3), 7, np.uint8))
    for number in range(2, 60):
        used.frame(number, color=np.full((HEIGHT, WIDTH, 3), 200, np.uint8))
    assert (first.rgb == 7).all()


def test_bgr_and_yuyv_become_rgb(bench) -> None:
    bgr = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    bgr[..., 0] = 250
    np.testing.assert_array_equal(bench(SoftwareCamera(color_format="bgr8")).frame(color=bgr).rgb[5, 5], [0, 0, 250])
    red = np.tile(np.array([81, 90, 81, 240], np.uint8), (HEIGHT, WIDTH // 2))  # BT.601: Y U Y V of pure red
    rgb = bench(SoftwareCamera(color_format="yuyv")).frame(color=red).rgb[5, 5]
    np.testing.assert_allclose(rgb, [255, 0, 0], atol=3)


def test_a_colour_format_that_cannot_be_read_is_refused(bench) -> None:
    with pytest.raises(UnsupportedEncoding, match="colour comes as y16"):
        bench(SoftwareCamera(color_format="y16")).frame()


def test_stamps_are_the_colour_cameras_and_metadata_comes_along(bench) -> None:
    used = bench()
    rs = sdk()
    used.camera.color_sensor.set_metadata(rs.frame_metadata_value.actual_exposure, 8500)
    frame = used.frame(3, stamp_ms=START_MS + 100.25, depth_stamp_ms=START_MS + 98.0)
    assert frame.stamp_ns == 1_700_000_000_100_250_000
    assert used.maker.metadata == {"actual_exposure": 8500}


def test_a_hardware_clock_uses_the_arrival_that_the_camera_reports(bench) -> None:
    used = bench()
    used.camera.color_sensor.set_metadata(sdk().frame_metadata_value.time_of_arrival, int(START_MS))
    frame = used.frame(1, stamp_ms=5000.0, domain="hardware_clock")
    assert frame.stamp_ns == int(START_MS) * 10**6


def test_pictures_that_were_not_taken_together_are_refused(bench) -> None:
    used = bench()
    used.frame(1)
    # The SDK pairs a late depth image with the newest colour image that it has.
    frames = used.frameset(2, depth_stamp_ms=START_MS + 2 * PERIOD_MS - 200)
    with pytest.raises(FrameError, match=r"colour and depth are 0\.\d+ s apart, 0\.02 s are allowed"):
        used.maker.make(frames)


def test_a_repeated_picture_is_known_and_a_stamp_that_goes_back_refused(bench) -> None:
    used = bench()
    frames = used.frameset(1)
    assert used.maker.is_new(frames)
    used.maker.make(frames)
    assert not used.maker.is_new(frames)
    with pytest.raises(StampError, match="repeated"):
        used.maker.make(frames)
    with pytest.raises(StampError, match=r"33\.3 ms older"):
        used.frame(2, stamp_ms=START_MS, depth_stamp_ms=START_MS)
    assert used.frame(3).stamp_ns == pytest.approx((START_MS + 100) * 1e6)


class TestFilters:
    def depth_with_a_hole(self) -> np.ndarray:
        depth = np.full((HEIGHT, WIDTH), 1500, np.uint16)
        depth[40:44, 60:64] = 0
        depth[:, 100:] = 6000
        return depth

    def frame(self, bench, **filters):
        camera = SoftwareCamera(color=intrinsics(WIDTH, HEIGHT, 140.0), translation_m=(0.0, 0.0, 0.0))
        return bench(camera, filters=FilterConfig(**filters)).frame(depth=self.depth_with_a_hole())

    def test_without_filters_depth_is_what_the_camera_measured(self, bench) -> None:
        np.testing.assert_array_equal(self.frame(bench).depth_m, (self.depth_with_a_hole() / 1000).astype(np.float32))

    def test_threshold_drops_what_is_far(self, bench) -> None:
        depth_m = self.frame(bench, threshold=True, threshold_max_m=3.0).depth_m
        assert not depth_m[:, 101:].any()
        assert (depth_m[:30, :90] == 1.5).all()

    def test_hole_filling_fills(self, bench) -> None:
        assert self.frame(bench).depth_m[42, 62] == 0
        assert self.frame(bench, hole_filling=True, hole_filling_mode=2).depth_m[42, 62] == 1.5

    def test_decimation_leaves_colours_size(self, bench) -> None:
        frame = self.frame(bench, decimation=2)
        assert frame.depth_m.shape == frame.rgb.shape[:2] == (HEIGHT, WIDTH)
        assert frame.depth_m[20, 20] == 1.5

    def test_smoothing_smooths(self, bench) -> None:
        camera = SoftwareCamera(color=intrinsics(WIDTH, HEIGHT, 140.0), translation_m=(0.0, 0.0, 0.0))
        random = np.random.default_rng(7)
        noisy = [(1000 + random.normal(0, 4, (HEIGHT, WIDTH))).astype(np.uint16) for _ in range(8)]
        rough = bench(camera)
        smooth = bench(SoftwareCamera("2", color=camera.color_intrinsics, translation_m=(0.0, 0.0, 0.0)),
                       filters=FilterConfig(spatial=True, temporal=True))  # fmt: skip
        for number, depth in enumerate(noisy, 1):
            before, after = rough.frame(number, depth=depth), smooth.frame(number, depth=depth)
        middle = np.s_[20:100, 20:140]
        assert after.depth_m[middle].std() < 0.6 * before.depth_m[middle].std()
        assert abs(after.depth_m[middle].mean() - 1.0) < 0.002


def test_what_the_sdk_cannot_process_is_refused_with_its_reason(bench, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def process(self, _frames):
            raise RuntimeError("Frame is not valid")

    used = bench()
    monkeypatch.setattr(used.maker, "_filters", (Broken(),))
    with pytest.raises(FrameError, match="Frame is not valid"):
        used.frame(1)
    monkeypatch.setattr(used.maker, "_filters", ())
    assert used.frame(2).depth_m.any()
