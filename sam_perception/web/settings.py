"""Settings of the console."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from sam_perception.settings import Validated, setting


@dataclass(frozen=True)
class WebConfig(Validated):
    """Where the console is served, and for whom.

    Raises:
        ConfigError: a value of the wrong type or outside its range.
    """

    port: int = setting(0, "port of the web console; 0: no console", low=0, high=65535)
    host: str = setting("127.0.0.1", "address that the console listens on; 0.0.0.0 opens it to the network")
    token: str = setting(
        "", "secret that a browser has to give; empty: none on loopback, elsewhere one made at random and logged"
    )
    allowed_hosts: str = setting(
        "", "further names by which browsers reach the console, such as robot.example.com; commas between them"
    )
    rate_hz: float = setting(15.0, "pictures per second for each watcher, at most", low=0.2, high=120.0)
    jpeg_quality: int = setting(80, "quality of the pictures", low=10, high=100)

    @property
    def open_to_network(self) -> bool:
        """Whether other machines can reach the console."""
        return not is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on `host`."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # a name, which may mean any address
