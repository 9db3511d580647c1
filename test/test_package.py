"""Files of the package that have to say the same."""

from __future__ import annotations

import os
import re
import sys
import xml.etree.ElementTree as ElementTree
from importlib.metadata import entry_points
from typing import Any

import pytest
import yaml
from package_facts import MODULES, PACKAGE, ROOT, ROS_MODULES, imports_of

from sam_perception import PerceptionConfig
from sam_perception.settings import settings_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


# --- interfaces -------------------------------------------------------------------------------------


def manifest() -> ElementTree.Element:
    return ElementTree.parse(ROOT / "package.xml").getroot()  # noqa: S314  (our own file)


def cmake_call(function: str) -> str:
    """The arguments of the first call, but for ${PROJECT_NAME}, whose brace ends no line."""
    text = (ROOT / "CMakeLists.txt").read_text()
    found = re.search(rf"^{function}\((.*?)\)$", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found.group(1)


def interface_files() -> list[str]:
    return sorted(str(path.relative_to(ROOT)) for kind in ("msg", "srv") for path in (ROOT / kind).iterdir())


def test_cmake_generates_every_interface() -> None:
    assert sorted(re.findall(r'"(.+?)"', cmake_call("rosidl_generate_interfaces"))) == interface_files()


def test_packages_of_field_types_are_declared_everywhere() -> None:
    used = set()
    for name in interface_files():
        used |= set(re.findall(r"^(\w+)/\w+", (ROOT / name).read_text(), re.MULTILINE))
    used -= {"sam_perception"}
    in_cmake = set(cmake_call("rosidl_generate_interfaces").split("DEPENDENCIES")[1].split())
    assert used == in_cmake
    assert used == {element.text for element in manifest().findall("depend")}


def test_ros_packages_that_are_imported_are_in_the_manifest() -> None:
    imported = {name.partition(".")[0] for path in MODULES for name in imports_of(path)}
    imported |= {name.partition(".")[0] for path in (ROOT / "launch").glob("*.py") for name in imports_of(path)}
    declared = {element.text for kind in ("depend", "exec_depend") for element in manifest().findall(kind)}
    assert imported & ROS_MODULES <= declared
    imported = {name.partition(".")[0] for path in (ROOT / "test").rglob("*.py") for name in imports_of(path)}
    assert imported & ROS_MODULES <= declared | {element.text for element in manifest().findall("test_depend")}


def test_messages_of_the_wheels_are_those_that_are_imported() -> None:
    imported = {name.partition(".")[0] for path in MODULES for name in imports_of(path)}
    wheels = {requirement.name.removeprefix("ros-").replace("-", "_") for requirement in requirements("ros-jazzy.txt")}
    # message_filters and tf2_ros have no wheels; the others come with rclpy.
    optional = {"message_filters", "tf2_ros", "tf2_geometry_msgs", "vision_msgs"}
    assert imported & ROS_MODULES - optional - {"rcl_interfaces", "builtin_interfaces", "rosgraph_msgs"} <= wheels


# --- requirements -----------------------------------------------------------------------------------


class Pin:
    """A line of a requirements file."""

    def __init__(self, line: str) -> None:
        found = re.fullmatch(r"([\w.-]+)(\[[\w,]+\])?==([\w.]+)(; python_version [<>=]+ \"3\.\d+\")?", line)
        assert found is not None, f"not pinned: {line}"
        self.name = found.group(1)


def requirements(name: str) -> list[Pin]:
    pins = []
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        text = line.partition(" #")[0].strip()
        if text.startswith("-r "):
            pins += requirements(text[3:])
        elif text and not text.startswith("#"):
            pins.append(Pin(text))
    return pins


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "requirements").glob("*.txt")))
def test_requirements_are_pinned(name: str) -> None:
    assert requirements(name)


def test_requirements_hold_what_pip_is_told_to_install() -> None:
    project = pyproject()["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["io"] + extras["console"]
    names = {re.split(r"[<>=\[; ]", text)[0].lower() for text in wanted}
    for name in ("runtime.txt", "runtime-ros.txt"):
        assert names == {pin.name.lower() for pin in requirements(name)}


def test_third_party_imports_are_required() -> None:
    distribution_of = {"cv2": "opencv-python-headless", "yaml": "PyYAML"}
    required = {pin.name for pin in requirements("runtime.txt")}
    with_transformers = {"huggingface_hub"}
    optional = {"open3d", "accelerate", "onnx", "onnxruntime", "ray"}
    for path in MODULES:
        for name in imports_of(path):
            top = name.partition(".")[0]
            if top in sys.stdlib_module_names | ROS_MODULES | with_transformers | optional | {"sam_perception"}:
                continue
            assert distribution_of.get(top, top) in required, f"{path.relative_to(ROOT)} imports {top}"


# --- commands, files, documents ---------------------------------------------------------------------


def test_version_is_the_changelogs_newest() -> None:
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert manifest().findtext("version") == newest.group(1)


def test_scripts_start_what_the_commands_start() -> None:
    scripts = pyproject()["project"]["scripts"]
    for name, target in scripts.items():
        module, _, function = target.partition(":")
        path = ROOT / "scripts" / name
        assert f"from {module} import {function}\n" in path.read_text()
        assert path.read_text().startswith("#!/usr/bin/env python3\n")
        assert os.access(path, os.X_OK)
        assert f"scripts/{name}" in (ROOT / "CMakeLists.txt").read_text()


def test_installed_commands_are_the_declared_ones() -> None:
    mine = {e.name: e.value for e in entry_points(group="console_scripts") if e.value.startswith("sam_perception.")}
    if not mine:
        pytest.skip("not installed with pip: a colcon workspace has the scripts in lib/sam_perception")
    assert mine == pyproject()["project"]["scripts"]
    for entry in entry_points(group="console_scripts"):
        if entry.name in mine:
            assert callable(entry.load())


def test_the_package_ships_what_it_reads() -> None:
    patterns = pyproject()["tool"]["setuptools"]["package-data"]["sam_perception"]
    shipped = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    shipped |= {path for folder in shipped if folder.is_dir() for path in folder.rglob("*")}
    data = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert data - shipped == set()
    assert PACKAGE / "py.typed" in data


def test_make_knows_the_commands_of_the_documents() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    for document in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / ".ci" / "run"):
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)", document.read_text(), re.MULTILINE))
        assert named, document
        assert named <= targets


def test_ci_runs_the_readmes_commands() -> None:
    commands = [line for line in (ROOT / ".ci" / "run").read_text().splitlines() if line.startswith("make ")]
    assert commands == ["make lint", "make test"]
    readme = (ROOT / "README.md").read_text()
    assert all(command in readme for command in commands)


def test_every_parameter_of_the_example_file_is_a_setting_at_its_default() -> None:
    node_settings = pytest.importorskip("sam_perception.ros.settings")
    known = {s.name: s.default for c in (PerceptionConfig(), node_settings.NodeConfig()) for s in settings_of(c)}
    text = (ROOT / "config" / "perception.yaml").read_text()
    shown = dict(re.findall(r"^    (?:# )?([a-z_.]+): (\S+)$", text, re.MULTILINE))
    assert {name: yaml.safe_load(value) for name, value in shown.items()} == {name: known[name] for name in shown}
    assert "geometry.max_depth_m" in shown


def test_configurations_for_others_name_topics_that_are_published() -> None:
    published = set(pytest.importorskip("sam_perception.sinks.bag").OUTPUTS)
    moveit = yaml.safe_load((ROOT / "config" / "moveit_octomap.yaml").read_text())
    for name in moveit["sensors"]:
        assert moveit[name]["point_cloud_topic"] in published
        # What MoveIt reads as floating point has to be written so.
        for number in ("max_range", "padding_offset", "padding_scale", "max_update_rate"):
            assert isinstance(moveit[name][number], float)
    layer = yaml.safe_load((ROOT / "config" / "nav2_costmap.yaml").read_text())
    layer = layer["local_costmap"]["local_costmap"]["ros__parameters"]["voxel_layer"]
    sources = [layer[name] for name in layer["observation_sources"].split()]
    assert {source["topic"] for source in sources if source["marking"]} <= published
    # A cloud that lacks something must not clear.
    assert not {source["topic"] for source in sources if source["clearing"]} & published
