# Each target does all the set-up it needs: `make demo` or `make test` on a fresh clone is enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PROSE := README.md CHANGELOG.md docs datasets configs

.PHONY: install demo test lint docs bench gpu gpu-kit

install: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/python train_video.py

test: $(READY)
	$(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports
	$(BIN)/vermin --quiet --no-tips --target=3.10- bgan_video train_video.py
	@! LC_ALL=C.UTF-8 grep -rnE --include=*.md --include=*.yaml '.{101}' $(PROSE) || \
		{ echo "prose: lines above are longer than 100 columns"; false; }

# A site in build/site, which opens from the disk. Broken links are an error.
docs: $(READY)
	rm -rf build/docs build/site
	mkdir -p build/docs
	cp -r README.md CHANGELOG.md LICENSE docs datasets configs examples build/docs/
	$(BIN)/mkdocs build --quiet --strict

bench: $(READY)
	$(BIN)/python -m benchmarks

# On a machine with a GPU, its own torch and perhaps no network (docs/results/gpu.md).
gpu:
	$(PYTHON) -m benchmarks.gpu

# What such a machine may lack, for Python 3.12 on x86-64 Linux.
KIT := .gpu-kit
KIT_PLATFORM := --python-version 3.12 --implementation cp \
	--platform manylinux_2_28_x86_64 --platform manylinux2014_x86_64

gpu-kit: $(READY)
	rm -rf $(KIT)
	$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: $(KIT_PLATFORM) \
		--constraint constraints.txt --dest $(KIT) av omegaconf
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir $(KIT) 'antlr4-python3-runtime==4.9.*'
	@du -sm $(KIT)
