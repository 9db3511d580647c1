"""The lifecycle node: parts are made, started, stopped and freed here."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Any

import psutil
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from sam_perception.config import PerceptionConfig
from sam_perception.errors import PerceptionError, TransformError
from sam_perception.perception import Perception
from sam_perception.ros import diagnosis
from sam_perception.ros.clicks import Clicks
from sam_perception.ros.clock_watch import ClockWatch
from sam_perception.ros.complaints import Complaints
from sam_perception.ros.console import Console, NodeBackend
from sam_perception.ros.diagnosis import Status
from sam_perception.ros.health import Health
from sam_perception.ros.inputs import Inputs
from sam_perception.ros.logs import logged_to
from sam_perception.ros.parameters import NodeParameters
from sam_perception.ros.pipeline import Pipeline
from sam_perception.ros.publishers import Outputs
from sam_perception.ros.resume import ObjectStore, store_path
from sam_perception.ros.services import Services
from sam_perception.ros.synchronizer import check_backend
from sam_perception.ros.watchdog import Watchdog
from sam_perception.ros.whereabouts import Whereabouts

_STOP_S = 1.0  # for a frame in work to come to its end

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class PerceptionNode(LifecycleNode):  # type: ignore[misc]  # rclpy is not typed
    """Topics in, topics out.

    unconfigured: parameters and services only. inactive: the model is loaded, prompts are taken and
    wait. active: subscribed to the camera. All callbacks are short; inference has its own thread.

    Args:
        make_perception: called while configuring.
        name: the node's name.
        options: of rclpy's node, such as `parameter_overrides`.

    Raises:
        ConfigError: a parameter was given a value that it cannot have.
    """

    def __init__(
        self,
        make_perception: Callable[[PerceptionConfig], Perception] = Perception,
        name: str = "sam_perception",
        **options: Any,
    ) -> None:
        super().__init__(name, **options)
        self._make_perception = make_perception
        self._health = Health()
        self._scene_outputs: Outputs | None = None
        self._whereabouts: Whereabouts | None = None
        self._pipeline: Pipeline | None = None
        self._camera: Inputs | None = None
        self._watchdog: Watchdog | None = None
        self._complaints = Complaints(self._health, self.get_logger())  # while there is no pipeline
        self._trouble = ""  # why the node could not be configured
        self._own_process = psutil.Process()
        self._settings = NodeParameters(self, lambda: self._pipeline is not None, self._on_parameters)
        self._requests = Services(self, lambda: self._pipeline, self._on_prompt_error)
        self._clicks = Clicks(
            self, lambda: self._pipeline, self._transform, lambda: self._settings.node.clicks, self._on_prompt_error
        )
        self._console = Console(
            self,
            NodeBackend(
                self, lambda: self._pipeline, lambda: self._health, lambda: self._settings.perception, self._requests
            ),
        )
        self._diagnostics_publisher = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Steady clocks: with use_sim_time and no /clock, people need diagnostics most.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(self._settings.node.diagnostics_period_s, self.publish_diagnostics, clock=steady)
        if self._settings.node.autostart:
            self._autostart_timer = self.create_timer(0.0, self._start, clock=steady)

    @property
    def state_label(self) -> str:
        """unconfigured, inactive, active, or what lies between them."""
        return str(self._state_machine.current_state[1])

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model; on failure the reason is logged, put into diagnostics, and the node stays unconfigured."""
        self._console.serve(self._settings.node.web)
        config = self._settings.perception
        self.get_logger().info(f"loading model {config.model} on {config.device}")
        try:
            check_backend(self._settings.node.sync.backend)
            with logged_to(self.get_logger()):  # compiling a model takes minutes, and says how far it is
                perception = self._make_perception(config)
            self._whereabouts = Whereabouts(self, self._settings.node, self._on_prompt_error)
        except PerceptionError as error:
            return self._fail(f"{error.kind}: {error}")
        except Exception:  # rclpy would swallow it
            return self._fail(f"the model could not be loaded:\n{traceback.format_exc()}")
        self._trouble = ""
        self._health = Health()
        self._scene_outputs = Outputs(self, self._settings.node.output)
        self._store = ObjectStore(
            store_path(self.context.get_domain_id(), self.get_fully_qualified_name()),
            self._settings.node.resume_max_age_s,
        )
        self._pipeline = Pipeline(
            perception,
            self._scene_outputs,
            self._store,
            self._health,
            ClockWatch(self._now_ns, lambda: bool(self.get_clock().ros_time_is_active)),
            self.get_logger(),
            self._whereabouts,
            self._settings.node.target_rate_hz,
        )
        self._watchdog = Watchdog(self._pipeline.work, lambda: self._settings.node, self.get_logger())
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe to the camera and work."""
        if self._pipeline is None:
            return FAILURE
        result = super().on_activate(state)  # enables the publishers
        self._health.start()
        self._pipeline.activate(True)
        self._camera = Inputs(self, self._settings.node, self._health, self._pipeline.offer, self._pipeline.refuse)
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop working and listening; objects stay known."""
        self._stop_listening()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free the model and forget the objects."""
        result = super().on_cleanup(state)
        self._free()
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop and free, from whatever state."""
        self._stop_listening()
        result = super().on_shutdown(state)
        self._free()
        self._console.close()
        return result

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured."""
        self._stop_listening()
        self._free()
        return super().on_error(state)

    def destroy_node(self) -> None:
        """End the console too, from whatever state."""
        self._console.close()
        super().destroy_node()

    def publish_diagnostics(self) -> None:
        """Send what is known about the node's health; in every state."""
        statuses = self._statuses()
        self._console.tell(statuses)
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        array.status = [self._status_msg(status) for status in statuses]
        self._diagnostics_publisher.publish(array)

    def _start(self) -> None:
        self.destroy_timer(self._autostart_timer)
        # Somebody may have been faster.
        if self.state_label == "unconfigured" and self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _fail(self, reason: str) -> TransitionCallbackReturn:
        self._trouble = reason
        self.get_logger().error(f"cannot be configured: {reason}")
        self.publish_diagnostics()
        return FAILURE

    def _stop_listening(self) -> None:
        if self._camera is not None:
            self._camera.close()
            self._camera = None
        if self._pipeline is not None:
            self._pipeline.activate(False)

    def _free(self) -> None:
        if self._pipeline is not None:
            self._pipeline.stop(_STOP_S)
            self._pipeline = None
            if self._watchdog is not None:
                self._watchdog.close()
                self._watchdog = None
            self._store.discard()  # this end is meant; only a crash leaves the objects for the next start
        if self._scene_outputs is not None:
            self._scene_outputs.close()
            self._scene_outputs = None
        if self._whereabouts is not None:
            self._whereabouts.close()
            self._whereabouts = None

    def _on_parameters(self) -> None:
        if self._pipeline is not None:
            self._pipeline.reconfigure(self._settings.perception)

    def _on_prompt_error(self, error: Exception) -> None:
        (self._pipeline or self._complaints).refuse(error)

    def _transform(self, target: str, source: str, stamp_ns: int) -> Any:
        if self._whereabouts is None:
            raise TransformError(f"no transform from {source!r} to {target!r}: the node is {self.state_label}")
        return self._whereabouts.lookup(target, source, stamp_ns)

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _statuses(self) -> list[Status]:
        statuses = [status for status in (self._own_status(), self._console.diagnose()) if status is not None]
        pipeline = self._pipeline
        if pipeline is None:
            return statuses
        health = self._health.snapshot()
        if self._camera is not None:
            statuses.append(diagnosis.diagnose_inputs(health, self._camera.wiring(), self._settings.node.input))
        newest = pipeline.newest()
        statuses.append(diagnosis.diagnose_frames(health))
        if self._watchdog is not None:
            statuses.append(self._watchdog.status())
        if self._scene_outputs is not None:
            moved = self._whereabouts.unheard if self._whereabouts is not None else {}
            statuses.append(diagnosis.diagnose_outputs(self._scene_outputs.unheard | moved))
        statuses += self._whereabouts.statuses() if self._whereabouts is not None else []
        statuses.append(diagnosis.diagnose_latency(health))
        statuses.append(diagnosis.diagnose_deadline(pipeline.deadline))
        statuses.append(diagnosis.diagnose_objects(newest.scene if newest else None, pipeline.desk.waiting))
        return statuses

    def _own_status(self) -> Status:
        config = self._settings.perception
        values = {
            "state": self.state_label,
            "model": config.model,
            "device": config.device,
            "memory MB": f"{self._own_process.memory_info().rss / 1e6:.0f}",
        }
        if self._trouble:
            return Status("node", diagnosis.ERROR, f"cannot be configured: {self._trouble}", values)
        if self._pipeline is not None and self._pipeline.degraded:
            return Status("node", diagnosis.WARN, f"{self.state_label}; {self._pipeline.degraded}", values)
        return Status("node", diagnosis.OK, self.state_label, values)

    def _status_msg(self, status: Status) -> DiagnosticStatus:
        name = self.get_fully_qualified_name()
        return DiagnosticStatus(
            level=bytes([status.level]),
            name=f"{name}: {status.name}",
            message=status.message,
            hardware_id=name,
            values=[KeyValue(key=key, value=value) for key, value in status.values.items()],
        )
