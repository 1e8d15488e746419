# Everything that is needed is installed into .venv by the first command that needs it.

# The system's where it will do: distributions compile theirs with optimisation, pyenv does not (docs/operations.md).
will_do = import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(firstword $(foreach each,/usr/bin/python3 python3,$(shell $(each) -c '$(will_do)' 2>/dev/null && echo $(each))) python3)
TESTS ?=
SBOM ?= build/sbom
SECONDS ?= 600
BIN := .venv/bin
LOCKED := . tests/clients benchmarks/contenders/node benchmarks/contenders/hive
NPM := PATH="$(CURDIR)/$(BIN):$$PATH" npm --ignore-scripts --no-audit --no-fund --loglevel=error

.PHONY: run test ready check bench fuzz soak acceptance lock pages chromium modsecurity nghttp2 prometheus sbom systemd clean

run: .venv/installed
	@$(MAKE) --no-print-directory pages || echo "There are no browser pages, since npm failed: see above. All else is there."
	@$(BIN)/bff run --demo --profile $${BFF_PROFILE:-development}

test: ready
	$(BIN)/python -m pytest $(TESTS)

# What tests need, besides what is in the project.
ready: .venv/installed pages chromium nghttp2 prometheus systemd tests/clients/node_modules/installed build/httpbin/installed

check: .venv/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/installed
	$(BIN)/python -m benchmarks

fuzz: .venv/installed
	$(BIN)/python -m pytest -m fuzz

# Ten minutes of everything at once: whether memory and descriptors stay as they are. `make soak SECONDS=3600` for an hour.
soak: .venv/installed
	$(BIN)/python -m tests.soak --seconds $(SECONDS)

acceptance: .venv/installed modsecurity tests/clients/node_modules/installed
	$(BIN)/python -m pytest tests/acceptance --acceptance

# What the gateway is made of, in CycloneDX: the packages that it runs with, and those that its pages are bundled from.
sbom: .venv/installed
	@mkdir -p $(SBOM)
	PYTHONWARNINGS=ignore $(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible --no-validate \
		--output-file $(SBOM)/packages.cdx.json deploy/requirements.lock
	$(NPM) sbom --package-lock-only --sbom-format cyclonedx >$(SBOM)/pages.cdx.json

PINNED := --quiet --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links

# What pyproject.toml and the package.json files ask for, pinned with hashes and without addresses; in deploy/ the same
# without what only development needs.
lock: .venv/installed
	$(BIN)/python -m pip install --quiet pip-tools
	$(BIN)/pip-compile $(PINNED) --extra dev --output-file requirements.lock pyproject.toml
	$(BIN)/pip-compile $(PINNED) --constraint requirements.lock --output-file deploy/requirements.lock pyproject.toml
	$(BIN)/pip-compile $(PINNED) --output-file tests/rest/httpbin.lock tests/rest/httpbin.in
	for each in $(LOCKED); do (cd $$each && $(NPM) install --package-lock-only --omit-lockfile-registry-resolved) || exit; done

.venv/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or later is needed" if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
		{ echo "Python's venv module is missing: on Debian or Ubuntu, apt-get install python3-venv"; exit 1; }
	@echo "Installing into .venv, for $$($(BIN)/python --version) of $(PYTHON); this takes a minute, once."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	@# An application run from its checkout, not a package: a path entry does what an editable install does, at once.
	@echo "$(CURDIR)" > "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/bff.pth"
	@printf '#!%s/python\nfrom bff.__main__ import command\n\ncommand()\n' "$(CURDIR)/$(BIN)" > $(BIN)/bff && chmod +x $(BIN)/bff
	@touch $@

# GraphiQL and Swagger UI, bundled from npm packages. They are 200 MB, what is made of them 9.
pages: bff/graphql/assets/graphiql.js

bff/graphql/assets/graphiql.js: package.json package-lock.json bff/graphql/ide.jsx bff/graphql/ide.css \
		bff/rest/openapi/docs.js bff/rest/openapi/docs.css | .venv/installed
	@echo "Bundling the browser pages from npm packages; this takes half a minute, once."
	@$(NPM) ci --fetch-retry-mintimeout=1000 >/dev/null
	@$(NPM) run build >/dev/null
	@rm -rf node_modules && touch $@

# Programs of Debian that tests use; where one is not and cannot be installed, its tests are skipped.
# $(call debian,what says that they are here,packages,what they are for)
debian = { $(1); } >/dev/null 2>&1 || if [ "$$(id -u)" = 0 ]; then \
		echo "Installing Debian's $(2), for $(3)." && apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends $(2) >/dev/null; \
	else echo "Skipped, since they need what is not here, are $(3): apt-get install $(2)"; fi

chromium:
	@$(call debian,command -v chromium || command -v chromium-browser || command -v google-chrome,chromium,the tests of the pages)

prometheus:
	@$(call debian,command -v prometheus && command -v promtool,prometheus,the tests of dashboard and alerts)

nghttp2:
	@$(call debian,command -v curl && command -v h2load && command -v nghttp,curl nghttp2-client,the tests with clients of HTTP/2)

systemd:
	@$(call debian,command -v systemd-analyze,systemd,the tests of the systemd unit)

# The engine and rules that `firewall.modsecurity` can use.
modsecurity:
	@$(call debian,ldconfig -p | grep -q libmodsecurity.so.3 && test -d /usr/share/modsecurity-crs,libmodsecurity3 modsecurity-crs,the tests of ModSecurity)

# Clients and tools of GraphQL that tests run against the gateway, by the Node and npm that are in .venv.
tests/clients/node_modules/installed: tests/clients/package-lock.json .venv/installed
	@echo "Installing into tests/clients/node_modules; this takes half a minute, once."
	@cd tests/clients && $(NPM) ci
	@touch $@

# What is compared behind the gateway and alone. It needs a greenlet that we cannot have, so it lives by itself.
build/httpbin/installed: tests/rest/httpbin.lock | .venv/installed
	@test -x build/httpbin/bin/python || $(BIN)/python -m venv build/httpbin
	@build/httpbin/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

clean:
	rm -rf .venv build bff/graphql/assets bff/rest/openapi/assets $(LOCKED:=/node_modules)
