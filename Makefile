# Each target sets up everything it needs in .venv, with every version pinned in constraints.txt.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# So many tests run side by side: more than there are cores, since those on Slurm mostly wait.
WORKERS ?= $(shell cores=$$(nproc); echo $$((cores < 6 ? cores + 2 : 8)))

.PHONY: demo test test-fast fuzz lint slurm clean

demo: $(STAMP)
	$(BIN)/hpc-bench submit --backend local examples/quickstart.yaml
	$(BIN)/hpc-bench collect results/

test: $(STAMP) slurm lint
	$(BIN)/python -m pytest -n $(WORKERS)

test-fast: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) -m "not slow and not slurm"

# Ten times as many cases as `test` has.
fuzz: $(STAMP)
	HPC_BENCH_FUZZ_CASES=3000 $(BIN)/python -m pytest -n $(WORKERS) tests/cli/test_state_fuzz.py tests/sweep/test_sweep_fuzz.py

# The tests on Slurm need Debian's packages; where they cannot be installed, this says what is not tested.
slurm:
	slurm/testbed install

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# torch comes from its CPU wheels where they are found; a machine with GPUs gets the CUDA build of the same version.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip==$$(sed -n 's/^pip==//p' constraints.txt)"
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch==2.13.0
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test,bench]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
