# make run    the notebooks, top to bottom, on the embedded data
# make test   lint, types, unit tests, and the notebooks in their quick profile
PYTHON  ?= python3
VENV    ?= .venv
BIN     := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
LESSONS := $(VENV)/lessons
READY   := $(VENV)/ready
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help run test golden lab app slides pupils bench release clean

help: ## list these targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

run: $(LESSONS) ## execute all notebooks in order (full profile); results go below _full/ folders
	$(BIN)/python notebooks/execute.py

test: $(READY) ## lint, types, unit tests, and every notebook in the quick profile
	$(BIN)/ruff check . && $(BIN)/ruff format --check mnistviz tests benchmarks docs notebooks/*.py && $(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --nbmake --nbmake-kernel=python3 --nbmake-timeout=300 --durations=0 notebooks

golden: $(READY) ## write the golden texts of the tests anew; then read the diff
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q --golden tests

lab: $(LESSONS) ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --ServerApp.root_dir=. --LabApp.default_url=/lab/tree/notebooks

app: $(READY) ## draw a digit in the browser and see it read
	$(BIN)/python -m mnistviz app

slides: $(LESSONS) ## every lesson as HTML slides that need no network; they go to notebooks/_slides
	$(BIN)/python docs/slides/make.py

pupils: $(LESSONS) ## copies of the lessons without results, for a class; they go to _pupils
	$(BIN)/jupyter nbconvert --to notebook --ClearOutputPreprocessor.enabled=True --output-dir _pupils notebooks/*.ipynb

bench: $(READY) ## measure speed and accuracy as ratios; writes benchmarks/results.md
	$(BIN)/python -m benchmarks.run

release: $(LESSONS) ## execute in place: refresh the shipped notebooks, figures and animations
	MNISTVIZ_RELEASE=1 $(BIN)/python notebooks/execute.py --in-place

clean: ## remove the environment, caches and everything runs have written
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache *.egg-info
	rm -rf _pupils notebooks/_* models/_* visualizations/_* animations/_*

# made once, and again only when what it installs has changed: all that the lessons need, then everything else
$(LESSONS): pyproject.toml constraints.txt docs/html/install.py
	@echo "Setting up $(VENV) with what the lessons need: about 6 GB, most of it torch; some minutes, once."
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) -e ".[notebooks,transfer,slides]"
	$(BIN)/python docs/html/install.py
	@touch $@

$(READY): $(LESSONS)
	@echo "Adding the tools for tests, studies, the app and benchmarks to $(VENV)."
	$(INSTALL) -e ".[notebooks,transfer,slides,app,study,video,dev,bench]"
	@touch $@
