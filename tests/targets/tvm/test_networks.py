"""Small integer networks, compiled for this CPU and compared integer by integer."""

from __future__ import annotations

import pytest

from support.integer_networks import random_codes, residual_network
from support.tvm_programs import differing, session_of

pytest.importorskip("tvm", reason="needs TVM: pip install 'qcompiler[tvm]'")


@pytest.mark.parametrize("rounding", ["dyadic", "shift_half_even"])
def test_residual_network(rounding: str) -> None:
    graph = residual_network(rounding=rounding)
    session = session_of(graph)
    for seed in range(2):
        arrays = random_codes(graph, seed)
        assert differing(graph, arrays, session.run(arrays)) == 0
    anchors = [kernel.nodes[0].op for kernel in session.lowered.kernels]
    assert anchors == ["conv"] * 8 + ["reduce_mean", "linear"]  # sums and rescaling are epilogues of convolutions
