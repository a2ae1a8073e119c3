"""Pages about training runs on several processes say what was measured."""

from argparse import Namespace

from benchmarks.speed import experience_cost, workers
from benchmarks.speed.task_cost import Cost


def test_gains_of_ways_to_train_by_hand() -> None:
    found = {
        name: [workers.Measured(*pair) for pair in pairs]
        for name, pairs in {
            "1": [(10.0, 9.0), (12.0, 9.0), (11.0, 9.0)],
            "2": [(5.0, 4.5), (8.0, 5.0), (5.5, 6.0)],
            "ray": [(20.0, 1.0), (24.0, 1.0), (22.0, 1.0)],
        }.items()
    }
    text = workers.page(found, "--repeats 3", [0.25, 2.0, 1.5])
    assert "load 0.2 before the run and 2.0 at most after one" in text
    assert "| 1 | 11.00 | 1 | 9.00 | 1 |" in text
    # 11 over 5.5; 12 over 8 is the least, 10 over 5 and 11 over 5.5 the most; 9 over 5, 6 and 4.5.
    assert (
        "| 2 that learn and search (gloo) | 5.50 | 2.00 times as many (1.50-2.00) "
        "| 5.00 | 1.80 times as many (1.50-2.00) |" in text
    )
    assert "(`--ray`) | 22.00 | 0.50 times as many (0.50-0.50) | 1.00 | - |" in text


def test_what_experience_of_a_thousand_workers_takes_by_hand() -> None:
    phases = [
        experience_cost.PhaseCost("moves", 10.0, 9.0, 2.0, 0.003, 500_000.0, 25_000.0),
        experience_cost.PhaseCost("outcomes", 8.0, 6.0, 1.0, 0.009, 4_000_000.0, 900.0),
        experience_cost.PhaseCost("policy", 4.0, 1.0),
    ]
    costs = [Cost("ray-actors", 5.0, 0.002, 0.001, 0.01)]
    given = Namespace(rounds=4, graphs=8, max_ops=2000)
    text = experience_cost.page(phases, costs, given, 0.1)
    assert "| moves | 70% | 10.00 | 90% | 2.00 | 3.0 ms | 500,000 |" in text
    assert "| policy | 5% | 4.00 | 25% | - | - | - |" in text
    # 2 s over 3 + 1 ms; 125 MB/s over 0.5 MB, times 2 s; ten times as much.
    assert "| moves | see below | 500 | 500 | 5,000 |" in text
    # Eight slots of 1 s over the 2 s that they are learned in; 1 s over 10 ms; 31.25 a second.
    assert "| outcomes | 4.0 | 100 | 31 | 312 |" in text
    assert "takes about 3.00 seconds, in 33% of which all workers wait for the learner" in text
