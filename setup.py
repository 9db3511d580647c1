"""Installs the package with pip, messages included; in a ROS workspace colcon reads CMakeLists.txt instead.

`pip install --no-build-isolation .` needs ROS 2 in the environment (requirements/ros-jazzy.txt).
It runs the same CMakeLists.txt and lays what CMake installs under the environment's prefix.
With `-e` it does so for the messages alone and leaves the modules written by hand in the working tree.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from setuptools import Distribution, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent.resolve()
PACKAGE = "sam_perception"
MANIFEST = ElementTree.parse(HERE / "package.xml").getroot()  # noqa: S314  (our own file)


class BuildWithCMake(build_py):
    """Adds what CMakeLists.txt installs to what setuptools installs."""

    def run(self):
        """Build both."""
        super().run()
        staged = self._stage()
        data_files = {}
        for path in sorted(p for p in staged.rglob("*") if p.is_file()):
            relative = path.relative_to(staged)
            if relative.parts[0] == "include":
                continue
            if f"{PACKAGE}/" in relative.as_posix() and "-packages" in relative.as_posix():
                self._take_module(path, relative, data_files)
            elif "-packages" not in relative.as_posix():
                data_files.setdefault(str(relative.parent), []).append(str(path))
        self.distribution.data_files = sorted(data_files.items())
        if self.editable_mode:
            # setuptools leaves data files out of editable wheels; here they are the messages.
            self.run_command("install_data")

    def _take_module(self, path, relative, data_files):
        """A generated module: into the wheel, or beside the environment's packages when editable."""
        root = max(i for i, part in enumerate(relative.parts) if part.endswith("-packages"))
        inner = Path(*relative.parts[root + 1 :])
        if inner.parts[0] != PACKAGE:
            return
        generated = inner.parts[1] in ("msg", "srv") or inner.suffix == ".so"
        if self.editable_mode:
            # No __init__.py there: the working tree's is to be the only one.
            if generated:
                site = Path(sysconfig.get_path("platlib")).relative_to(sys.prefix)
                data_files.setdefault(str(site / inner.parent), []).append(str(path))
        elif generated:
            target = Path(self.build_lib) / inner
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(path), str(target))

    def _stage(self):
        """Run CMake and return the directory that it installed into."""
        work = HERE / "build" / f"cmake-{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
        stage = work / "stage"
        shutil.rmtree(stage, ignore_errors=True)
        environment = dict(os.environ)
        environment.setdefault("AMENT_PREFIX_PATH", sys.prefix)
        environment.setdefault("CMAKE_PREFIX_PATH", environment["AMENT_PREFIX_PATH"])
        # pip hides the environment's packages from builds through this one.
        environment.pop("PYTHONPATH", None)
        tools = Path(sysconfig.get_path("scripts"))
        environment["PATH"] = os.pathsep.join([str(tools), environment.get("PATH", os.defpath)])
        cmake = shutil.which("cmake", path=environment["PATH"])
        if cmake is None:
            sys.exit("cmake is missing: pip install -r requirements/ros-jazzy.txt first")
        generator = ["-GNinja"] if shutil.which("ninja", path=environment["PATH"]) else []
        configure = [cmake, "-S", str(HERE), "-B", str(work / "cmake"), *generator]
        configure += [f"-DCMAKE_INSTALL_PREFIX={stage}", "-DCMAKE_BUILD_TYPE=Release", "-DBUILD_TESTING=OFF"]
        configure += [f"-DPython3_EXECUTABLE={sys.executable}"]
        configure += [f"-DCMAKE_PROJECT_INCLUDE={HERE / 'cmake' / 'ros_wheels.cmake'}"]
        subprocess.check_call(configure, env=environment)
        build = [cmake, "--build", str(work / "cmake"), "--target", "install", "--parallel", str(os.cpu_count() or 1)]
        subprocess.check_call(build, env=environment)
        return stage


class PlatformDistribution(Distribution):
    """The generated messages are compiled, which makes the wheel one of this platform."""

    def has_ext_modules(self):
        """Say so to setuptools."""
        return True


setup(
    version=MANIFEST.findtext("version"),
    cmdclass={"build_py": BuildWithCMake},
    distclass=PlatformDistribution,
)
