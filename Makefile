# make demo and make test install what is missing, build, and do their job; nothing else is needed.
# make install PREFIX=/usr/local puts command, manuals, completions and documents in place (below DESTDIR, if any).

PREFIX ?= /usr/local
DESTDIR ?=
prefix := $(DESTDIR)$(PREFIX)

.PHONY: build demo test format-check setup install uninstall reference

setup:
	@scripts/setup

build: setup
	swift build -c release --product sonde

demo: build
	@scripts/demo

test: setup
	swift build -c release --build-tests
	@# The kernels' tests switch tiers for the whole process: they run in one of their own.
	swift test -c release --skip-build --filter KernelTests
	swift test -c release --skip-build --skip KernelTests

install: build
	@scripts/install "$(prefix)" "$$(swift build -c release --show-bin-path)/sonde"

uninstall:
	@scripts/install --remove "$(prefix)"

# The tables of docs/reference, from the parser.
reference: build
	@scripts/reference "$$(swift build -c release --show-bin-path)/sonde"

format-check:
	swift format lint --strict --recursive Package.swift Sources Tests
