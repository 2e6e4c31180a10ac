# make demo and make test install what is missing, build, and do their job; nothing else is needed.

.PHONY: build demo test format-check setup

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

format-check:
	swift format lint --strict --recursive Package.swift Sources Tests
