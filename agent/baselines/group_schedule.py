"""When groups would run: a plain estimate that published placers look at beside what was simulated.

Groups run one at a time on each device, in the order in which they are placed, and links never
wait. Many schedules of one graph are kept at once.
"""

import numpy as np
from jaxtyping import Bool, Float64, Int64

from agent.baselines.group_graph import GroupGraph


class GroupSchedules:
    """Schedules that grow by one group at a time, each by a group of its own."""

    def __init__(self, groups: GroupGraph, count: int) -> None:
        self._groups, self._rows = groups, np.arange(count)
        self._parents = groups.adjacency.T.copy()
        self.finish = np.zeros((count, groups.count))
        """Seconds; 0 for groups that are not placed yet."""
        self.devices = np.zeros((count, groups.count), np.int64)
        self.placed: Bool[np.ndarray, "schedules groups"] = np.zeros((count, groups.count), bool)
        self.free: Float64[np.ndarray, "schedules devices"] = np.zeros((count, groups.device_count))
        """When each device has done what was placed on it."""
        self.busy: Float64[np.ndarray, "schedules devices"] = np.zeros_like(self.free)
        """Seconds of what was placed on each device."""

    def arrival(
        self, group: Int64[np.ndarray, " schedules"]
    ) -> Float64[np.ndarray, "schedules devices"]:
        """When all that a group of each schedule reads would be on each device, in seconds."""
        sizes = self._parents[group]
        links = self._groups.links
        sent = sizes[:, :, None] * links.seconds_per_byte[self.devices]
        there = self.finish[:, :, None] + sent + links.latency_seconds[self.devices]
        return np.asarray(np.where(sizes[:, :, None] > 0, there, 0.0).max(axis=1))

    def place(
        self,
        group: Int64[np.ndarray, " schedules"],
        device: Int64[np.ndarray, " schedules"],
        start: Float64[np.ndarray, " schedules"],
    ) -> None:
        """Append a group of each schedule to what runs on a device, from `start` on."""
        rows = self._rows
        seconds = self._groups.seconds[group, device]
        self.devices[rows, group] = device
        self.finish[rows, group] = start + seconds
        self.placed[rows, group] = True
        self.free[rows, device] = start + seconds
        self.busy[rows, device] += seconds


def start_potentials(
    groups: GroupGraph, devices: Int64[np.ndarray, "placements groups"]
) -> Float64[np.ndarray, "placements groups devices"]:
    """By how many seconds each group could begin earlier or later on each device, by its inputs.

    Measured from when it begins where it is, in the schedule of the groups in their order.
    """
    count = len(devices)
    links = groups.links
    start, finish = np.zeros(devices.shape), np.zeros(devices.shape)
    arrival = np.zeros((count, groups.count, groups.device_count))
    free = np.zeros((count, groups.device_count))
    rows = np.arange(count)
    for group in range(groups.count):
        parents = np.flatnonzero(groups.adjacency[:, group])
        if parents.size:
            at = devices[:, parents]
            sizes = groups.adjacency[parents, group][None, :, None]
            sent = sizes * links.seconds_per_byte[at] + links.latency_seconds[at]
            arrival[:, group] = (finish[:, parents, None] + sent).max(axis=1)
        device = devices[:, group]
        start[:, group] = np.maximum(arrival[rows, group, device], free[rows, device])
        finish[:, group] = start[:, group] + groups.seconds[group, device]
        free[rows, device] = finish[:, group]
    return arrival - start[:, :, None]
