"""What every test shares: the ROS domain, and where the real recordings lie."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# Jazzy checks the type of message fields only when told to; Humble always does.
os.environ.setdefault("ROS_PYTHON_CHECK_FIELDS", "1")
os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the real recordings, which are not part of the repository."""
    folder = Path(os.environ.get("SAM_PERCEPTION_DATA", REPOSITORY.parent / "shared" / "data"))
    if not (folder / "MANIFEST.md").is_file():
        pytest.skip(f"real recordings not found at {folder}: set SAM_PERCEPTION_DATA to their folder")
    return folder
