from search.problems import random_samples

from qcompiler.recipe import load_recipe
from qcompiler.search import backends
from qcompiler.search.exact import ExactEvaluator
from qcompiler.search.groups import find_groups
from qcompiler.search.space import Space
from qcompiler.search.workload import Workload
from qcompiler.targets import get_target
from support.tools import requires_tool
from support.toy_networks import mobile_network


def evaluator(target: str) -> ExactEvaluator:
    graph, recipe = mobile_network(), load_recipe("w8a8")
    data = [random_samples(graph, 6, s) for s in (1, 2, 3)]
    work = Workload(graph, get_target(target), recipe, *data, "agreement")
    return ExactEvaluator(work, Space((), find_groups(graph, recipe, work.target)))


def test_onnxruntime_gives_latency_beside_float_and_size_all_measured(monkeypatch):
    monkeypatch.setattr(backends, "SECONDS", 0.05)
    exact = evaluator("onnxruntime-cpu")
    figures = exact.trial(exact.space.uniform("static w8a8"))
    assert {"latency_ms", "float_ms", "latency_ratio", "size_bytes", "drop", "loss", "agreement"} <= figures.keys()
    assert {f.kind for f in figures.values()} == {"measured"}
    assert figures["latency_ratio"].environment.startswith("onnxruntime-cpu")
    assert figures["latency_ratio"].value > 0 and figures["size_bytes"].value > 1000


def test_microcontrollers_give_flash_and_ram_from_the_memory_plan():
    requires_tool("gcc", "cc")
    exact = evaluator("host-c")
    wide = exact.trial(exact.space.uniform("static w8a8"))
    narrow = exact.trial(exact.space.uniform("static w4a8"))
    for figures in (wide, narrow):
        assert {"flash_bytes", "ram_bytes", "size_bytes", "loss"} <= figures.keys() and "latency_ms" not in figures
        assert figures["flash_bytes"].kind == figures["ram_bytes"].kind == "analytic"
    assert narrow["flash_bytes"].value < wide["flash_bytes"].value
    assert narrow["ram_bytes"].value >= wide["ram_bytes"].value > 0  # 4-bit weights are unpacked into scratch
    assert narrow["loss"].value > wide["loss"].value
