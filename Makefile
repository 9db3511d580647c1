# The commands that the README gives and .ci/run calls. ARGS goes to the command behind the target:
#   make test ARGS="-k geometry"     make demo ARGS="--data DIR"
SHELL := /bin/bash
RUN := . scripts/environment.sh &&

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint bench nano clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## everything that the others need, in .venv (they call it themselves)
	@scripts/setup.sh

demo: setup ## the whole chain over ROS 2 on a rendered scene; report in demo_output/
	@$(RUN) sam-perception demo $(ARGS)

# A file's tests stay together in one process, for what they share. Processes of as many threads as cores wait for another.
test: setup ## the tests, but for the slow ones; as many processes as there are cores, four at most
	@$(RUN) OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile $(ARGS)

test-slow: setup ## the slow tests alone: long runs, large models
	@$(RUN) python -m pytest -m slow $(ARGS)

lint: setup ## ruff and mypy --strict
	@$(RUN) ruff check .
	@$(RUN) ruff format --check .
	@$(RUN) mypy --strict

bench: setup ## speed and memory, against what one would use instead; bench/ has more
	@$(RUN) sam-perception bench $(ARGS)

nano: setup ## the model in the package made anew, half a day on two cores; in runs/, and goes on where it was stopped
	@$(RUN) scripts/make_nano.sh $(ARGS)

clean: ## what builds, tests and demos leave behind, but for .venv
	rm -rf build install log demo_output .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
	rm -f .venv/setup-stamps/package

distclean: clean ## .venv too
	rm -rf .venv
