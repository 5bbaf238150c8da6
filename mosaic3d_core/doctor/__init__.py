"""What is missing or does not match between cameras, poses and perception_node.

Observations (plain values, of a graph, a bag or the node itself) go through checks to findings; see :func:`examine`. No ROS here:
the observer of a live graph is in ``mosaic3d_ros.doctor``.
"""

from mosaic3d_core.doctor.examine import examine
from mosaic3d_core.doctor.findings import CODES, Code, Finding, Severity
from mosaic3d_core.doctor.observations import Observations, Settings
from mosaic3d_core.doctor.recorder import Recorder
from mosaic3d_core.doctor.transport import transport_of

__all__ = ["CODES", "Code", "Finding", "Observations", "Recorder", "Settings", "Severity", "examine", "transport_of"]
