# Both commands do all of their own set-up; nothing has to be installed by hand but Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin
# Packages are installed without bytecode, half a minute for files of which few are used: the first import writes it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test coverage lint slow flink docs clean

run: $(VENV)/.installed  ## the whole road on a generated log, ending with a gRPC answer
	$(RUN)/tfdnc run configs/planted/dnc.yaml
	$(RUN)/tfdnc query --run runs/planted-dnc --user 1 --num-candidates 20 --start-server
	$(RUN)/tfdnc query --run runs/planted-dnc --user 1 --num-candidates 20 --alpha 0.5 --start-server
	@echo "To type tfdnc without its path: source $(VENV)/bin/activate"

test: $(VENV)/.installed  ## the test suite, the whole road on a small log included
	$(RUN)/python -m pytest -n 2 --durations=30

coverage: $(VENV)/.installed  ## the suite again, which takes longer then, and the lines that no test has run
	$(RUN)/python -m pytest -n 2 --cov --cov-report=term

lint: $(VENV)/.installed
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

slow: $(VENV)/.installed  ## checks on real data: TFDNC_ML1M=folder with ratings.dat
	$(RUN)/python -m pytest -m slow

flink: $(VENV)/.installed  ## both data jobs on a Flink cluster of this machine, which needs Java and Maven
	$(RUN)/python -m beam_jobs.engines flink $(FLAGS)

docs: $(VENV)/.installed  ## the site, in build/site; a broken link or reference, or a notebook that fails, is an error
	NO_MKDOCS_2_WARNING=1 $(RUN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) runs build *.egg-info

$(VENV)/.installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(RUN)/pip install --quiet --disable-pip-version-check --no-compile --editable .[dev]
	touch $@
