"""ROS found: by setup, by the commands, by the messages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from package_facts import ROOT

from sam_perception import PerceptionError, _ros_environment

BASH = shutil.which("bash")


def test_the_dds_profile_is_chosen_unless_one_was(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rclpy")
    names = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
    for distribution, read, ignored in (("jazzy", *names), ("kilted", *reversed(names))):
        monkeypatch.setenv("ROS_DISTRO", distribution)
        for name in names:
            monkeypatch.setenv(name, "")
        monkeypatch.setenv(ignored, "/mine.xml")  # which Fast DDS does not read: nothing was chosen yet
        _ros_environment.ensure_ros_environment()
        assert Path(os.environ[read]).name == "fastdds_images.xml"
        assert Path(os.environ[read]).is_file()
        monkeypatch.setenv(read, "/mine.xml")
        monkeypatch.delenv(ignored)
        _ros_environment.ensure_ros_environment()
        assert os.environ[read] == "/mine.xml"
        assert ignored not in os.environ


@pytest.mark.parametrize(
    ("distribution", "library", "expected"),
    [
        ("humble", "", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("iron", "", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("jazzy", "", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("kilted", "", "FASTDDS_DEFAULT_PROFILES_FILE"),
        ("rolling", "", "FASTDDS_DEFAULT_PROFILES_FILE"),
        ("", "libfastrtps.so.2.14", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ("", "libfastdds.so.3.2", "FASTDDS_DEFAULT_PROFILES_FILE"),
    ],
)
def test_the_variable_is_the_one_that_this_fast_dds_reads(
    tmp_path: Path, distribution: str, library: str, expected: str
) -> None:
    (tmp_path / "lib").mkdir()
    if library:
        (tmp_path / "lib" / library).touch()
    assert _ros_environment.fast_dds_variable(distribution, tmp_path) == expected


def test_the_installed_fast_dds_reads_the_variable_that_is_chosen() -> None:
    libraries = sorted((Path(sys.prefix) / "lib").glob("libfast[rd][td][ps]*.so"))
    if not libraries or os.environ.get("ROS_DISTRO"):
        pytest.skip("no Fast DDS among the wheels")
    names = {"FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"}
    text = libraries[0].read_bytes()
    assert {name for name in names if name.encode() in text} == {_ros_environment.fast_dds_variable("", sys.prefix)}


def test_a_missing_ros_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ros_environment.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(PerceptionError, match=r"rclpy is not importable .* or run make setup"):
        _ros_environment.ensure_ros_environment()


def test_messages_can_be_imported_with_no_variable_of_ros_set(tmp_path: Path) -> None:
    pytest.importorskip("sam_perception.msg")
    if "AMENT_PREFIX_PATH" in os.environ and "_ROS_WHEELS_BOOTSTRAP_COMPLETE" not in os.environ:
        pytest.skip("a sourced ROS 2: its variables are how it is found")
    code = "from sam_perception.msg import TrackedObjectArray; import sam_perception; print(*sam_perception.__path__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"HOME": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(BASH is None, reason="no bash")
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "jazzy"),
        ({"ROS_DISTRO": "humble"}, "humble"),
        ({"ROS_DISTRO": "foxy"}, "jazzy"),
        ({"SAM_PERCEPTION_ROS": "humble"}, "humble"),
        ({"SAM_PERCEPTION_ROS": "wheels"}, None),
    ],
)
def test_setup_finds_the_ros_to_build_against(tmp_path: Path, variables: dict[str, str], expected: str | None) -> None:
    for distro in ("humble", "jazzy"):
        (tmp_path / distro).mkdir()
        (tmp_path / distro / "setup.bash").touch()
    assert BASH is not None
    done = subprocess.run(
        [BASH, "-c", '. scripts/ros.sh; echo "$ROS_SETUP"'],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "SAM_PERCEPTION_ROS_ROOT": str(tmp_path), **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ("" if expected is None else str(tmp_path / expected / "setup.bash"))
