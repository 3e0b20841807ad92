# Every target makes and reuses .venv by itself; nothing but Python 3.11+ is needed beforehand
# (`make js`: Node 20.19+ with npm).
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
TORCH  := $(VENV)/.torch
DOCS   := $(VENV)/.docs
DEMO   ?=
# Processes that run the tests, a file of tests at a time each: one more than the cores of a small machine, for many tests wait.
# In the order of the folders, which ends with quick files; else the few long tests of some files come last, on one process.
WORKERS ?= 3
PYTEST  = -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder
# What ships, by itself: the wheel with all that a gateway may need, and nothing of its development.
SHIPPED := build/shipped
EPOCH   ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 0)

.PHONY: demo test strangers grpc-server coverage test-bench js browser lint lint-github format docs bench deploy wheel audit sbom vectors clean

$(READY): pyproject.toml src/modeltoll/_version.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

$(TORCH): $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[bench,ray]'
	touch $@

$(DOCS): $(READY)
	$(BIN)/python -m pip install --quiet --editable '.[docs]'
	touch $@

demo: $(READY)
	$(BIN)/modeltoll demo $(DEMO)

test: $(READY)
	$(BIN)/python $(PYTEST) -m 'not torch and not strangers'

# Real servers from Debian around the gateway: nginx, Redis and PostgreSQL (both with TLS), installed where one is not there and we
# are root. Without them this fails.
strangers: $(READY)
	@(command -v nginx || command -v /usr/sbin/nginx) >/dev/null && command -v redis-server >/dev/null \
	  && ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || [ "$$(id -u)" != 0 ] || { apt-get update -qq \
	  && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nginx-light redis-server postgresql; }
	$(BIN)/python -m pytest -m strangers

# A real MLServer over gRPC behind the gateway, in an environment of its own, for it pins what we need in other versions.
grpc-server: $(READY)
	$(BIN)/python benchmarks/real_grpc_server.py

# The same tests, with the lines counted that they reach outside of the bench; fails below pyproject's fail_under.
coverage: $(READY)
	rm -rf build/coverage && mkdir -p build/coverage
	$(BIN)/coverage run $(PYTEST) -m 'not torch and not strangers'
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

test-bench: $(TORCH)
	$(BIN)/python -m pytest -m torch
	rm -rf build/bench-quick
	$(BIN)/modeltoll bench run quick -o build/bench-quick/results --cache build/bench-quick/cache --json build/bench-quick/table.json
	$(BIN)/modeltoll bench report build/bench-quick/results -o build/bench-quick/report

js:
	cd clients/js && npm ci --ignore-scripts --no-audit --no-fund && npm run lint && npm run build && npm run page:check \
	  && npm run vendor:check && npm run size && npm test

# After `make js`, with Chromium in the path or at $CHROMIUM.
browser: $(READY)
	cd clients/js && MODELTOLL=$(CURDIR)/$(BIN)/modeltoll npm run test:browser

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) --no-print-directory lint-github

# What GitHub reads, without the network: schemas, time limits, and the security of workflows.
lint-github: $(READY)
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema custom.github-workflows-require-timeout .github/workflows/*.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml))
	$(BIN)/zizmor --offline --quiet .github

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The documentation site, in build/site. A broken link, a missing anchor or a page outside of the navigation is an error.
docs: $(DOCS)
	rm -rf build/report build/site
	$(BIN)/modeltoll bench report results/bench -o build/report
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# After `make js`: one of the clients is Node.
bench: $(READY)
	for script in benchmarks/bench_*.py; do \
	  OPENBLAS_NUM_THREADS=1 $(BIN)/python $$script --json results/benchmarks/$$(basename $$script .py).json || exit 1; \
	done

# The Helm chart: linted, rendered, validated. What is rendered must be what tests have read.
deploy: $(READY)
	$(BIN)/python deploy/render.py --check

# The wheel, built twice from the last commit's date: both are the same, byte for byte.
wheel: $(READY)
	rm -rf dist build/again
	SOURCE_DATE_EPOCH=$(EPOCH) $(BIN)/python -m build --wheel --no-isolation --outdir dist
	SOURCE_DATE_EPOCH=$(EPOCH) $(BIN)/python -m build --wheel --no-isolation --outdir build/again
	cmp dist/*.whl build/again/*.whl

$(SHIPPED)/.ready: wheel
	rm -rf $(SHIPPED)
	$(PYTHON) -m venv $(SHIPPED)
	$(SHIPPED)/bin/python -m pip install --quiet "$$(echo dist/*.whl)[gateway,postgres,valkey,timelock,otel]"
	$(SHIPPED)/bin/python -m pip uninstall --quiet --yes pip setuptools
	touch $@

# Known vulnerabilities of what ships; a package that cannot be looked up is a failure, too.
audit: $(SHIPPED)/.ready
	$(BIN)/python deploy/audit.py "$$($(SHIPPED)/bin/python -c 'import site; print(site.getsitepackages()[0])')"

# The software bill of materials of what ships: CycloneDX, in JSON.
sbom: $(SHIPPED)/.ready
	$(BIN)/cyclonedx-py environment --output-reproducible --output-format JSON --pyproject pyproject.toml \
	  --mc-type application --output-file dist/modeltoll.cdx.json $(SHIPPED)/bin/python

vectors: $(READY)
	$(BIN)/python vectors/make.py

clean:
	rm -rf clients/js/node_modules clients/js/build clients/js/dist
	rm -rf $(VENV) build dist demo-out .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .benchmarks
