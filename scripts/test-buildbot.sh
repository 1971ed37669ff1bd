#!/usr/bin/env bash
# test-buildbot.sh checks the Buildbot package (integrations/buildbot): linters, types, the unit tests on the newest Buildbot and
# on the distribution's, and the end-to-end tests on masters of both, with real containers. `make test` runs it, and
# `make test-buildbot` by itself. Arguments go to pytest: `scripts/test-buildbot.sh -k pull`.
#
# What they need scripts/setup.sh puts in place. Where that is missing it says so, and fails if CI=true or LATENT_TEST_REQUIRE asks for it.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."
root=$PWD

if [[ ${CI:-} == true ]]; then
	export LATENT_TEST_REQUIRE=${LATENT_TEST_REQUIRE:-buildbot}
fi
cache=$(realpath -m -- "${LATENT_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/latent-engine/testenv}")
venv=$cache/$(awk '$1 == "buildbot-venv" { print $1 "-" $3 "-" $4 }' internal/testenv/pins.txt)
for needed in "$venv/.whole" /usr/bin/buildbot /usr/bin/buildbot-worker; do
	if [[ ! -e $needed ]]; then
		printf 'NOT RUN: the tests of integrations/buildbot: %s is not there; as root on Debian or Ubuntu: internal/testenv/install.sh buildbot\n' "$needed"
		[[ ,${LATENT_TEST_REQUIRE:-}, != *[,\ ]buildbot[,\ ]* ]]
		exit
	fi
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
make -s build
export LATENT_ENGINE=$root/bin/latent-engine LATENT_ENGINE_BINARY=$root/bin/latent-engine
cd integrations/buildbot

failed=()
"$venv/bin/ruff" check --quiet --cache-dir "$work/ruff" . || failed+=(ruff)
"$venv/bin/ruff" format --check --quiet --cache-dir "$work/ruff" . || failed+=("ruff format")
"$venv/bin/mypy" --no-error-summary --cache-dir "$work/mypy" || failed+=(mypy)

# unit NAME PYTHON runs the unit tests in one of the two worlds; what is skipped counts as failed.
unit() {
	local log=$work/$1.log
	if ! PYTHONPATH=src timeout 300 "$2" -m twisted.trial --temp-directory="$work/$1" --reporter=text tests.unit >"$log" 2>&1; then
		cat "$log"
		return 1
	fi
	printf 'unit tests on Buildbot %s: %s\n' "$1" "$(grep -E '^(Ran|PASSED)' "$log" | paste -sd' ')"
	! grep -E '^PASSED.*skips' "$log"
}
# They wait more than they work: both at once.
unit "$("$venv/bin/python" -c 'import buildbot; print(buildbot.version)')" "$venv/bin/python" &
newest=$!
unit "$(/usr/bin/python3 -c 'import buildbot; print(buildbot.version)')" /usr/bin/python3 &
debian=$!
wait "$newest" || failed+=("unit tests on the newest Buildbot")
wait "$debian" || failed+=("unit tests on the distribution's Buildbot")

log=$work/e2e.log
code=0
timeout 540 "$venv/bin/python" -m pytest --verbose --tb=short -rs tests/e2e "$@" 2>&1 | tee "$log" || code=$?
if ((code)) || { [[ ${CI:-} == true ]] && grep -qE '^=+ .*[0-9]+ skipped' "$log"; }; then
	failed+=("end-to-end tests")
fi

if ((${#failed[@]})); then
	printf 'FAILED in integrations/buildbot:'
	printf ' %s;' "${failed[@]}"
	printf '\n'
	exit 1
fi
