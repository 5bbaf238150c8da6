"""perception_node: fuses posed RGB-D frames, encodes the map, publishes labels and answers text queries.

A lifecycle node: configure loads the model and opens the services, activate takes frames; ``autostart`` does both by itself.
"""

from __future__ import annotations

import sys
import threading
import traceback
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.parameter import Parameter

from mosaic3d_core.errors import Mosaic3DError
from mosaic3d_ros import parameters
from mosaic3d_ros.diagnostics import DiagnosticsPublisher
from mosaic3d_ros.doctor import graph
from mosaic3d_ros.frame_counters import FrameCounters
from mosaic3d_ros.perception import Perception
from mosaic3d_ros.runtime import ClosableLifecycleNode, install_log_handler, run_node
from mosaic3d_ros.self_check import NodeFacts, SelfCheck, settings_from

_CALLBACK_THREADS = 4
_SHORTEST_WINDOW_S = 2.0
# A process that is told to end has two seconds; an encoding of a large map can take longer and is given up.
_END_S = 1.0


class PerceptionNode(ClosableLifecycleNode):
    """See the module. Topics, services and parameters: docs/ros.md."""

    def __init__(self) -> None:
        super().__init__("perception_node")
        install_log_handler(self)
        self.values = parameters.declare(self, parameters.perception_specs())
        self.counters = FrameCounters()
        self._perception: Perception | None = None
        self._problem = ""
        self._exit_code = 0
        self._starter: threading.Thread | None = None
        self.add_on_set_parameters_callback(self._on_parameters)
        name = self.get_fully_qualified_name()
        self._check = SelfCheck(
            name,
            {},
            settings_from(self.values, bool(self.get_parameter("use_sim_time").value)),
            self._facts,
            lambda topic: graph.publishers_of(self, topic),
            lambda: self.get_clock().now().nanoseconds,
            lambda topic: graph.subscriptions_of(self, topic, name),
            window_s=max(_SHORTEST_WINDOW_S, self.values["watchdog_period_s"]),
        )
        self._diagnostics = DiagnosticsPublisher(self, self._check)
        warning = self._check.warning()  # nothing is known yet but what is wrong with the transport
        if warning:
            self.get_logger().warning(warning)

    # Transitions --------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Configure and activate, if that is wanted; on a thread of its own, so that the node answers meanwhile."""
        if self.values["autostart"]:
            self._starter = threading.Thread(target=self._autostart, name="autostart", daemon=True)
            self._starter.start()
        else:
            self.get_logger().info("Waiting to be configured (autostart is false).")

    def _autostart(self) -> None:
        for trigger in (self.trigger_configure, self.trigger_activate):
            if trigger() == TransitionCallbackReturn.SUCCESS:
                continue
            if self.context.ok():  # otherwise it was told to end meanwhile
                print(f"Cannot start: {self._problem}", file=sys.stderr, flush=True)
                self._exit_code = 2
                self.context.try_shutdown()
            return

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model, open the services."""
        try:
            self._perception = Perception(self, self.values, self.counters, self._check)
        except Exception as error:  # rclpy would swallow it
            return self._refuse(error)
        return TransitionCallbackReturn.SUCCESS

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and start the threads."""
        assert self._perception is not None
        try:
            self._perception.start()
        except Exception as error:
            self._perception.stop()
            return self._refuse(error)
        return TransitionCallbackReturn.SUCCESS

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe; the map stays, and queries are answered from it."""
        assert self._perception is not None
        self._perception.stop()
        return TransitionCallbackReturn.SUCCESS

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Forget map and model."""
        self._drop_perception()
        return TransitionCallbackReturn.SUCCESS

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """End for good; the process stays until it is told to go."""
        self._drop_perception()
        return TransitionCallbackReturn.SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After an unexpected error in a transition: back to the beginning."""
        self._drop_perception()
        return TransitionCallbackReturn.SUCCESS

    def _refuse(self, error: Exception) -> TransitionCallbackReturn:
        self._problem = " ".join(str(error).split())
        if isinstance(error, (Mosaic3DError, ValueError, ImportError, OSError)):
            self.get_logger().error(self._problem)
        else:  # a fault of the node, not of its settings
            self._problem = f"{type(error).__name__}: {self._problem}"
            self.get_logger().error("".join(traceback.format_exception(error)))
        return TransitionCallbackReturn.FAILURE

    def _drop_perception(self) -> None:
        perception, self._perception = self._perception, None
        if perception is not None:
            perception.stop()
            perception.close()

    def _facts(self) -> NodeFacts:
        perception = self._perception
        own: dict[str, Any] = {"last_error": self._problem} if perception is None else perception.facts()
        counts: dict[str, Any] = self.counters.as_dict()
        return NodeFacts(
            lifecycle=str(self._state_machine.current_state[1]),
            model_loaded=perception is not None,
            **{key: counts[key] for key in ("received", "fused", "dropped")},
            **own,
        )

    # Parameters ---------------------------------------------------------------------------------------------

    def _on_parameters(self, changes: list[Parameter]) -> SetParametersResult:
        values: dict[str, Any] = parameters.merged(self.values, changes)
        try:
            parameters.check(values)
            if self._perception is not None:
                self._perception.reconfigure(values)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        self.values = values
        return SetParametersResult(successful=True)

    # End ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End the threads and say what happened to the frames."""
        perception, self._perception = self._perception, None
        ended = perception is None or perception.stop(_END_S)
        counts = self.counters.as_dict()
        # Not through the logger: after Ctrl-C its topic is gone and it would complain about that.
        print(f"Fused {counts['fused']} frames, dropped {counts['dropped'] or 'none'}.", flush=True)
        loading = False
        if self._starter is not None:
            self._starter.join(_END_S)
            loading = self._starter.is_alive()
        self.unfinished = loading or not ended

    @property
    def exit_code(self) -> int:
        """0, or 2 when the node could not start with its settings."""
        return self._exit_code


def main(args: list[str] | None = None) -> int:
    """Entry point of the executable ``perception_node``."""
    return run_node(PerceptionNode, args, _CALLBACK_THREADS)


if __name__ == "__main__":
    sys.exit(main())
