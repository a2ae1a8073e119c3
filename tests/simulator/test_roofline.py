"""The roofline: what an op takes on a device, by hand."""

import numpy as np
from graph_samples import graph_of, op

from simulator import preset
from simulator.costs.cost_model import RooflineCosts


def test_each_launch_of_a_loop_is_paid() -> None:
    cluster = preset("2xv100-pcie")
    graph = graph_of(op("loop", 0, launches=400, bytes_read=9e2), op("one", 0, bytes_read=9e2))
    loop, one = RooflineCosts().seconds(graph, cluster)[:, 0]
    np.testing.assert_allclose(loop - one, 399 * cluster.devices[0].launch_seconds, rtol=1e-12)
