"""A device program's timeline as a Perfetto trace, laid out like the simulator's."""

import json

from graphs.graph import Graph
from graphs.kinds import OpKind
from placement.runtime.programs.device_program import DeviceProgram, Receive, Run, Send
from placement.runtime.programs.replay import Timeline
from simulator.clusters.cluster import Cluster
from simulator.traces.perfetto import name_tracks, slice_event


def program_trace_json(
    graph: Graph, cluster: Cluster, program: DeviceProgram, timeline: Timeline, source: str
) -> str:
    """One process per device with its steps, one track per link with what is on its way.

    A transfer's slice lasts from the end of its send to the end of its receive; where several are
    on their way at once, it begins when the one before has been received.
    """
    pairs = sorted({(t.source, t.target) for t in program.transfers})
    events = name_tracks(cluster, pairs)
    sent: dict[int, float] = {}
    received: dict[int, float] = {}
    for device, steps in enumerate(program.steps):
        for at, step in enumerate(steps):
            begin, end = float(timeline.begin[device][at]), float(timeline.end[device][at])
            if isinstance(step, Run):
                name = graph.op_names[step.ops[0]]
                more = f" +{len(step.ops) - 1}" if len(step.ops) > 1 else ""
                kind = OpKind(graph.kinds[step.ops[0]]).name.lower()
                details = {"type": graph.op_types[step.ops[0]], "ops": len(step.ops)}
                events.append(slice_event(name + more, kind, device + 1, 0, begin, end, details))
                continue
            verb = "send" if isinstance(step, Send) else "receive"
            tensor = program.transfers[step.transfer].tensor
            events.append(slice_event(f"{verb} {tensor}", verb, device + 1, 0, begin, end, {}))
            if isinstance(step, Receive):
                received[step.transfer] = end
            else:
                sent[step.transfer] = end
    free = dict.fromkeys(pairs, 0.0)
    for number in sorted(received, key=lambda item: (received[item], item)):
        transfer = program.transfers[number]
        pair = (transfer.source, transfer.target)
        begin = max(sent[number], free[pair])
        free[pair] = max(begin, received[number])
        events.append(
            slice_event(
                transfer.tensor,
                "transfer",
                cluster.device_count + 1,
                pairs.index(pair),
                begin,
                free[pair],
                {"sent_seconds": sent[number]},
            )
        )
    document = {
        "traceEvents": events,
        "displayTimeUnit": "ms",
        "otherData": {
            "graph": graph.name,
            "digest": graph.digest,
            "cluster": cluster.name,
            "source": source,
        },
    }
    return json.dumps(document)
