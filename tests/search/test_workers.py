import os

import numpy as np
import pytest
from search.problems import Dying, Hanging, Sick, problem

from qcompiler.errors import UsageError
from qcompiler.search.evaluator import Evaluator
from qcompiler.search.local_workers import LocalProcesses
from qcompiler.search.workers import Serial, make_workers


@pytest.fixture(scope="module")
def evaluator():
    return problem()


def configs(evaluator, sick):
    last = len(evaluator.space.groups[-1].choices) - 1
    found = evaluator.space.sample(np.random.default_rng(4), 40)
    healthy = [c for c in found if c[-1] != last]
    return [healthy[0], *[c for c in found if c[-1] == last][:sick], *healthy[1:3]]


def outcomes(workers, batch):
    found = {}
    try:
        workers.run(batch, found.__setitem__)
    finally:
        workers.close()
    return [found[i] for i in range(len(batch))]


def sick_one(evaluator, make):
    return make(evaluator.workload, evaluator.space)


def test_processes_give_what_this_process_gives(evaluator):
    batch = configs(evaluator, 0)
    here = outcomes(Serial(evaluator), batch)
    there = outcomes(LocalProcesses(evaluator, 2), batch)
    for a, b in zip(here, there, strict=True):
        assert {**a.values, "seconds": 0} == {**b.values, "seconds": 0}


def test_a_trial_that_raises_is_a_result_and_the_others_go_on(evaluator):
    found = outcomes(Serial(sick_one(evaluator, Sick)), configs(evaluator, 1))
    assert [o.values is None for o in found] == [False, True, False, False]
    assert found[1].error == "ValueError: sick"


def test_a_trial_that_hangs_is_interrupted(evaluator):
    found = outcomes(Serial(sick_one(evaluator, Hanging), timeout=2.0), configs(evaluator, 1))
    assert [o.values is None for o in found] == [False, True, False, False]
    assert "longer than 2 s" in found[1].error


def test_a_process_that_hangs_is_ended_and_the_others_go_on(evaluator):
    found = outcomes(LocalProcesses(sick_one(evaluator, Hanging), 1, timeout=4.0), configs(evaluator, 1))
    assert [o.values is None for o in found] == [False, True, False, False]
    assert "longer than 4 s" in found[1].error


def test_a_process_that_dies_costs_its_own_trial_only(evaluator):
    found = outcomes(LocalProcesses(sick_one(evaluator, Dying), 1), configs(evaluator, 1))
    assert [o.values is None for o in found] == [False, True, False, False]
    assert "died" in found[1].error


def test_a_cluster_gives_what_this_process_gives_and_survives_the_loss_of_a_worker(evaluator):
    distributed = pytest.importorskip("distributed", reason="needs the package distributed")
    import dask

    batch = configs(evaluator, 0)
    here = outcomes(Serial(evaluator), batch)
    options = {"n_workers": 1, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    # A LocalCluster ends a worker for good that is away again a while (15 s) after it was lost, as the sick one may be.
    config = {"distributed.scheduler.allowed-failures": 0, "distributed.deploy.lost-worker-timeout": "10 minutes"}
    with dask.config.set(config), distributed.LocalCluster(**options) as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        there = outcomes(make_workers(address, evaluator, None), batch)
        assert [o.values["loss"] for o in there] == [o.values["loss"] for o in here]
        found = outcomes(make_workers(address, sick_one(evaluator, Dying), None), configs(evaluator, 1))
        assert [o.values is None for o in found] == [False, True, False, False]
        assert "died" in found[1].error


def test_a_cluster_without_workers_is_not_waited_for_without_end(evaluator, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="needs the package distributed")
    monkeypatch.setattr("qcompiler.search.workers.REJOIN", 1)
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        address = cluster.scheduler_address.replace("tcp://", "dask://")
        with pytest.raises(UsageError, match="no worker for 1 seconds"):
            outcomes(make_workers(address, evaluator, None), configs(evaluator, 0))


class Unready(Evaluator):
    """Evaluators that no other process can make."""

    def trial(self, config):
        return {}

    def __getstate__(self):
        return {"from": os.getpid()}

    def __setstate__(self, state):
        assert state["from"] == os.getpid(), "not here"


def test_processes_that_cannot_be_set_up_are_an_error():
    workers = LocalProcesses(Unready(), 1)
    with pytest.raises(UsageError, match="could not be set up"):
        workers.run([(0,)], lambda i, outcome: None)
    workers.close()


def test_a_process_that_died_while_it_was_idle_is_replaced(evaluator):
    batch = configs(evaluator, 0)
    workers = LocalProcesses(evaluator, 1)
    found = {}
    try:
        workers.run(batch[:1], found.__setitem__)
        (seat,) = workers._seats
        for process in list(seat._pool._processes.values()):
            process.kill()
            process.join()
        workers.run(batch[1:], found.__setitem__)
    finally:
        workers.close()
    assert all(o.values is not None for o in found.values())


@pytest.mark.parametrize("text", ["local", "local:0", "remote:2", "2"])
def test_unknown_forms_are_refused(evaluator, text):
    with pytest.raises(UsageError, match="give local:N"):
        make_workers(text, evaluator, None)


def test_a_scheduler_that_is_not_there_is_named(evaluator):
    pytest.importorskip("distributed", reason="needs the package distributed")
    with pytest.raises(UsageError, match="no Dask scheduler answers at tcp://127.0.0.1:1"):
        make_workers("dask://127.0.0.1:1", evaluator, None)
