"""`sam-perception doctor` on machines that are made up, broken one by one."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import pytest

from sam_perception.cli import main
from sam_perception.commands import doctor, doctor_topics
from sam_perception.commands.doctor_machine import (
    FAIL,
    OK,
    WARN,
    Finding,
    Machine,
    check_camera,
    check_clock,
    check_models,
    check_python,
    check_torch,
)
from sam_perception.commands.doctor_ros import (
    check_messages,
    check_numpy,
    check_profile,
    check_rmw,
    check_ros,
    check_shared_memory,
)
from sam_perception.commands.doctor_topics import camera_topics, judge
from sam_perception.errors import CheckpointError, ModelNotFound, SourceError
from sam_perception.segmentation.hardware import TorchFacts, torch_facts
from sam_perception.segmentation.models import verify_checksums
from sam_perception.sources.realsense import CameraDescription
from sam_perception.sources.topics import KNOWN, CameraTopics

NOW_S = 1_760_000_000.0


def write(root: Path, path: str, text: str = "") -> Path:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


@pytest.fixture
def machine(tmp_path: Path):
    """A machine where all is well: a robot with ROS 2 Jazzy and Fast DDS."""
    write(tmp_path, "opt/ros/jazzy/setup.bash")
    write(tmp_path, "opt/ros/jazzy/share/ament_index/resource_index/rmw_typesupport/rmw_fastrtps_cpp")
    write(tmp_path, "opt/ros/jazzy/share/ament_index/resource_index/rmw_typesupport/rmw_implementation")
    profile = write(tmp_path, "profile.xml", "<profiles xmlns='x'><segment_size>33554432</segment_size></profiles>")

    def make(environ: dict[str, str] | None = None, **changes: Any) -> Machine:
        values: dict[str, Any] = {
            "environ": {
                "ROS_DISTRO": "jazzy",
                "AMENT_PREFIX_PATH": str(tmp_path / "opt/ros/jazzy"),
                "FASTRTPS_DEFAULT_PROFILES_FILE": str(profile),
                **(environ or {}),
            },
            "root": tmp_path,
            "prefix": tmp_path / "venv",
            "python": (3, 12),
            "can_import": lambda _: True,
            "version": lambda _: "1.26.4",
            "free_bytes": lambda _: 2**30,
            "now_s": lambda: NOW_S,
        }
        return Machine(**{**values, **changes})

    return make


def without(*modules: str):
    return lambda module: module not in modules


class TestMachine:
    def test_all_is_well(self, machine) -> None:
        well = machine()
        checks = (check_python, check_clock, check_numpy, check_ros, check_messages, check_rmw, check_profile)
        for finding in (*(check(well) for check in checks), check_shared_memory(well)):
            assert (finding.status, finding.cure) == (OK, ""), finding

    def test_an_untested_python(self, machine) -> None:
        assert check_python(machine(python=(3, 13))).status == WARN
        assert check_python(machine(python=(3, 9))).text == "Python 3.9, tested are 3.10 to 3.12"

    def test_ros_that_is_not_sourced(self, machine) -> None:
        found = check_ros(machine(can_import=without("rclpy")))
        assert found.status == FAIL
        assert "source /opt/ros/jazzy/setup.bash" in found.cure

    def test_no_ros_at_all(self, machine, tmp_path: Path) -> None:
        (tmp_path / "opt/ros/jazzy/setup.bash").unlink()
        bare = machine({"AMENT_PREFIX_PATH": ""}, can_import=without("rclpy", "sam_perception.msg"))
        assert check_ros(bare).status == WARN
        assert {check_messages(bare).status, check_rmw(bare).status} == {OK}

    def test_messages_that_are_not_built(self, machine) -> None:
        found = check_messages(machine(can_import=without("sam_perception.msg")))
        assert (found.status, "colcon build" in found.cure) == (FAIL, True)

    def test_numpy_2_beside_compiled_ros(self, machine, tmp_path: Path) -> None:
        two = machine(version=lambda _: "2.3.1")
        assert check_numpy(two).status == FAIL
        assert "runtime-ros.txt" in check_numpy(two).cure
        write(tmp_path, "venv/share/ament_index/x")
        assert check_numpy(two).status == OK  # the wheels are built for it
        assert check_numpy(machine(version=lambda _: None)).status == FAIL

    def test_a_middleware_that_is_not_installed(self, machine) -> None:
        found = check_rmw(machine({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}))
        assert found.status == FAIL
        assert "here are rmw_fastrtps_cpp" in found.text
        assert "ros-<distro>-rmw-cyclonedds-cpp" in found.cure

    def test_profiles_of_fast_dds(self, machine, tmp_path: Path) -> None:
        name = "FASTRTPS_DEFAULT_PROFILES_FILE"
        assert check_profile(machine({name: ""})).status == WARN
        assert f"export {name}=" in check_profile(machine({name: ""})).cure
        small = write(tmp_path, "small.xml", "<p><segment_size>524288</segment_size></p>")
        assert "512 KiB" in check_profile(machine({name: str(small)})).text
        broken = write(tmp_path, "broken.xml", "<p>")
        assert check_profile(machine({name: str(broken)})).status == FAIL
        assert check_profile(machine({name: str(tmp_path / "none.xml")})).status == FAIL

    @pytest.mark.parametrize(
        ("distribution", "read", "ignored"),
        [
            ("humble", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"),
            ("jazzy", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"),
            ("kilted", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"),
            ("rolling", "FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"),
        ],
    )
    def test_the_variable_that_this_fast_dds_does_not_read_is_none(
        self, machine, distribution: str, read: str, ignored: str
    ) -> None:
        profile = machine().environ["FASTRTPS_DEFAULT_PROFILES_FILE"]
        good = {"ROS_DISTRO": distribution, read: profile, ignored: ""}
        assert check_profile(machine(good)).status == OK
        found = check_profile(machine({**good, read: "", ignored: profile}))
        assert found.status == WARN
        assert f"{ignored} is set, which this ROS' Fast DDS does not read" in found.text
        assert f"export {read}=" in found.cure
        assert ignored not in check_profile(machine({**good, read: ""})).text

    def test_the_shipped_profile_is_large_enough(self, machine) -> None:
        shipped = Path(__file__).resolve().parent.parent / "config" / "fastdds_images.xml"
        # Fast DDS cuts messages to the smallest maxMessageSize of all transports: one alone changes nothing.
        assert "<maxMessageSize>" not in shipped.read_text()
        assert check_profile(machine({"FASTRTPS_DEFAULT_PROFILES_FILE": str(shipped)})).status == OK

    def test_buffers_for_cyclone_dds(self, machine, tmp_path: Path) -> None:
        shipped = Path(__file__).resolve().parent.parent / "config" / "cyclonedds_images.xml"
        cyclone = machine({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp", "CYCLONEDDS_URI": shipped.as_uri()})
        write(tmp_path, "proc/sys/net/core/rmem_max", "212992\n")
        assert check_profile(cyclone).status == WARN
        assert "sysctl" in check_profile(cyclone).cure
        write(tmp_path, "proc/sys/net/core/rmem_max", "2147483647\n")
        assert check_profile(cyclone).text == "Cyclone DDS, receive buffers of 32768 KiB"
        assert check_profile(cyclone).status == OK
        assert check_shared_memory(cyclone).status == OK

    @pytest.mark.parametrize(
        ("uri", "status", "said"),
        [
            ("", WARN, "without CYCLONEDDS_URI Cyclone DDS asks for receive buffers of 1024 KiB only"),
            ("<General><MaxMessageSize>65500B</></>", WARN, "CYCLONEDDS_URI asks for receive buffers of 1024 KiB only"),
            ('<Internal><SocketReceiveBufferSize max="16 MiB"/></Internal>', OK, "receive buffers of 16384 KiB"),
            ('<Internal><SocketReceiveBufferSize min="10MB"/></>', OK, "receive buffers of 10240 KiB"),
            ('<!-- <SocketReceiveBufferSize max="16MB"/> --><Internal/>', WARN, "1024 KiB only"),
            ('file://{root}/mine.xml,<Internal><SocketReceiveBufferSize max="9MB"/></>', OK, "9216 KiB"),
            ('<Internal><SocketReceiveBufferSize max="9MB"/></>, {root}/mine.xml', OK, "12288 KiB"),
            ("{root}/none.xml", FAIL, "cannot be read"),
            ("file://{root}/broken.xml", FAIL, "cannot be read"),
            ('<Internal><SocketReceiveBufferSize max="lots"/></>', FAIL, "'lots' is no size"),
            ('<Internal><SocketReceiveBufferSize min="1GB"/></>', FAIL, "demands a receive buffer of 1048576 KiB"),
        ],
    )
    def test_what_cyclone_dds_is_told_is_read(self, machine, tmp_path: Path, uri: str, status: str, said: str) -> None:
        inner = '<Domain><Internal><SocketReceiveBufferSize min="default" max="12MiB"/></Internal></Domain>'
        write(tmp_path, "mine.xml", f"<CycloneDDS xmlns='https://cdds.io/config'>{inner}</CycloneDDS>")
        write(tmp_path, "broken.xml", "<CycloneDDS>")
        write(tmp_path, "proc/sys/net/core/rmem_max", "33554432\n")
        uri = uri.replace("{root}", str(tmp_path))
        found = check_profile(machine({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp", "CYCLONEDDS_URI": uri}))
        assert (found.status, said in found.text) == (status, True), found
        assert status == OK or "CYCLONEDDS_URI=file://" in found.cure or "rmem_max=1073741824" in found.cure

    def test_little_shared_memory(self, machine) -> None:
        found = check_shared_memory(machine(free_bytes=lambda _: 60 * 2**20))
        assert (found.status, "--shm-size" in found.cure) == (WARN, True)

    def test_a_clock_that_was_never_set(self, machine) -> None:
        found = check_clock(machine(now_s=lambda: 86400.0))
        assert (found.status, found.text) == (FAIL, "the clock says 1970-01-02 00:00:00 UTC")


class TestGpu:
    CPU, CUDA = TorchFacts("2.13.0", None, (), 8), TorchFacts("2.13.0", "12.8", ("H200",), 8)

    def test_used(self, machine) -> None:
        assert "H200" in check_torch(machine(), lambda: self.CUDA).text

    def test_none(self, machine) -> None:
        assert check_torch(machine(), lambda: self.CPU).status == OK

    @pytest.mark.parametrize("path", ["proc/driver/nvidia/version", "etc/nv_tegra_release"])
    def test_there_but_not_seen(self, machine, tmp_path: Path, path: str) -> None:
        write(tmp_path, path, "NVRM")
        found = check_torch(machine(), lambda: self.CPU)
        assert (found.status, "a CPU build" in found.text) == (FAIL, True)

    def test_no_torch(self, machine) -> None:
        def missing() -> TorchFacts:
            raise ImportError("No module named 'torch'")

        assert check_torch(machine(), missing).status == FAIL

    def test_the_installed_torch_is_asked(self) -> None:
        import torch

        facts = torch_facts()
        assert facts.version == torch.__version__
        assert len(facts.gpus) == torch.cuda.device_count()


class TestModels:
    @pytest.fixture
    def folders(self, tmp_path: Path) -> dict[str, Path]:
        for name in ("nano", "large"):
            weights = write(tmp_path, f"{name}/model.safetensors", name)
            digest = hashlib.sha256(weights.read_bytes()).hexdigest()
            write(tmp_path, f"{name}/SHA256SUMS", f"{digest}  model.safetensors\n")
        return {name: tmp_path / name for name in ("nano", "large")}

    def check(self, folders: dict[str, Path], wanted: str = "nano") -> Finding:
        def find(name: str) -> Path:
            if name not in folders:
                raise ModelNotFound(f"{name} is not on this machine: get it")
            return folders[name]

        return check_models(wanted, ("nano", "small", "large"), find, verify_checksums)

    def test_whole(self, folders: dict[str, Path]) -> None:
        found = self.check(folders)
        assert found.status == OK
        assert "checksums match" in found.text
        assert found.text.endswith("also here: large")

    def test_missing(self, folders: dict[str, Path]) -> None:
        assert self.check(folders, "small") == Finding(
            "models", FAIL, "small: small is not on this machine: get it", "see the README's section on models"
        )

    def test_damaged(self, folders: dict[str, Path]) -> None:
        (folders["large"] / "model.safetensors").write_text("cut")
        with pytest.raises(CheckpointError):
            verify_checksums(folders["large"])
        assert self.check(folders).status == WARN
        (folders["nano"] / "model.safetensors").write_text("cut")
        assert "does not match its checksum" in self.check(folders).text
        assert self.check(folders).status == FAIL


class TestCamera:
    GOOD = CameraDescription("D435", "1", "5.16.0.1", "5.16.0.1", "3.2")

    def test_there(self, machine) -> None:
        assert check_camera(machine(), lambda: [self.GOOD]) == Finding("camera", OK, "D435 1, USB 3.2")

    def test_not_there(self, machine) -> None:
        assert check_camera(machine(), list).status == WARN

    def test_plugged_in_but_not_allowed(self, machine, tmp_path: Path) -> None:
        write(tmp_path, "sys/bus/usb/devices/2-1/idVendor", "8086\n")
        write(tmp_path, "sys/bus/usb/devices/2-1/product", "Intel(R) RealSense(TM) Depth Camera 435\n")
        write(tmp_path, "sys/bus/usb/devices/2-2/idVendor", "046d\n")
        found = check_camera(machine(), list)
        assert (found.status, "udev" in found.cure) == (FAIL, True)
        assert found.text.startswith("Intel(R) RealSense(TM) Depth Camera 435 is plugged in")

    def test_slow_port_and_old_firmware(self, machine) -> None:
        slow = CameraDescription("D435", "1", usb="2.1")
        assert "not USB 3" in check_camera(machine(), lambda: [slow]).text
        old = CameraDescription("D435", "1", "5.9.14.0", "5.16.0.1", "3.2")
        assert "recommended is 5.16.0.1" in check_camera(machine(), lambda: [self.GOOD, old]).text

    def test_no_sdk(self, machine) -> None:
        def missing() -> list[CameraDescription]:
            raise SourceError("pyrealsense2 cannot be imported: pip install it")

        assert check_camera(machine(), missing).status == WARN


def end(node: str, reliability: str = "best_effort", durability: str = "volatile") -> dict[str, str]:
    return {"node": node, "reliability": reliability, "durability": durability}


CAMERA = KNOWN[0]


def report() -> dict[str, Any]:
    """What a probe hears where all is well."""
    picture = {
        "count": 90,
        "rate_hz": 29.9,
        "age_s": 0.03,
        "frame_id": "camera_color_optical_frame",
        "width": 640,
        "height": 480,
        "publishers": [end("/camera/camera", "reliable")],
        "subscribers": [end("/sam_perception")],
    }
    topics = {
        CAMERA.color: copy.deepcopy({**picture, "encoding": "rgb8"}),
        CAMERA.depth: copy.deepcopy({**picture, "encoding": "16UC1"}),
        CAMERA.info: copy.deepcopy(picture),
    }
    image = ["sensor_msgs/msg/Image"]
    return {
        "types": {CAMERA.color: image, CAMERA.depth: image, CAMERA.info: ["sensor_msgs/msg/CameraInfo"]},
        "topics": topics,
        "use_sim_time": {"/sam_perception": False},
    }


class TestTopics:
    def found(self, seen: dict[str, Any], name: str) -> Finding:
        (finding,) = [f for f in judge(seen, CAMERA, 3.0) if f.name == name]
        return finding

    def test_all_is_well(self) -> None:
        findings = judge(report(), CAMERA, 3.0)
        assert [(f.name, f.status) for f in findings] == [("colour", OK), ("depth", OK), ("camera_info", OK)]
        assert "29.9 Hz, rgb8 640x480 in 'camera_color_optical_frame' from /camera/camera" in findings[0].text
        assert findings[0].text.endswith("(reliable, volatile)")

    def test_nobody_there(self) -> None:
        seen = report()
        seen["topics"], seen["types"] = {}, {"/left/image": ["sensor_msgs/msg/Image"]}
        (finding,) = judge(seen, CAMERA, 3.0)
        assert (finding.status, "there are /left/image" in finding.cure) == (WARN, True)

    def test_one_topic_missing(self) -> None:
        seen = report()
        del seen["topics"][CAMERA.depth]
        assert "align_depth.enable:=true" in self.found(seen, "depth").cure

    def test_published_and_not_heard(self) -> None:
        seen = report()
        seen["topics"][CAMERA.color]["count"] = 0
        assert self.found(seen, "colour").status == FAIL
        assert "nothing came in 3 s" in self.found(seen, "colour").text

    def test_slow_two_publishers_and_unknown_encodings(self) -> None:
        seen = report()
        seen["topics"][CAMERA.color]["rate_hz"] = 2.0
        assert self.found(seen, "colour").status == WARN
        seen["topics"][CAMERA.color]["publishers"].append(end("/bag"))
        assert "more than one publisher" in self.found(seen, "colour").text
        seen["topics"][CAMERA.depth]["encoding"] = "16SC1"
        assert "cannot be read" in self.found(seen, "depth").text

    def test_what_publishers_offer_is_shown(self) -> None:
        seen = report()
        seen["topics"][CAMERA.depth]["publishers"] = [end("/left"), end("/right", durability="transient_local")]
        assert "/left, /right (best_effort, volatile; best_effort, transient_local)" in self.found(seen, "depth").text
        seen["topics"][CAMERA.color]["count"] = 0
        assert "published by /camera/camera (reliable, volatile), but nothing came" in self.found(seen, "colour").text

    def test_depth_that_is_not_aligned(self) -> None:
        seen = report()
        seen["topics"][CAMERA.depth] |= {"width": 848, "frame_id": "camera_depth_optical_frame"}
        assert self.found(seen, "alignment").status == FAIL

    @pytest.mark.parametrize(("policy", "strict"), [("reliability", "reliable"), ("durability", "transient_local")])
    def test_qos_that_does_not_meet(self, policy: str, strict: str) -> None:
        seen = report()
        seen["topics"][CAMERA.depth]["publishers"] = [end("/camera/camera")]
        seen["topics"][CAMERA.depth]["subscribers"] = [{**end("/rviz"), policy: strict}]
        finding = self.found(seen, "qos")
        assert finding.status == FAIL
        assert f"/rviz asks for {strict}" in finding.text

    def test_clocks(self) -> None:
        seen = report()
        seen["topics"][CAMERA.color]["age_s"] = 12.0
        assert "12.00 s after their stamp" in self.found(seen, "stamps").text
        seen["use_sim_time"] = {"/sam_perception": True}
        assert "nobody publishes /clock" in self.found(seen, "sim time").text
        seen["topics"]["/clock"] = {"count": 9, "rate_hz": 9.0, "publishers": [end("/player")], "subscribers": []}
        assert self.found(seen, "sim time").status == OK
        assert not [f for f in judge(seen, CAMERA, 3.0) if f.name == "stamps"]
        seen["use_sim_time"] = {"/sam_perception": False}
        assert [f.status for f in judge(seen, CAMERA, 3.0) if f.name == "sim time"] == [WARN, OK]

    def test_topics_are_those_asked_for_or_known(self) -> None:
        mine = CameraTopics("/a", "/b", "/c")
        assert camera_topics(mine, {}) is mine
        assert camera_topics(None, {KNOWN[1].color: []}) == KNOWN[1]
        assert camera_topics(None, {}) == KNOWN[0]


class TestCommand:
    def findings(self, monkeypatch: pytest.MonkeyPatch, *found: Finding) -> None:
        monkeypatch.setattr(doctor, "examine", lambda *_: iter(found))

    def test_nothing_wrong_is_exit_code_0(self, monkeypatch, capsys) -> None:
        self.findings(monkeypatch, Finding("ros", OK, "found"), Finding("camera", WARN, "none", "plug it in"))
        assert main(["doctor"]) == 0
        assert capsys.readouterr().out == (
            "  ok  ros            found\n"
            "warn  camera         none\n"
            "                     -> plug it in\n"
            "0 problems, 1 warnings\n"
        )

    def test_something_wrong_is_exit_code_1(self, monkeypatch, capsys) -> None:
        self.findings(monkeypatch, Finding("ros", FAIL, "missing", "install it"))
        assert main(["doctor", "--listen", "0"]) == 1
        assert "FAIL  ros            missing\n                     -> install it\n1 problems" in capsys.readouterr().out

    def test_a_check_that_breaks_is_a_finding(self, machine) -> None:
        def broken(path: Path) -> int:
            raise FileNotFoundError("no such folder")

        found = {f.name: f for f in doctor.examine(machine(free_bytes=broken), "nano", 0.0, None)}
        assert found["shared memory"].status == FAIL
        assert "FileNotFoundError" in found["shared memory"].text
        assert {"gpu", "models", "camera"} <= set(found)  # the ones after it

    def test_a_probe_that_fails_is_a_finding(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(doctor_topics, "probe", lambda *_: "rcl: no middleware")
        (finding,) = doctor.check_topics(1.0, None)
        assert (finding.status, "rcl: no middleware" in finding.text) == (FAIL, True)

    def test_wrong_arguments(self, capsys) -> None:
        assert main(["doctor", "--listen", "-1"]) == 2
        assert "listen for 0 to 3600 seconds" in capsys.readouterr().err
