# Two commands do everything: `make demo` and `make test`. Each makes its own environment first.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
# At a terminal pip shows what it loads.
QUIET  := $(shell test -t 2 || echo --quiet)
# Works where Debian's python3-venv is missing: the environment has no pip of its own.
INSTALL = $(PYTHON) -m pip $(QUIET) --disable-pip-version-check --python $(BIN)/python install -c constraints.txt
# What the tests try, besides what the demonstration needs.
EXTRAS  = tflite,onnx,quantize,serial,video,language,update,metrics,http,plot

.PHONY: demo test check coverage format models wheel benchmark clean
.PHONY: test-faults test-fuzz test-openvino test-home-assistant test-page test-devices check-ansible

demo: $(VENV)/.installed  ## an embedded broker, a bundled model, a bundled clip, a subscriber
	$(BIN)/edge-agent demo

test: $(VENV)/.installed-dev check mosquitto  ## everything a change must pass; durations in build/tests.xml
	$(BIN)/python -m pytest -n auto --dist loadfile --durations=25 --junitxml=build/tests.xml

check: $(VENV)/.installed-dev  ## lint, layers, types and words
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
	$(BIN)/python .ci/check_words.py

coverage: $(VENV)/.installed-dev mosquitto  ## what the tests execute, subprocesses included; pages in build/coverage
	$(BIN)/python -m pytest -n auto --dist loadfile --cov --cov-report=term:skip-covered --cov-report=html

format: $(VENV)/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test-faults: $(VENV)/.installed-dev mosquitto  ## the long versions: kills, broken networks, power cuts, soak
	$(BIN)/python -m pytest -m faults --timeout 3600

test-fuzz: $(VENV)/.installed-dev mosquitto  ## the long versions: thousands of damaged models and pictures
	$(BIN)/python -m pytest -m fuzz --timeout 7200

test-openvino: $(VENV)-openvino/.installed mosquitto  ## an accelerator that any x86-64 machine has: OpenVINO, as ONNX Runtime's provider
	$(VENV)-openvino/bin/python -m pytest -m openvino tests/test_openvino.py

test-home-assistant: $(VENV)/.installed-dev build/home-assistant/.installed mosquitto  ## against a real Home Assistant
	$(BIN)/python -m pytest -m home_assistant

test-page: $(VENV)/.installed-dev mosquitto  ## the status page in Chromium, the metrics in Prometheus (Debian: chromium, prometheus)
	$(BIN)/python -m pytest -m page

check-ansible: $(VENV)/.installed-dev $(VENV)-ansible/.installed mosquitto  ## the playbooks: linted, and run on three folders
	$(BIN)/python -m pytest -m ansible

# Debian: debootstrap qemu-user-static qemu-system-x86 qemu-utils iproute2 openssh-client
test-devices: $(VENV)/.installed-dev $(VENV)-ansible/.installed mosquitto  ## as root: on Debians of their own, also emulated ARM, and a fleet over ssh
	$(BIN)/python -m pytest -m devices

models: ## makes the bundled models and the clip again (their training tools go into build/)
	models/recipes/digits/make.sh
	models/recipes/vibration/make.sh
	models/recipes/activity/make.sh
	models/recipes/intents/make.sh

wheel: ## dist/edge_agent_runtime-*.whl; needs pip only
	$(PYTHON) -m pip $(QUIET) --disable-pip-version-check wheel --no-deps --wheel-dir dist .

benchmark: $(VENV)/.installed-dev mosquitto
	$(BIN)/python -m benchmarks

.PHONY: mosquitto
mosquitto:
	@PATH=$$PATH:/usr/sbin; command -v mosquitto >/dev/null || deploy/install-mosquitto.sh

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --without-pip $(VENV)
	$(INSTALL) -e '.[tflite,onnx]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(INSTALL) -e '.[$(EXTRAS),dev]'
	@touch $@

$(VENV)-openvino/.installed: BIN = $(VENV)-openvino/bin
$(VENV)-openvino/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv --without-pip $(VENV)-openvino
	$(INSTALL) -e '.[tflite,openvino,dev]'
	@touch $@

build/home-assistant/.installed: tests/home_assistant/install.sh
	tests/home_assistant/install.sh build/home-assistant
	@touch $@

$(VENV)-ansible/.installed:
	$(PYTHON) -m venv --without-pip $(VENV)-ansible
	$(PYTHON) -m pip --quiet --disable-pip-version-check --python $(VENV)-ansible/bin/python install 'ansible-core>=2.15' ansible-lint
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-openvino $(VENV)-ansible build dist .mypy_cache .ruff_cache .pytest_cache
