# Every command a person needs; `make` alone lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# Without bytecode each of the hundreds of Python processes of the tests compiles what it imports, a fifth of all the time.
unexport PYTHONDONTWRITEBYTECODE
PYTEST := pytest -q
PARALLEL := $(PYTEST) --numprocesses=auto --maxprocesses=4 --dist=worksteal

.PHONY: help setup generate docs lint unit apiserver triton e2e images cluster test soak coverage mutation demo bench bench-optimizer bench-operator bench-accuracy sbom down clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

setup: ## the Python environment in .venv, from the lock file
	@hack/setup

generate: setup ## write what is generated: crds/, the chart's copy, lock files stay as they are
	@hack/generate

docs: setup ## the documentation's site in build/site
	@mkdocs build --strict

lint: setup ## style, types, layers, generated files
	@hack/lint

unit: setup ## tests of pure code, the simulations, the optimizer (no cluster)
	@$(PARALLEL) -m "not apiserver and not triton and not e2e and not soak"

apiserver: setup ## tests against a real etcd and API server
	@$(PARALLEL) -m "apiserver and not soak"

triton: setup ## tests against a real tritonserver on this machine
	@$(PARALLEL) -m "triton and not soak"

images: setup ## build all images
	@hack/images/build all

cluster: setup ## bring up the local cluster
	@hack/cluster/cluster up

e2e: setup images ## tests on real nodes: everything together
	@$(PYTEST) --numprocesses=3 --dist=loadfile --no-loadscope-reorder -m "e2e and not soak and not alone"
	@$(PYTEST) -m "alone and not soak" tests/e2e

test: ## the whole suite; what CI runs
	@hack/test

soak: setup ## what make test has no time for: 100,000 states of random rollouts, GPUs, gateway and refresh on real nodes
	@PYTHONPATH=tests:hack python -W ignore hack/soak.py
	@$(PYTEST) --durations=0 -m soak

coverage: setup ## which branches of the pure core its tests and the simulations take
	@$(PARALLEL) --cov --cov-report=term-missing:skip-covered tests/core tests/simulation --ignore=tests/simulation/test_crashes.py
	@coverage json -q -o - | python -c "import json, sys; print('branches taken: {:.1f} %'.format(json.load(sys.stdin)['totals']['percent_branches_covered']))"

mutation: setup ## do tests notice a changed line of core/health and core/rollout? long; SAMPLE=450 draws some
	@python hack/mutation.py $(if $(SAMPLE),--sample $(SAMPLE))

demo: setup ## from nothing to a served model, updated while clients send requests
	@PYTHONPATH=hack python -m demo

bench: setup ## what the optimizer gains, measured on this machine against PyTorch in the same run
	@PYTHONPATH=tests:hack python -W ignore hack/bench.py

bench-optimizer: setup ## what the optimizer finds beside its peers, in one run; MODELS="lstm minilm" for some; half an hour
	@PYTHONPATH=tests:hack python -W ignore -m bench_optimizer $(MODELS)

bench-operator: setup ## what the operator asks and uses for 100, 1,000 and 3,000 objects, beside a bare client; SIZES="100" for some
	@PYTHONPATH=tests:hack python -W ignore -m bench_operator $(SIZES)

bench-accuracy: setup ## accuracy of trained models before and after, on inputs that nobody has seen
	@PYTHONPATH=tests:hack python -W ignore -m bench_optimizer.accuracy $(MODELS)

sbom: setup ## what each image is made of, as CycloneDX, in build/sbom
	@hack/sbom

down: setup ## remove everything that demo and test left running
	@hack/cluster/cluster down

clean: down ## down, and forget the Python environment
	@rm -rf .venv
