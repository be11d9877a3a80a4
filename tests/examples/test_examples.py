"""Every script in examples/ runs as a reader would run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.models import fashion_mnist
from qcompiler import load
from support.tiny_llama import tiny_llama
from support.tools import requires_file, requires_tool

ROOT = Path(__file__).parent.parent.parent
RUN_HERE = {
    "01_compile_efficientnet.py",
    "02_compile_cortex_m.py",
    "03_generate_smollm2.py",
    "04_tune_small_network.py",
    "05_qat_lsq.py",
    "06_import_quantized.py",
    "07_compile_fpga.py",
}


def test_every_example_is_run() -> None:
    assert {path.name for path in (ROOT / "examples").glob("*.py")} == RUN_HERE


def test_compile_efficientnet(tmp_path: Path) -> None:
    out = tmp_path / "efficientnet"
    result = subprocess.run(
        [sys.executable, ROOT / "examples/01_compile_efficientnet.py", "--out", out],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    # The first evaluation crop shows the astronaut; the network, float or not, sees some ImageNet class in it.
    assert "agreement" in result.stdout and "SQNR" in result.stdout and "report.html" in result.stdout
    assert {path.name for path in out.iterdir()} >= {
        "model.onnx", "graph.txt", "weights.safetensors", "recipe.lock.yaml", "report.html", "report.json",
    }  # fmt: skip
    assert (out / "model.onnx").stat().st_size < 6e6  # float: 18.6 MB
    report = json.loads((out / "report.json").read_text())
    assert report["accuracy"]["agreement"] > 0.85


def test_generate(tmp_path: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    model, tokenizer = tiny_llama(), Tokenizer(models.WordLevel({"one": 0, "two": 1, "[UNK]": 2}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    from transformers import PreTrainedTokenizerFast

    model.save_pretrained(tmp_path / "model")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(tmp_path / "model")
    result = subprocess.run(
        [sys.executable, ROOT / "examples/03_generate_smollm2.py", "--model", tmp_path / "model", "--group-size", "32",
         "--prompt", "one two one", "--tokens", "5", "--out", tmp_path / "out"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "4-bit weights:" in result.stdout and "times the speed of float" in result.stdout
    assert (tmp_path / "out" / "model.onnx").stat().st_size < 300_000  # float: 430 kB


def test_qat_lsq(tmp_path: Path) -> None:
    requires_file(fashion_mnist.folder() / "train-images-idx3-ubyte.gz", fashion_mnist.PACKAGE)
    result = subprocess.run(
        [sys.executable, ROOT / "examples/05_qat_lsq.py", "--images", "800", "--epochs", "1", "--out", tmp_path / "out"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    before, after = (float(result.stdout.split(text)[1].split("%")[0]) for text in (", not trained: ", "learned steps: "))
    assert after > 85 and after > before
    assert "\n0 of " in result.stdout
    (weight,) = {v.dtype.name for v in load(tmp_path / "out").graph.constants() if v.quant is not None} - {"int8"}
    assert weight == "int4"


def test_import_quantized(tmp_path: Path) -> None:
    requires_file(fashion_mnist.folder() / "train-images-idx3-ubyte.gz", fashion_mnist.PACKAGE)
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm", "make", "gcc"):
        requires_tool(tool)
    result = subprocess.run(
        [sys.executable, ROOT / "examples/06_import_quantized.py", "--images", "20", "--out", tmp_path / "out"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "\n0 integers of the C program differ" in result.stdout and "in QEMU: 0 integers differ" in result.stdout
    compared = result.stdout.split("right on ")[1]
    theirs, ours = (float(text.split("%")[0]) for text in (compared, compared.split("program on ")[1]))
    assert ours == theirs > 75
    assert "Traceback" not in result.stderr and (tmp_path / "out" / "model.c").is_file()


def test_compile_cortex_m(tmp_path: Path) -> None:
    for tool in ("arm-none-eabi-gcc", "qemu-system-arm", "make", "gcc"):
        requires_tool(tool)
    out = tmp_path / "shapes"
    result = subprocess.run(
        [sys.executable, ROOT / "examples/02_compile_cortex_m.py", "--out", out],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "in QEMU: 0 integers differ" in result.stdout
    assert float(result.stdout.split("right on ")[1].split("%")[0]) > 85
    assert {path.name for path in out.iterdir()} >= {"model.h", "model.c", "kernels", "test", "Makefile", "memory.json", "graph.txt"}
    report = json.loads((out / "report.json").read_text())
    assert report["memory"]["flash_bytes"] < 32_000 and report["memory"]["ram_bytes"] < 8_000
    assert report["memory"]["arena_ratio"] <= 1.05 and report["coverage_summary"]["op_share"] == 1


def test_tune_small_network(tmp_path: Path) -> None:
    requires_tool("gcc", "cc")
    out = tmp_path / "digits"
    command = [sys.executable, ROOT / "examples/04_tune_small_network.py", "--out", out, "--trials", "12"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert float(first.stdout.split("right on ")[1].split("%")[0]) > 85
    tuned = json.loads((out / "tune.json").read_text())
    assert tuned["best"]["figures"]["size_bytes"]["value"] <= 12_000 < tuned["baseline"]["figures"]["size_bytes"]["value"]
    assert {"static w4a8", "static w8a8"} <= set(tuned["best"]["config"]["groups"].values())


def test_compile_fpga(tmp_path: Path) -> None:
    for tool in ("g++", "verilator"):
        requires_tool(tool)
    result = subprocess.run(
        [sys.executable, ROOT / "examples/07_compile_fpga.py", "--out", tmp_path / "out"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    right = [float(part.split("%")[0]) for part in result.stdout.split("right on ")[1:]]
    assert len(right) == 2 and min(right) > 80 and "in Verilator: 0 integers differ" in result.stdout
    dsp = [int(part.split(" frame, ")[1].split(" DSP")[0]) for part in result.stdout.split("clocks per")[1:3]]
    assert dsp[1] < dsp[0]
    assert (tmp_path / "out" / "vitis_hls.tcl").is_file()
