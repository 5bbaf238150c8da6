"""All checks, in one order: first causes first, and nothing that only follows from them."""

from __future__ import annotations

from mosaic3d_core.doctor.check_images import check_calibrations, check_frames, check_images
from mosaic3d_core.doctor.check_outcome import check_outcome
from mosaic3d_core.doctor.check_poses import check_poses
from mosaic3d_core.doctor.check_setup import check_clock, check_graph, check_node, check_transport
from mosaic3d_core.doctor.check_times import check_pairs, check_stamps
from mosaic3d_core.doctor.check_topics import check_topics
from mosaic3d_core.doctor.findings import Finding
from mosaic3d_core.doctor.observations import Observations

_CHECKS = (
    check_node,
    check_transport,
    check_clock,
    check_topics,
    check_images,
    check_calibrations,
    check_frames,
    check_stamps,
    check_pairs,
    check_poses,
)


def examine(seen: Observations) -> tuple[Finding, ...]:
    """What is missing or does not match, in the order of :data:`mosaic3d_core.doctor.findings.CODES`.

    A check that lacks its data says nothing: what stopped the data is a finding of an earlier check. What became of the frames is
    told only where no error explains it.
    """
    alone = tuple(check_graph(seen))
    if alone:
        return alone
    found = [finding for check in _CHECKS for finding in check(seen)]
    outcome = list(check_outcome(seen))
    if any(finding.severity == "error" for finding in found):
        outcome = [finding for finding in outcome if finding.code == "worker_failed"]
    return tuple(sorted([*found, *outcome], key=lambda finding: finding.rank))
