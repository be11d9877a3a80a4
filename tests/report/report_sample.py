"""A realistic report of any number of layers, from a seed."""

from __future__ import annotations

import math

import numpy as np

from qcompiler.report import (
    Accuracy,
    CoverageRow,
    Decision,
    Latency,
    LayerErrorRow,
    MetricRow,
    Option,
    PassNote,
    ReportData,
    SiteNote,
    Sizes,
    Stage,
    Unfused,
    VerificationRun,
)

_KINDS = (("conv_pw", "conv2d"), ("conv_dw", "depthwise_conv2d"), ("conv_pwl", "conv2d"), ("add", "add"))


def module_names(layers: int) -> list[tuple[str, str]]:
    """`(module path, op)` of a mobile network with `layers` layers."""
    names = [("conv_stem", "conv2d")]
    for index in range(layers - 3):
        block, (name, op) = index // len(_KINDS), _KINDS[index % len(_KINDS)]
        per_stage = max(1, math.ceil(layers / len(_KINDS) / 7))
        names.append((f"blocks.{block // per_stage}.{block % per_stage}.{name}", op))
    return [*names, ("global_pool", "global_average_pool"), ("classifier", "linear")]


def sample_report(count: int = 60, /, seed: int = 0, **changes) -> ReportData:
    """A full report; `changes` replace whole fields."""
    rng = np.random.default_rng(seed)
    names = module_names(count)
    local = (
        42
        - 4 * rng.random(count)
        - np.where([op.startswith("depth") for _, op in names], 9 * rng.random(count), 0)
    )
    own = np.concatenate([[0.0], np.cumsum(10 ** (-local[1:] / 10))]) * 0.35
    run = -10 * np.log10(own + 10 ** (-local / 10))
    rows = tuple(
        LayerErrorRow(
            module=module,
            op=op,
            sqnr_local_db=local[i],
            sqnr_cumulative_db=run[i],
            max_abs_error=rng.gamma(2, 0.4),
            mean_shift=rng.normal(0, 0.01),
            rms=rng.gamma(3, 0.5),
        )
        for i, (module, op) in enumerate(names)
    )
    coverage = (
        *(
            CoverageRow(
                module=m,
                op=op,
                dtype="u8 x s8",
                kernel="QLinearConv",
                quantized=True,
                macs=int(rng.integers(1, 40)) * 10**6,
            )
            for m, op in names[:-1]
        ),
        CoverageRow(
            module="classifier", op="linear", dtype="u8 x s8", kernel="QGemm", quantized=True, macs=1_280_000
        ),
        *(
            CoverageRow(
                module=f"blocks.{i}.0.act",
                op="softmax",
                dtype="float32",
                kernel="Softmax",
                quantized=False,
                why_not="the recipe allows softmax in float",
            )
            for i in range(6)
        ),
        CoverageRow(
            module="blocks.5",
            op="add",
            dtype="float32",
            kernel="Add",
            quantized=False,
            why_not="never-slower: 1.31 ms quantized, 1.12 ms float",
        ),
    )
    fields = {
        "target": "onnxruntime-cpu",
        "recipe": "w8a8",
        "model": "efficientnet_lite0",
        "model_hash": "sha256:" + "3fa9c1" * 10 + "beef",
        "calibration_hash": "sha256:" + "8d02e7" * 10 + "cafe",
        "samples": 128,
        "versions": {"qcompiler": "0.1.0", "torch": "2.13.0", "onnxruntime": "1.31.1", "numpy": "2.4.0"},
        "isa": "avx2",
        "seed": 0,
        "accuracy": Accuracy(
            data="held_back",
            samples=64,
            sqnr_db=24.13,
            cosine=0.99812,
            agreement=0.953,
            metrics=(MetricRow(name="top-1", float_value=0.7512, quantized_value=0.7478),),
        ),
        "latency": Latency(
            float_ms=12.31,
            quantized_ms=5.13,
            threads=1,
            noise=0.021,
            kind="measured",
            runtime="onnxruntime 1.31.1, CPUExecutionProvider",
        ),
        "sizes": Sizes(
            float_bytes=18_630_512,
            artefact_bytes=4_921_004,
            weight_bytes={"int8": 4_601_200, "int32": 92_160, "float32": 21_504},
        ),
        "coverage": coverage,
        "layers": rows,
        "passes": (
            PassNote(
                name="fold_batch_norm",
                kind="EXACT",
                seconds=0.04,
                taken=tuple(
                    SiteNote(site=m, text="folded into the convolution before it")
                    for m, op in names
                    if "conv" in op
                ),
            ),
            PassNote(
                name="equalize_cross_layer",
                kind="EXACT",
                seconds=0.31,
                taken=(SiteNote(site="blocks.1.0.conv_dw", text="scales 0.31 to 4.2 over 96 channels"),),
                refused=(
                    SiteNote(site="blocks.2.0.conv_pwl", text="its output is also read by blocks.2.1.add"),
                    *(
                        SiteNote(
                            site=m,
                            text="no second convolution follows",
                            figures={"channels": 32, "gain_db": 0.0421},
                        )
                        for m, op in names
                        if op == "add"
                    ),
                    SiteNote(
                        site="conv_stem", text="hard-swish between the two is not positively homogeneous"
                    ),
                ),
            ),
            PassNote(name="fuse_attention", kind="EXACT", seconds=0.01),
            PassNote(
                name="round_hessian", kind="LOSSY", seconds=8.4, taken=(SiteNote(site="blocks.0.0.conv_dw"),)
            ),
        ),
        "decisions": (
            Decision(
                kind="never_slower",
                site="blocks.5",
                chosen="float",
                unit="ms",
                options=(Option(name="quantized", score=1.31), Option(name="float", score=1.12)),
                why="the quantized region is 17 % slower than float",
            ),
            Decision(
                kind="rounding",
                site="blocks.0.0.conv_dw",
                chosen="hessian",
                unit="dB",
                options=(
                    Option(name="nearest", score=21.4),
                    Option(name="hessian", score=24.1),
                    Option(name="adaround"),
                ),
                why="best SQNR on the held-back samples",
            ),
        ),
        "verification": tuple(
            VerificationRun(
                name=f"ONNX Runtime, optimisations {state}",
                level="QUANTIZED",
                samples=16,
                values=16_000,
                differing=d,
                max_lsb=min(d, 2),
                sqnr_db=math.inf if d == 0 else 51.2,
                passed=True,
                local_module="blocks.3.1.conv_dw",
                local_op="depthwise_conv2d",
                local_share=0.0004,
                local_max_lsb=1,
            )
            for state, d in (("off", 0), ("on", 41))
        ),
        "unfused": (
            Unfused(
                module="global_pool",
                op="DequantizeLinear",
                why="the runtime has no integer kernel for this pool",
            ),
        ),
        "stages": (
            Stage(name="capture", seconds=3.2, peak_bytes=612_000_000),
            Stage(name="canonicalize", seconds=0.21, peak_bytes=640_000_000),
            Stage(name="calibrate", seconds=14.2, peak_bytes=812_000_000),
            Stage(name="quantize", seconds=9.9, peak_bytes=830_000_000),
            Stage(name="emit", seconds=0.4, peak_bytes=830_000_000),
            Stage(name="verify", seconds=6.1, peak_bytes=842_000_000),
        ),
    }
    return ReportData(**{**fields, **changes})
