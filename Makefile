# Development commands. Every one sets up what it needs in .venv first.
PYTHON ?= python3
BIN := .venv/bin
# Azure's emulator, for the tests of a cache there, which are skipped where there is no npm.
AZURITE := azurite@3.35.0
# The tests run many processes, each of which would compile the package again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test lint format types docs unit coverage interpreters engines bench fuzz clean

help:  ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/demo  ## install, build a model, host it on this machine and load it from the cache
	$(BIN)/python examples/quickstart.py

test: lint types docs unit interpreters  ## run everything: lint, types, docs, tests, oldest and newest interpreter

lint: .venv/dev  ## check style, format, spelling, workflows and forms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-forms .github/ISSUE_TEMPLATE/form-*.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

format: .venv/dev  ## format the code and mend what can be mended
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: .venv/dev  ## check the types of the package
	$(BIN)/mypy

docs: .venv/dev  ## build the documentation into site/; a broken link fails
	$(BIN)/python docs/command_line.py
	$(BIN)/python docs/settings_table.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

unit: .venv/dev  ## run the tests on the default interpreter
	$(BIN)/pytest -n auto --dist loadgroup

coverage: .venv/dev  ## run them and measure what they cover, which takes half as long again
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n auto --dist loadgroup
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

interpreters: .venv/dev  ## run the part without TensorFlow on the newest Python, and on the oldest with the oldest libraries
	$(BIN)/nox

engines: .venv/dev  ## install Beam, Ray and Spark in an environment of their own, and run the tests with them
	$(BIN)/nox -s engines

bench: .venv/bench  ## measure, side by side with tensorflow_hub; ARGS="--quick", ARGS="--help"
	$(BIN)/python -m benchmarks $(ARGS)

fuzz: .venv/fuzz  ## throw broken archives and other input at what reads them, a minute each
	for target in fuzz/fuzz_*.py; do $(BIN)/python $$target -max_total_time=60 || exit; done

clean:  ## remove what the commands made
	rm -rf .venv .nox .mypy_cache .ruff_cache .pytest_cache .coverage .coverage.* site dist build

# uv installs within seconds what takes pip a minute, but reads no settings of pip's: where it fails, pip installs.
# pip understands dependency groups since 25.1.
install = $(BIN)/uv pip install --quiet --python $(BIN)/python $(1) || $(BIN)/python -m pip install --quiet $(1)

.venv/pip:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1' uv
	touch $@

.venv/demo: .venv/pip pyproject.toml
	$(call install,--editable . --group tensorflow)
	touch $@

.venv/dev: .venv/demo
	$(call install,--group dev)
	$(call install,--no-deps --group compat --group clients)
	npm install --silent --no-audit --no-fund --fetch-retries 1 --fetch-timeout 60000 --prefix .venv/azurite $(AZURITE) || \
		echo "Without azurite, the tests of a cache at Azure are skipped."
	touch $@

.venv/bench: .venv/demo
	$(call install,--group bench)
	$(call install,--no-deps --group compat)
	touch $@

.venv/fuzz: .venv/dev
	$(call install,--group fuzz)
	touch $@
