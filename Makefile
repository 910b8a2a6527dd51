# Two commands carry everything: `make demo` and `make test`. Each sets itself up.
PYTHON ?= python3
RUNNERS ?= 2
SEED ?= 0
TESTS ?= 3
KILLS ?= 60
CHAOS ?= 1
FUZZ_CASES ?= 20000
SECURITY_SECONDS ?= 150
# A job is a dozen processes: without bytecode each would compile our modules for itself.
unexport PYTHONDONTWRITEBYTECODE
VENV := .venv
READY := $(VENV)/.ready
RUN := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo test test-long cluster-test browser soak chaos fuzz security audit licences serve lint format clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(READY): requirements.lock pyproject.toml
	@echo "setting up $(VENV): about 6 GB and 3 minutes the first time (torch brings its CUDA libraries)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed: make PYTHON=python3.11 …"; exit 1; }
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install -qq --disable-pip-version-check -r requirements.lock
	@$(RUN) -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(READY)
	@echo "$(VENV) is ready"

demo: $(READY)  ## prune a digits network from POST /jobs to a verified checkpoint (RUNNERS=2 SEED=0)
	@$(RUN) examples/demo.py --runners $(RUNNERS) --seed $(SEED)

test: $(READY) browser  ## unit, integration and acceptance tests
	@echo "running all tests, three at a time (TESTS=… says how many; a file's tests stay together)"
	@$(RUN) -m pytest -n $(TESTS) --dist loadfile --no-loadscope-reorder

test-long: $(READY) browser  ## the tests that take minutes each
	@$(RUN) -m pytest -m long

cluster-test: $(READY)  ## a cluster of network namespaces to which everything happens; 15 to 60 minutes, best as root
	@$(RUN) -m pytest -s -m "long or not long" tests/cluster

browser:  ## chromium for the dashboard's tests, where it is missing (as root, by apt)
	@command -v chromium >/dev/null || tests/install_chromium.sh

soak: $(READY)  ## kill any process of running jobs, KILLS=60 times, and compare the bits (about half an hour)
	@$(RUN) -m benchmarks.soak --kills $(KILLS)

chaos: $(READY)  ## kill, stop and starve the service for hours; CHAOS=0.1 is a tenth of it
	@CHAOS=$(CHAOS) $(RUN) -m pytest -s -m "long or not long" tests/chaos

fuzz: $(READY)  ## 20,000 requests that try to break the API; about 10 minutes (FUZZ_CASES=20000)
	@FUZZ_CASES=$(FUZZ_CASES) $(RUN) -m pytest -s tests/integration/test_api_fuzz.py

security: $(READY)  ## all of tests/security; files are fuzzed for 4 times SECURITY_SECONDS=150, the API by 5,000 requests
	@SECURITY_SECONDS=$(SECURITY_SECONDS) $(RUN) -m pytest tests/security -m "long or not long"
	@FUZZ_CASES=5000 $(RUN) -m pytest tests/integration/test_api_fuzz.py

audit: $(READY)  ## known holes in the pinned packages, which asks the net, and the licences of all of them
	@$(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/python -m pip install -qq pip-audit
	@$(VENV)/audit/bin/pip-audit --requirement requirements.lock --no-deps --disable-pip --strict || echo "pip-audit found something, or did not reach its source"
	@$(MAKE) --no-print-directory licences

licences: $(READY)  ## what each installed package says of its licence
	@$(RUN) -m tools.licences

serve: $(READY)  ## the embedded service at http://127.0.0.1:8000
	@exec $(RUN) -m services

lint: $(READY)  ## ruff and types
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .
	@$(RUN) -m mypy

format: $(READY)  ## let ruff lay the code out
	@$(RUN) -m ruff format .
	@$(RUN) -m ruff check --fix .

clean:  ## remove the environment and every cache
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
