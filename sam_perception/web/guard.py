"""Who may use the console: hosts, origins, the token, and how often.

What is kept out: other machines without the token; pages of other sites in the user's own browser,
which could otherwise open a WebSocket to the robot (browsers do not apply the same-origin rule to those)
or reach it under a name of their own that they point at its address (DNS rebinding); floods.
"""

from __future__ import annotations

import hmac
import ipaddress
import secrets
import socket
import time
from collections.abc import Callable

from sam_perception.errors import ConfigError
from sam_perception.web.settings import WebConfig, is_loopback

MIN_TOKEN_LENGTH = 16  # of one that somebody chose, where others can try
_RANDOM_BYTES = 24


class Guard:
    """Decides by headers and the token.

    Args:
        config: an empty token is replaced by a random one where the console is open to the network.

    Raises:
        ConfigError: the token is too short for a console that is open to the network.
    """

    def __init__(self, config: WebConfig) -> None:
        self._open = config.open_to_network
        self._names = _names(config)
        self.token = config.token
        if self._open and not self.token:
            self.token = secrets.token_urlsafe(_RANDOM_BYTES)
        if self._open and len(self.token) < MIN_TOKEN_LENGTH:
            raise ConfigError(
                f"web.token has {len(self.token)} characters and web.host is {config.host}, which others can reach: "
                f"use at least {MIN_TOKEN_LENGTH}, or leave it empty to have one made"
            )

    def host_allowed(self, host: str | None) -> bool:
        """Whether a Host header names this machine in a way that no other site can make a browser do."""
        name = _name_of(host or "")
        if name is None:
            return False
        if not self._open:
            return is_loopback(name) or name in self._names
        return name in self._names or _is_address(name)

    def origin_allowed(self, origin: str | None, host: str | None) -> bool:
        """Whether a page of `origin` was served by us, under the name that it calls us by now."""
        scheme, separator, authority = (origin or "").lower().partition("://")
        return bool(separator) and scheme in ("http", "https") and authority == (host or "").lower()

    def token_allowed(self, token: str) -> bool:
        """Whether this is the token, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(token.encode(), self.token.encode()) if self.token else True


def _names(config: WebConfig) -> frozenset[str]:
    """Names for this machine, in small letters."""
    names = {name.strip().lower() for name in config.allowed_hosts.split(",")}
    if config.open_to_network:
        own = socket.gethostname().lower()
        names |= {config.host.lower(), "localhost", own, f"{own}.local", own.partition(".")[0]}
    return frozenset(names - {""})


def _name_of(host: str) -> str | None:
    """The Host header without its port, in small letters; None where it is none."""
    text = host.strip().lower()
    if text.startswith("["):  # an IPv6 address
        name, closing, rest = text[1:].partition("]")
        port_ok = not rest or (rest.startswith(":") and rest[1:].isdigit())
        return name if closing and port_ok else None
    name, colon, port = text.partition(":")
    return name if name and (not colon or port.isdigit()) else None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class RateLimit:
    """So many per second, with a burst; more are too many.

    Args:
        rate_hz: in the long run.
        burst: at once, after a pause.
        clock: seconds that never go back.
    """

    def __init__(self, rate_hz: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate_hz, self._burst, self._clock = rate_hz, float(burst), clock
        self._left, self._at_s = float(burst), clock()

    def allow(self) -> bool:
        """Count one; whether it is within the limit."""
        now_s = self._clock()
        self._left = min(self._burst, self._left + (now_s - self._at_s) * self._rate_hz)
        self._at_s = now_s
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
