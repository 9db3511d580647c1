"""The web console: one page that shows what the node sees, and takes clicks on it.

Knows nothing of ROS: what it shows and asks comes and goes through `backend.Backend`. Its server
needs aiohttp, so `server` is imported by those who serve; the rest is light.
"""

from __future__ import annotations

from sam_perception.web.settings import WebConfig

__all__ = ["WebConfig"]
