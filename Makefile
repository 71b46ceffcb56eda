# Two commands do everything: `make demo` and `make test`. Each makes its own environment first.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
# At a terminal pip shows what it loads.
QUIET  := $(shell test -t 2 || echo --quiet)
# Works where Debian's python3-venv is missing: the environment has no pip of its own.
INSTALL = $(PYTHON) -m pip $(QUIET) --disable-pip-version-check --python $(BIN)/python install -c constraints.txt
# What the tests try, besides what the demonstration needs.
EXTRAS  = tflite,onnx,quantize,serial,video,gpio,speech,language,update,metrics,http,s3,plot

PYTEST   = $(BIN)/python -m pytest -n auto --dist loadfile --durations=25
# What follows a run that was complete and in which tests failed (exit code 1 of pytest).
AGAIN    = false
# Tests that start whole programs: half of the time of all.
PROGRAMS = tests/daemon tests/commands tests/golden $(wildcard tests/test_*.py)

.PHONY: demo test check coverage format models wheel deb image addon benchmark clean
.PHONY: test-programs test-faults test-fuzz test-speech test-openvino test-home-assistant test-page test-devices check-ansible

demo: $(VENV)/.installed  ## an embedded broker, a bundled model, a bundled clip, a subscriber
	$(BIN)/edge-agent demo

test: $(VENV)/.installed-dev check mosquitto  ## the checks and the tests of all parts; durations in build/tests.xml
	$(PYTEST) --junitxml=build/tests.xml $(addprefix --ignore=,$(PROGRAMS)) || { [ $$? = 1 ] && $(AGAIN); }

test-programs: $(VENV)/.installed-dev mosquitto  ## the daemon, the commands and what the documentation shows, from start to end
	$(PYTEST) --junitxml=build/programs.xml $(PROGRAMS) || { [ $$? = 1 ] && $(AGAIN); }

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

test-speech: $(VENV)/.installed-dev build/speech/.unpacked  ## speech to text with the public model
	$(BIN)/python -m pytest -m speech tests/models/test_public_speech.py

test-openvino: $(VENV)-openvino/.installed mosquitto  ## an accelerator that any x86-64 machine has: OpenVINO, as ONNX Runtime's provider
	$(VENV)-openvino/bin/python -m pytest -m openvino tests/test_openvino.py

test-home-assistant: $(VENV)/.installed-dev build/home-assistant/.installed mosquitto  ## against a real Home Assistant
	$(BIN)/python -m pytest -m home_assistant

test-page: $(VENV)/.installed-dev mosquitto  ## the status page in Chromium, the metrics in Prometheus (Debian: chromium, prometheus)
	EDGE_AGENT_TEST_PATIENCE=$${EDGE_AGENT_TEST_PATIENCE:-3} $(BIN)/python -m pytest -m page

check-ansible: $(VENV)/.installed-dev $(VENV)-ansible/.installed mosquitto  ## the playbooks: linted, and run on three folders
	$(BIN)/python -m pytest -m ansible

# Debian: debootstrap qemu-user-static qemu-system-x86 qemu-utils systemd-container iproute2 openssh-client
test-devices: $(VENV)/.installed-dev $(VENV)-ansible/.installed mosquitto  ## as root: on Debians of their own, also emulated ARM, and a fleet over ssh
	$(BIN)/python -m pytest -m devices

models: ## makes the bundled models and the clip again (their training tools go into build/)
	models/recipes/digits/make.sh
	models/recipes/vibration/make.sh
	models/recipes/activity/make.sh
	models/recipes/intents/make.sh
	models/recipes/commands/make.sh

wheel: ## dist/edge_agent_runtime-*.whl; needs pip only
	$(PYTHON) -m pip $(QUIET) --disable-pip-version-check wheel --no-deps --wheel-dir dist .

deb: $(VENV)/.installed-dev ## dist/edge-agent_*.deb for Debian 12 (amd64, arm64, armhf) and 13 (amd64, arm64); needs dpkg-deb
	$(BIN)/python deploy/debian/build.py

# Debian: podman mmdebstrap uidmap
image: $(VENV)/.installed-dev ## localhost/edge-agent for podman, of Debian 13 and this machine's kind; as an ordinary user
	deploy/container/build.sh $$($(BIN)/python deploy/debian/build.py 13-$$(dpkg --print-architecture))

addon: $(VENV)/.installed-dev ## dist/home-assistant: Home Assistant's add-on, for amd64 and arm64
	$(BIN)/python deploy/home-assistant/addon/build.py $$($(BIN)/python deploy/debian/build.py 13-amd64 13-arm64)

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

# The last version of the publisher's package that has the model inside.
build/speech/.unpacked:
	mkdir -p build/speech/moonshine-tiny-en
	$(PYTHON) -m pip $(QUIET) --disable-pip-version-check download --no-deps --only-binary :all: --dest build/speech moonshine-voice==0.0.48
	$(PYTHON) -m zipfile -e build/speech/moonshine_voice-*.whl build/speech/unpacked
	cp build/speech/unpacked/moonshine_voice/assets/tiny-en/* build/speech/moonshine-tiny-en/
	rm -r build/speech/unpacked build/speech/moonshine_voice-*.whl
	@touch $@
