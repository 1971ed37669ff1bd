#!/usr/bin/env bash
# setup.sh puts in place what `make test` needs: a C compiler for the race detector, the Docker Engines, the registry and
# a Buildbot. With everything in place it prints nothing. Exit 1: something is missing and could not be put in place; it says
# what.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

say() { printf 'setup: %s\n' "$*" >&2; }

command -v go >/dev/null || {
	say "error: no go command in PATH; install Go $(awk '$1 == "go" { print $2 }' go.mod) or newer: https://go.dev/dl/"
	exit 1
}
if ! command -v "$(go env CC)" >/dev/null; then
	if ((EUID == 0)) && command -v apt-get >/dev/null; then
		say "installing a C compiler, which the race detector needs: gcc libc6-dev"
		log=$(mktemp)
		apt=(env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends -o DPkg::Lock::Timeout=300)
		"${apt[@]}" install gcc libc6-dev >"$log" 2>&1 || { "${apt[@]}" update && "${apt[@]}" install gcc libc6-dev; } >"$log" 2>&1 || {
			cat "$log" >&2
			say "error: cannot install gcc and libc6-dev"
			exit 1
		}
		rm -f "$log"
	else
		say "error: no C compiler ($(go env CC)), which the race detector needs; on Debian or Ubuntu, as root: apt-get install gcc libc6-dev"
		exit 1
	fi
fi
# Without this each command that comes first names every module that it downloads.
if ! GOPROXY=off go mod download >/dev/null 2>&1; then
	say "downloading Go modules"
	go mod download
fi
exec internal/testenv/install.sh all
