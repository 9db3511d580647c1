"""What a browser may say."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sam_perception.errors import ConsoleError
from sam_perception.web.wire import (
    MAX_POINTS,
    Ask,
    Everything,
    Hello,
    Probe,
    PromptRequest,
    Ready,
    Remove,
    Rename,
    Reset,
    parse,
)

NOW = "1753000000123456789"


def said(kind: str, **values: Any) -> str:
    return json.dumps({"type": kind, **values})


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (said("hello", token="secret"), Hello("secret")),
        (said("hello"), Hello("")),
        (said("ready", view="depth"), Ready("depth")),
        (said("probe", stamp=NOW, x=1, y=2.5), Probe(int(NOW), 1.0, 2.5)),
        (said("rename", ask=3, object_id=2, label="mug"), Ask(3, Rename(2, "mug"))),
        (said("remove", ask=3, object_id=2), Ask(3, Remove(2))),
        (said("reset", ask=3), Ask(3, Reset())),
        (said("everything", ask=3), Ask(3, Everything())),
        (
            said("prompt", ask=1, stamp=NOW, points=[[1.5, 2, 1], [3, 4, 0]]),
            Ask(1, PromptRequest(int(NOW), points=((1.5, 2.0, 1), (3.0, 4.0, 0)))),
        ),
        (
            said("prompt", ask=1, stamp=NOW, object_id=7, label="mug", box=[1, 2, 3, 4.5]),
            Ask(1, PromptRequest(int(NOW), 7, "mug", box=(1.0, 2.0, 3.0, 4.5))),
        ),
        (said("prompt", ask=1, text=" red mug "), Ask(1, PromptRequest(0, text="red mug"))),
        (said("prompt", ask=1, stamp=NOW, region=9), Ask(1, PromptRequest(int(NOW), region=9))),
    ],
)
def test_what_is_meant(text: str, meaning: object) -> None:
    assert parse(text) == meaning


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "is a list"),
        ("{}", "known are hello"),
        (said("shutdown", ask=1), "known are hello"),
        (json.dumps({"type": ["prompt"]}), "known are hello"),
        (said("ready", view="x-ray"), "choose one of overlay, color, depth"),
        (said("ready", view=["overlay"]), "choose one of"),
        (said("reset"), "ask is"),
        (said("reset", ask=True), "ask is"),
        (said("remove", ask=1, object_id=0), "from 1 to 65535"),
        (said("remove", ask=1, object_id=65536), "from 1 to 65535"),
        (said("remove", ask=1, object_id="1"), "from 1 to 65535"),
        (said("rename", ask=1, object_id=1, label="x" * 129), "at most 128"),
        (said("rename", ask=1, object_id=1, label=3), "must be text"),
        ('{"type": "rename", "ask": 1, "object_id": 1, "label": "\\ud800"}', "lone surrogate"),
        (said("prompt", ask=1), "exactly one of them"),
        (said("prompt", ask=1, text="mug", region=1), "exactly one of them"),
        (said("prompt", ask=1, points=[[1, 2, 1]] * (MAX_POINTS + 1)), "at most 64"),
        (said("prompt", ask=1, points=[[1, 2]]), "each of points"),
        (said("prompt", ask=1, points=[[1, 2, 2]]), "1 is on the object"),
        (said("prompt", ask=1, points=[[1, 2, True]]), "1 is on the object"),
        (said("prompt", ask=1, points=[[1, "2", 1]]), "in pixels"),
        (said("prompt", ask=1, points=[[1e300, 2, 1]]), "in pixels"),
        ('{"type": "prompt", "ask": 1, "points": [[NaN, 2, 1]]}', "no number of JSON"),
        ('{"type": "prompt", "ask": 1, "points": [[1e999, 2, 1]]}', "in pixels"),
        (said("prompt", ask=1, box=[1, 2, 3]), "four numbers"),
        (said("prompt", ask=1, points=[[1, 2, 1]], stamp=17), "stamp is '17'"),
        (said("prompt", ask=1, points=[[1, 2, 1]], stamp="-1"), "stamp is '-1'"),
        (said("prompt", ask=1, points=[[1, 2, 1]], stamp="²"), "stamp is"),
        (said("prompt", ask=1, points=[[1, 2, 1]], stamp=str(2**63)), "as it came"),
        (said("probe", x=1, y=None), "y has 'None'"),
        (said("hello", token="x" * 513), "at most 512"),
    ],
)
def test_what_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ConsoleError, match=complaint):
        parse(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)
# A busy machine is slow, which is no fault of what is tested.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
FIELDS = ("ask", "stamp", "object_id", "label", "points", "box", "text", "region", "view", "x", "y", "token")


def understood(text: str) -> type:
    """Of which type the outcome is; any other exception goes through."""
    try:
        return type(parse(text))
    except ConsoleError as error:
        return type(error)


@PATIENT
@given(
    kind=st.sampled_from(["hello", "ready", "probe", "prompt", "rename", "remove", "reset", "everything"]),
    values=st.dictionaries(st.sampled_from(FIELDS), JSON),
)
def test_nothing_else_comes_out_than_values_and_refusals(kind: str, values: dict[str, Any]) -> None:
    assert understood(json.dumps({**values, "type": kind})) in (Hello, Ready, Probe, Ask, ConsoleError)


@PATIENT
@given(text=st.text(max_size=200))
def test_any_text_is_refused_or_understood(text: str) -> None:
    assert understood(text) is ConsoleError or text.lstrip().startswith("{")
