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
	swift test -c release --skip-build

format-check:
	swift format lint --strict --recursive Package.swift Sources Tests
