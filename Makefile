# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
PROFILE ?= control-plane+kwok=12
NAME ?= podsla
# As root on Debian, this machine and a virtual one become nodes too.
REAL := $(shell [ `id -u` = 0 ] && command -v apt-get >/dev/null && echo +host+vm)

.PHONY: help demo test test-pure test-wire test-cluster test-nodes test-node demo-attach demo-gpu soak-attach soak-reload test-deep check format bench bench-cluster plots soak manifests shipped cluster cluster-down \
	cluster-build packages lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

.venv/ready: locks/dev.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r locks/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

demo: .venv/ready ## size a real Deployment by class, with the reason why
	@manifests/examples/demo.sh

test: PROFILE := $(PROFILE)+karpenter$(REAL)
test: .venv/ready packages cluster-build ## every test; those of real nodes as root
	$(BIN)/pytest

test-pure: .venv/ready ## tables, golden files and properties: no sockets
	$(BIN)/pytest -m "not wire and not cluster and not nodes and not node"

test-cluster: PROFILE := $(PROFILE)+karpenter
test-cluster: .venv/ready cluster-build ## a real control plane with simulated nodes, podsla installed in it
	$(BIN)/pytest -m cluster

test-nodes: PROFILE := control-plane+host+vm
test-nodes: .venv/ready packages cluster-build ## podsla in pods on real nodes, this machine and a virtual one: as root
	$(BIN)/pytest -m nodes

test-wire: .venv/ready ## the webhook over HTTP and TLS on loopback
	$(BIN)/pytest -m wire

test-node: .venv/ready ## GPU attach on real containers, both cgroup versions: four minutes, as root
	@tests/attach/node/install-packages
	$(BIN)/pytest -m node

demo-attach: .venv/ready ## a running container gets a device and gives it back: as root
	@tests/attach/node/install-packages
	@$(BIN)/python -m tests.attach.node.demo $(CGROUPS)

demo-gpu: PROFILE := control-plane+host
demo-gpu: .venv/ready packages cluster-build ## two jobs borrow one GPU in a cluster, the second waits; KEEP=1 leaves it up: as root
	@$(BIN)/python -m tests.cluster.demo_gpu

soak-attach: .venv/ready ## 10,000 attaches and detaches under opens that may not fail, on each engine, and 1,000 under reloads: seven minutes, as root
	PODSLA_ATTACH_CYCLES=10000 $(BIN)/pytest -s tests/attach/node/test_soak.py tests/attach/node/test_systemd.py -k "test_soak or reloads_all_the_time"

soak-reload: PROFILE := control-plane+host+vm
soak-reload: .venv/ready packages cluster-build ## 1,000 attaches and detaches on the virtual node while its systemd reloads: fifteen hours, as root
	PODSLA_RELOAD_CYCLES=1000 $(BIN)/pytest tests/cluster/real/test_podsla_gpu -k reloads_all_the_time

test-deep: .venv/ready ## the properties on 1,000 generated cases each: six minutes, other cases every time
	$(BIN)/pytest tests/webhook/test_properties.py tests/webhook/test_patch.py --hypothesis-profile=deep

check: .venv/ready ## format, lint, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

shipped: .venv/ready ## make the shipped sizes anew: make shipped ECS_CSV=ecs-instance-types.csv
	$(BIN)/podsla catalog import ecs $(ECS_CSV) > catalog/shipped/ecs.yaml

manifests: .venv/ready ## make the CustomResourceDefinitions and the dashboard anew from the code
	$(BIN)/python -m catalog.crd > manifests/base/crds/speccatalogs.podsla.io.yaml
	$(BIN)/python -m attach.crd > manifests/base/crds/gpuattachments.podsla.io.yaml
	$(BIN)/python -m controller.dashboard > manifests/components/monitoring/dashboard.json

soak: .venv/ready cluster-build ## certificates, restarts, kills and edits under load, in random order: make soak MINUTES=20
	@[ -z "$(REAL)" ] || tests/cluster/install-packages soak
	$(BIN)/python -m tests.soak --minutes $(or $(MINUTES),20)

format: .venv/ready ## rewrite the code in the project's format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: .venv/ready ## the figures of the README, on this machine
	$(BIN)/python -m bench

bench-cluster: .venv/ready packages ## the README's figures of real clusters: latency, peers, bursts, 1,000 nodes at once and in waves, lending GPUs (as root), large catalogues, commands; an hour and a half
	@missed=0; for part in cluster catalogs commands; do $(BIN)/python -m bench.$$part || missed=1; done; exit $$missed

plots: .venv/ready ## draw reviews and peers anew, as measured on this machine: half an hour
	@mkdir -p build docs/figures
	-$(BIN)/python -m bench --only process --only tls -o json > build/review.json
	-$(BIN)/python -m bench.cluster --only peers -o json > build/peers.json
	$(BIN)/python -m bench.plot build/review.json build/peers.json
	mv build/review.json build/review.svg build/peers.json build/peers.svg docs/figures

cluster: .venv/ready $(if $(GPUS),packages) ## a real control plane with nodes, and podsla in it: make cluster PROFILE=control-plane+kwok=12
	@$(BIN)/python -m tests.cluster up --install --profile $(PROFILE) --name $(NAME) $(if $(GPUS),--gpus $(GPUS))

cluster-down: .venv/ready ## take it down; nothing is left behind
	@$(BIN)/python -m tests.cluster down --name $(NAME)

packages: # what real nodes need, where it can be had
	@[ -z "$(REAL)" ] || tests/cluster/install-packages vm soak promtool
	@[ -z "$(REAL)" ] || tests/attach/node/install-packages

cluster-build: .venv/ready ## build what PROFILE runs, once: 10 minutes on two cores
	@$(BIN)/python -m tests.cluster build --profile $(PROFILE)

lock: .venv/ready ## renew locks/ from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header pyproject.toml -o locks/runtime.txt
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra dev -c locks/runtime.txt pyproject.toml -o locks/dev.txt
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	| $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate - -o locks/build.txt

clean: ## remove everything that make made
	rm -rf .venv build *.egg-info
