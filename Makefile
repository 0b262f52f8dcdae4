# `make help` says what there is. Everything runs in .venv, which is made from the hashed lock files when it is missing or out of date.
SHELL := /bin/bash
# A target fails when any part of a pipe does: what a checker says is shortened with tail.
.SHELLFLAGS := -eu -o pipefail -c
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.made
# Compiled once, and not beside the sources: the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/$(VENV)/pycache

.DEFAULT_GOAL := help
.PHONY: help demo venv lock sbom lint format types crds chart pictures test older image e2e bench soak fuzz check controlplane senders

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 14

demo: $(STAMP) $(if $(CLUSTER),controlplane) ## see it at work, in a minute; CLUSTER=1: on a real API server; KEEP=1: leave it running
	@$(BIN)/python -m demo $(if $(CLUSTER),--cluster) $(if $(KEEP),--keep)

venv: $(STAMP) ## the environment, from requirements/dev.txt

$(STAMP): requirements/dev.txt pyproject.toml
	@echo "== making the environment in $(VENV) (about a minute)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $(STAMP)

lock: ## the lock files, from pyproject.toml
	@scripts/lock

sbom: ## what the image contains, as CycloneDX in sbom.cdx.json, from the lock
	@$(PYTHON) scripts/sbom.py > sbom.cdx.json

lint: $(STAMP) ## style, import layers, and what must not be committed
	@echo "== lint"
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check . || { echo "run 'make format'"; exit 1; }
	@$(BIN)/lint-imports --no-cache --config pyproject.toml | tail -n 4
	@scripts/check-tracked-files

format: $(STAMP) ## ruff's format and safe fixes
	@$(BIN)/ruff format --quiet . && $(BIN)/ruff check --quiet --fix .

types: $(STAMP) ## mypy, strict
	@echo "== types"
	@$(BIN)/mypy operator/eventsink tests demo

crds: $(STAMP) ## the CRD, from the models
	@$(BIN)/python -m eventsink.resources.crd crds

chart: $(STAMP) ## what the Helm chart takes from elsewhere (schema, table of values, CRD, policies, alerts), and the manifests' alerts
	@$(BIN)/python -m tests.support.chart helm/eventsink
	@$(BIN)/python -m tests.support.chart --alerts > manifests/components/monitoring/alerts.yaml

pictures: $(STAMP) ## the pictures of the README and, with Chromium, those of docs/slack.md that have changed; the recording is made by running the demo
	@$(BIN)/python scripts/draw_slack_messages.py
	@$(BIN)/python scripts/draw_alert_path.py
	@$(BIN)/python scripts/record_demo.py

controlplane: $(STAMP) ## the control plane, Helm and the Alertmanager of the tests: found, or built once (about eight minutes)
	@$(BIN)/python -m tests.controlplane build

# Three files at once, on two cores too, since tests wait for a third of their time; each whole in one process, for what its tests share. In
# the order of the folders, not by how many tests a file has: the long files, of few tests, come first, and short ones fill up the end.
SIDE_BY_SIDE := --numprocesses 3 --dist loadfile --no-loadscope-reorder
test: $(STAMP) controlplane ## every test: unit, a real API server, faults, end to end
	@echo "== tests"
	@$(BIN)/pytest $(SIDE_BY_SIDE) --durations 20

# By hand, before a release: the programs are built once, which takes ten minutes on two cores.
OLDER_TESTS := tests/chart $(addprefix tests/cluster/test_,$(addsuffix .py,control_plane crds_folder manifests_accepted manifests_rejected \
	install compromised_rest rest_access admission admission_certificates scoped samples operator router))
older: $(STAMP) ## the tests of what is installed, on the oldest Kubernetes that is supported and with Helm 3
	@OLDER=1 $(BIN)/python -m tests.controlplane build
	@OLDER=1 $(BIN)/pytest $(SIDE_BY_SIDE) $(OLDER_TESTS)

# By hand, before a release: building them takes longer than CI has.
senders: $(STAMP) ## the tests with real senders that take long to build: Thanos Ruler, and the Trivy operator's controller that posts reports
	@$(BIN)/python -m tests.controlplane senders
	@$(BIN)/pytest tests/senders

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE ?= eventsink:$(VERSION)
BUILDER ?= docker
image: ## the image IMAGE from the lock, on the Python image BASE; BUILDER=docker, podman or buildah, BUILD_OPTIONS=what else it needs
	@test -n "$(BASE)" || { echo "BASE must name a Python 3.11 image by its digest: see Containerfile"; exit 1; }
	$(BUILDER) build --build-arg BASE=$(BASE) --build-arg REVISION=$$(git rev-parse HEAD) $(BUILD_OPTIONS) -t $(IMAGE) -f Containerfile .

# One story on one cluster, in order: the first failure ends it.
e2e: $(STAMP) ## an installation on real pods: needs KUBECONFIG (a cluster for this alone: kind, k3s ...) and IMAGE, which its nodes have
	@$(BIN)/python -m tests.controlplane build
	@echo "== e2e: $(IMAGE)"
	@IMAGE=$(IMAGE) $(BIN)/pytest tests/pods --exitfirst --tb short --durations 10

bench: $(STAMP) ## the benchmarks, each a ratio of two things in one run; FULL=1: at their full size
	@for benchmark in tests/benchmarks/[a-z]*.py; do echo "== $$benchmark"; $(BIN)/python -m "$$(echo "$${benchmark%.py}" | tr / .)" $(if $(FULL),full) || exit 1; done

# One after the other, at low priority: an audit measures memory and delays, which a second one would disturb.
soak: $(STAMP) ## the long audits, each for hours or for SECONDS=n; one: python -m tests.soak.<name> [SECONDS]
	@for audit in $(wildcard tests/soak/[a-z]*.py); do echo "== $$audit"; nice -n 10 $(BIN)/python -m "$$(echo "$${audit%.py}" | tr / .)" $(SECONDS) || exit 1; done

fuzz: $(STAMP) ## every parser with made-up input, guided by coverage, for SECONDS=n each (60); what is found stays in tests/fuzz/corpus
	@$(BIN)/python -m tests.fuzz $(or $(SECONDS),60)

check: lint types test ## what CI runs first
