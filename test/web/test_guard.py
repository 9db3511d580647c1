"""Who may use the console."""

from __future__ import annotations

import socket

import pytest

from sam_perception.errors import ConfigError
from sam_perception.web import guard
from sam_perception.web.guard import Guard, RateLimit
from sam_perception.web.settings import WebConfig, is_loopback

LONG = "a token of this robot"


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.4", False),
        ("", False),
        ("localhost.example.com", False),
    ],
)
def test_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback
    assert WebConfig(host=host).open_to_network is not loopback


def test_a_token_is_made_where_others_can_reach_the_console() -> None:
    assert Guard(WebConfig()).token == ""
    one, other = (Guard(WebConfig(host="0.0.0.0")).token for _ in range(2))
    assert len(one) >= 32
    assert one != other
    assert Guard(WebConfig(host="0.0.0.0", token=LONG)).token == LONG
    assert Guard(WebConfig(token="short")).token == "short"
    with pytest.raises(ConfigError, match="at least 16"):
        Guard(WebConfig(host="0.0.0.0", token="short"))


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:8080", True),
        ("localhost:8080", True),
        ("LOCALHOST", True),
        ("localhost:9000", True),  # ssh -L with another port on this side
        ("[::1]:8080", True),
        ("robot.example.com", True),
        ("192.168.1.4:8080", False),
        ("evil.example.com:8080", False),  # DNS rebinding: a name of theirs, our address
        ("localhost.evil.example.com", False),
        ("localhost:evil", False),
        ("[::1", False),
        ("[::1]evil", False),
        ("", False),
        (None, False),
    ],
)
def test_hosts_on_loopback(host: str | None, allowed: bool) -> None:
    assert Guard(WebConfig(allowed_hosts=" Robot.example.com, ")).host_allowed(host) is allowed


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("192.168.1.4:8080", True),  # an address cannot be pointed elsewhere
        ("[fe80::1]:8080", True),
        ("localhost:8080", True),
        (f"{socket.gethostname()}:8080", True),
        (f"{socket.gethostname().partition('.')[0]}.local", True),
        ("evil.example.com:8080", False),
    ],
)
def test_hosts_on_the_network(host: str, allowed: bool) -> None:
    assert Guard(WebConfig(host="0.0.0.0")).host_allowed(host) is allowed


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:8080", True),
        ("https://localhost:8080", True),  # behind a proxy that speaks TLS
        ("HTTP://LOCALHOST:8080", True),
        ("http://localhost:8081", False),
        ("http://localhost", False),
        ("http://evil.example.com", False),
        ("http://localhost:8080.evil.example.com", False),
        ("file://localhost:8080", False),
        ("null", False),
        ("", False),
        (None, False),
    ],
)
def test_origins(origin: str | None, allowed: bool) -> None:
    assert Guard(WebConfig()).origin_allowed(origin, "localhost:8080") is allowed


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    compare = guard.hmac.compare_digest

    def watched(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return compare(one, other)

    monkeypatch.setattr(guard.hmac, "compare_digest", watched)
    mine = Guard(WebConfig(host="0.0.0.0", token=LONG))
    for wrong in ("", "x", LONG[:-1], LONG + "x", "ü" * len(LONG)):
        assert not mine.token_allowed(wrong)
    assert mine.token_allowed(LONG)
    assert len(compared) == 6
    assert Guard(WebConfig()).token_allowed("anything")  # nothing was asked for


def test_rates_are_limited_after_a_burst() -> None:
    now_s = [0.0]
    limit = RateLimit(rate_hz=10.0, burst=5, clock=lambda: now_s[0])
    assert [limit.allow() for _ in range(7)] == [True] * 5 + [False] * 2
    now_s[0] = 0.25
    assert [limit.allow() for _ in range(4)] == [True, True, False, False]
    now_s[0] = 100.0
    assert sum(limit.allow() for _ in range(20)) == 5
