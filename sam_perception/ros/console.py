"""The web console at the node: starts and ends its server, and answers it from the node's own parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from rclpy.lifecycle import LifecycleNode
from std_srvs.srv import Trigger

from sam_perception import messages
from sam_perception.config import PerceptionConfig
from sam_perception.errors import ConsoleError, PerceptionError
from sam_perception.ros.diagnosis import ERROR, OK, Status
from sam_perception.ros.health import Health
from sam_perception.ros.message_types import RosTypes
from sam_perception.ros.pipeline import Pipeline, Processed
from sam_perception.ros.regions import NOTHING_FOUND
from sam_perception.scene import Scene
from sam_perception.srv import AddObject, RemoveObject, RenameObject
from sam_perception.web import WebConfig
from sam_perception.web.backend import CutUp, Done, Report, Seen
from sam_perception.web.wire import PromptRequest

if TYPE_CHECKING:
    from sam_perception.web.server import ConsoleServer

_TYPES = RosTypes()
_END_S = 2.0  # for the pages to hear of the end, and for what is being drawn


class Answers(Protocol):
    """The node's services, called within the process; `ros.services.Services` is one."""

    def answer(self, request: Any) -> Any:
        """The response to a service's request; from any thread."""


class NodeBackend:
    """What the console shows and asks, from the node's parts: `web.backend.Backend`.

    Args:
        node: whose name and state are shown.
        pipeline: returns what works now, or None while the node is not configured.
        health: returns the counters in use.
        config: returns the settings in use.
        answers: what does the requests, the same as over DDS.
    """

    def __init__(
        self,
        node: LifecycleNode,
        pipeline: Callable[[], Pipeline | None],
        health: Callable[[], Health],
        config: Callable[[], PerceptionConfig],
        answers: Answers,
    ) -> None:
        self._node, self._pipeline, self._health, self._config, self._answers = node, pipeline, health, config, answers
        self.statuses: Sequence[Status] = ()  # the newest diagnostics

    def newest(self) -> Seen | None:
        """The newest processed frame."""
        pipeline = self._pipeline()
        return pipeline.newest() if pipeline is not None else None

    def complete(self, seen: Seen) -> Scene:
        """With positions, also where no topic asks for them, and without objects that were removed since."""
        pipeline = self._pipeline()
        if pipeline is None:
            return seen.scene
        scene = pipeline.lifted(seen).scene if isinstance(seen, Processed) else seen.scene
        known = set(pipeline.desk.ids)
        return replace(scene, objects=tuple(track for track in scene.objects if track.id in known))

    def report(self) -> Report:
        """How the node is."""
        pipeline, health, config = self._pipeline(), self._health().snapshot(), self._config()
        return Report(
            node=self._node.get_fully_qualified_name(),
            state=self._node.state_label,
            model=config.model,
            device=config.device,
            rate_hz=health.rate_hz,
            input_hz={name: stream.rate_hz for name, stream in health.streams.items()},
            latency_ms=health.latency_ms,
            known_ids=pipeline.desk.ids if pipeline is not None else (),
            diagnostics=[{"name": s.name, "level": s.level, "message": s.message} for s in self.statuses],
            refusals=[{"kind": e.kind, "message": e.message, "age_s": e.age_s} for e in health.refusals],
            notes=health.notes,
        )

    def prompt(self, request: PromptRequest) -> Done:
        """As `~/add_object` does it.

        Raises:
            PerceptionError: the prompt cannot be used.
        """
        newest = self.newest()
        frame_id = newest.frame.frame_id if newest is not None else ""
        msg = _TYPES(
            "sam_perception/Prompt",
            header=messages.header(_TYPES, request.stamp_ns, frame_id),
            object_id=request.object_id,
            label=request.label,
            points=[coordinate for x, y, _ in request.points for coordinate in (x, y)],
            point_labels=[on_object for _, _, on_object in request.points],
            box=list(request.box or ()),
            text=request.text,
            region=request.region,
        )
        return self._done(AddObject.Request(prompt=msg))

    def rename(self, object_id: int, label: str) -> Done:
        """As `~/rename_object` does it.

        Raises:
            PerceptionError: there is no such object, or it cannot have this name.
        """
        return self._done(RenameObject.Request(object_id=object_id, label=label))

    def remove(self, object_id: int) -> Done:
        """As `~/remove_object` does it.

        Raises:
            PerceptionError: there is no such object.
        """
        return self._done(RemoveObject.Request(object_id=object_id))

    def reset(self) -> Done:
        """As `~/reset` does it.

        Raises:
            PerceptionError: the node has no model.
        """
        return self._done(Trigger.Request())

    def regions(self) -> CutUp:
        """The newest picture cut up as a whole.

        Raises:
            PerceptionError: there is no picture, or the node cannot cut it up.
        """
        pipeline = self._pipeline()
        if pipeline is None:
            raise ConsoleError(f"the node is {self._node.state_label} and has no model: configure and activate it")
        regions = pipeline.regions()
        if not regions.regions:
            raise ConsoleError(NOTHING_FOUND)
        picture = pipeline.region_desk.picture(regions)
        if picture is None:
            raise ConsoleError("another picture was cut up meanwhile: ask again")
        return CutUp(Processed(*picture, lifted=False), regions)

    def _done(self, request: Any) -> Done:
        response = self._answers.answer(request)
        if not response.success:
            raise ConsoleError(response.message)
        return Done(response.message, int(getattr(response, "object_id", 0)))


class Console:
    """Serves the node's console while `web.port` is set; whatever goes wrong with it leaves the node alone.

    Args:
        node: its logger says where the console is.
        backend: what is served.
    """

    def __init__(self, node: LifecycleNode, backend: NodeBackend) -> None:
        self._node, self._backend = node, backend
        self._config: WebConfig | None = None  # what is served now
        self._server: ConsoleServer | None = None
        self._trouble = ""

    def serve(self, config: WebConfig) -> None:
        """Serve with these settings; nothing changes where they are the ones in use."""
        if self._server is not None and config == self._config:
            return
        self.close()
        if not config.port:
            return
        self._config = config
        try:
            self._server = self._make(config)
        except PerceptionError as error:
            self._trouble = f"{error.kind}: {error}"
            self._node.get_logger().error(f"no web console: {self._trouble}")
            return
        self._server.start()

    def tell(self, statuses: Sequence[Status]) -> None:
        """Show these diagnostics from now on."""
        self._backend.statuses = tuple(statuses)

    def diagnose(self) -> Status | None:
        """How the console is; None where there is none."""
        if self._config is None:
            return None
        server = self._server
        trouble = self._trouble or (server.problem if server is not None else "")
        if server is None or trouble:
            return Status("console", ERROR, trouble or "it has ended")
        where = server.address
        values = {"address": f"{where[0]}:{where[1]}" if where else "", "pages": str(server.watchers)}
        return Status("console", OK, f"pages connected: {server.watchers}", values)

    def close(self) -> None:
        """End it."""
        server, self._server, self._config, self._trouble = self._server, None, None, ""
        if server is not None and not server.stop(_END_S):
            self._node.get_logger().warning(f"the web console has not ended within {_END_S:.0f} s")

    def _make(self, config: WebConfig) -> ConsoleServer:
        try:
            from sam_perception.web.server import ConsoleServer
        except ImportError as error:
            raise ConsoleError(f"the web console needs aiohttp ({error}): python3 -m pip install aiohttp") from error
        made: list[ConsoleServer] = []

        def announce() -> None:
            server = made[0]
            if server.problem:
                self._node.get_logger().error(f"no web console: {server.problem}")
            elif server.url:
                self._node.get_logger().info(f"web console on {server.url}")

        made.append(ConsoleServer(config, self._backend, announce))
        return made[0]
