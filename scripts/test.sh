#!/usr/bin/env bash
# test.sh is `make test`: it sets up, checks, builds for every platform, and runs every test there is, once, with the race
# detector, on real Docker Engines. What is skipped is listed with its reason at the end, and fails the run where CI=true.
#
# Where the engines cannot be set up (no root, not Debian or Ubuntu), it says what is missing, runs the rest, and says so
# again at the end; with CI=true it fails at once.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# Services that a test may not do without; internal/testenv/doc.go has the list.
services=docker-debian,docker-today,registry,buildbot
flags=(-race -tags=integration -p "${TEST_PROCESSES:-2}" -timeout "${TEST_TIMEOUT:-20m}")
began=$SECONDS

step() { printf '\n== %s (%dm%02ds)\n' "$*" $(((SECONDS - began) / 60)) $(((SECONDS - began) % 60)); }

step "set up"
missing=0
if scripts/setup.sh; then
	export LATENT_TEST_REQUIRE=${LATENT_TEST_REQUIRE:-$services}
elif [[ ${CI:-} == true ]]; then
	exit 1
else
	missing=1
fi
if ! command -v "$(go env CC)" >/dev/null; then
	flags=("${flags[@]:1}") # the race detector needs a C compiler
fi

# What fails here fails the run at its end: the tests are worth seeing all the same.
failed=()
step "check"
make check || failed+=("make check")

step "build for every platform"
make platforms || failed+=("make platforms")

step "test"
go run ./internal/testreport -allow internal/testreport/allowed.txt -- "${flags[@]}" ./... || failed+=("go test")

step "test the Buildbot package"
scripts/test-buildbot.sh || failed+=("scripts/test-buildbot.sh")

step "done"
if ((missing)); then
	printf 'NOT EVERYTHING RAN: the set-up failed, see its message at the top and the skipped tests above.\n'
fi
if ((${#failed[@]})); then
	printf 'FAILED: %s\n' "${failed[*]}"
	exit 1
fi
echo "everything passed"
