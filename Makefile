# make demo   the main job on the embedded example, on the emulated board
# make test   everything that is checked, in a fresh environment
# make pynq   the code that meets the board, on every version of pynq (part of `make test`)
# make check  lint, types and import contracts only (part of `make test`)
# make bench  ratios against named peers, printed and never asserted
# make synth  area of every configuration by yosys: an estimate
# make coefficients   power/coefficients.toml and [resources] made again from the netlists
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test pynq check bench synth coefficients clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# One stamp an extra set, remade when pyproject.toml changes.
$(VENV)/.installed-%: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@

demo: $(VENV)/.installed-report
	$(BIN)/bacmac demo --output demo-output

check: $(VENV)/.installed-test
	.ci/links.sh
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	.ci/tools.sh
	$(BIN)/pytest --cov --cov-report=term
	.ci/pynq.sh

pynq:
	.ci/pynq.sh

bench: $(VENV)/.installed-bench
	$(BIN)/python -P tests/benchmarks/run_all.py

synth: $(VENV)/.installed-synth
	$(BIN)/bacmac overlay estimate

coefficients: $(VENV)/.installed-test
	$(BIN)/python -m bacmac.power.make_coefficients

clean:
	rm -rf $(VENV) .venv-pynq .links build dist demo-output .coverage
