# `make help` says what there is. The work is done by scripts/ and by `python -m onedock.lab`.
PYTHON_IN_VENV := .venv/bin/python

.PHONY: deb help deps venv demo demo-stop demo-status test lint bench docs
.DEFAULT_GOAL := help

help: ## Show this
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

demo: ## Bring up a whole cloud on this machine and walk through it (root). ARGS="--engine unix:///var/run/docker.sock"
	@scripts/demo.sh demo $(ARGS)

demo-stop: ## End the demo and remove every trace of it (root)
	@scripts/demo.sh down

demo-status: ## Say which parts of the demo run (root)
	@scripts/demo.sh status

test: ## Run all tests (root), or those that need no root. ARGS="-k name"
	@scripts/test.sh $(ARGS)

lint: venv ## Formatting, rules, types and layers
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

bench: venv ## Measure against raw calls of the engine (root). ARGS="--write" puts the tables into docs/benchmarks.md
	@scripts/prepare.sh packages
	@$(PYTHON_IN_VENV) -m bench $(ARGS)

docs: venv ## Write docs/configuration.md from the settings, check links and names in all documents
	@$(PYTHON_IN_VENV) -m onedock.config.reference docs/configuration.md
	@$(PYTHON_IN_VENV) scripts/check_docs.py

deb: ## Build the Debian packages in dist/
	@packaging/deb/build.sh

deps: ## Install the programs that tests and demo start (root, Debian)
	@scripts/prepare.sh packages

venv: ## Make .venv, or renew it when pyproject.toml has changed
	@scripts/prepare.sh venv
