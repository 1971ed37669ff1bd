#!/usr/bin/env bash
# demo.sh is `make demo`: the main job in a minute, on the definition in testdata/demo.
#
# It uses the Docker Engine that $DOCKER_HOST names, or one that answers where Docker usually does. Where there is none, and
# it runs as root on Debian or Ubuntu, it installs the distribution's engine, runs it out of a folder of its own, and stops it
# at the end (DEMO_KEEP_ENGINE=1 leaves it running). Without either it validates and renders, says what is missing, and
# exits 0. Whatever it started is gone when it ends, also after Ctrl-C; it may be run again at any time.
set -euo pipefail
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
cd -- "$root"

cache=${LATENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/latent-engine}
engine_folder=/var/tmp/latent-engine-demo
# Names that nobody else has: the demo removes these images when it ends.
images=(demo.latent-engine.local/worker:stable)
sample=unix:///var/run/docker.sock # what testdata/demo/latent-engine.yaml says

bold='' plain=''
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
	bold=$'\e[1m' plain=$'\e[0m'
fi
title() { printf '\n%s── %s%s\n' "$bold" "$*" "$plain"; }
say() { printf '%s\n' "$*"; }
die() {
	printf 'demo: error: %s\n' "$*" >&2
	exit 1
}

command -v go >/dev/null || die "no go command in PATH; install Go $(awk '$1 == "go" { print $2 }' go.mod) or newer: https://go.dev/dl/"

work=$(mktemp -d "${TMPDIR:-/tmp}/latent-demo.XXXXXX")
host='' ours=0 imported=()

# show prints a command as a user would type it, and runs it.
show() {
	printf '\n%s$ latent-engine %s%s\n' "$bold" "${*@Q}" "$plain" | sed "s/'\([A-Za-z0-9_.=\/-]*\)'/\1/g"
	"$work/latent-engine" "$@"
}

# instances prints the ids of what runs.
instances() {
	"$work/latent-engine" ps -o json 2>/dev/null | grep -o '"instance": *"[^"]*"' | cut -d'"' -f4 || true
}

finish() {
	local code=$? id
	trap - EXIT
	trap '' INT TERM
	cd -- "$root"
	if [[ -n $host && -x $work/latent-engine ]]; then
		cd -- "$work/demo"
		for id in $(instances); do
			"$work/latent-engine" stop --fast "$id" >/dev/null 2>&1 || say "demo: cannot stop $id" >&2
		done
		cd -- "$root"
		for image in "${imported[@]}"; do
			"$work/demo-tool" remove "$host" "$image" || true
		done
	fi
	if ((ours)); then
		if [[ ${DEMO_KEEP_ENGINE:-} == 1 ]]; then
			say "The Docker Engine still runs at $host; to stop it: internal/testenv/run-debian-engine.sh stop $engine_folder"
		else
			say "stopping the demo's Docker Engine"
			internal/testenv/run-debian-engine.sh stop "$engine_folder" || code=1
		fi
	fi
	rm -rf -- "$work"
	exit "$code"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

title "Building latent-engine"
CGO_ENABLED=0 go build -o "$work/latent-engine" ./cmd/latent-engine
go build -o "$work/demo-tool" ./internal/demo
cp -r testdata/demo "$work/demo"
# The journal stays from run to run, so that a demo that was killed is cleared away by the next.
export LATENT_ENGINE_STATE=$cache/demo/state
cd -- "$work/demo"
"$work/latent-engine" version || true

title "A definition is checked before any build (testdata/demo)"
show validate
code=0
show validate broken.yaml || code=$?
((code == 1)) || die "validate of a broken file exits $code, not 1"

title "The same worker, rendered for two builds"
show render linux --build main.json
printf '\n%s$ diff <(… --build main.json) <(… --build feature.json)%s\n' "$bold" "$plain"
diff <("$work/latent-engine" render linux --build main.json) <("$work/latent-engine" render linux --build feature.json) || true

title "Where a value comes from"
show explain linux hostconfig.mem_limit --build main.json
show explain linux image --build main.json

title "A Docker Engine"
answers() { "$work/demo-tool" ping "$1" 2>/dev/null; }
candidates=(unix:///var/run/docker.sock "unix://${XDG_RUNTIME_DIR:-/run/user/$UID}/docker.sock" "unix://$HOME/.docker/run/docker.sock")
[[ -z ${DOCKER_HOST:-} ]] || candidates=("$DOCKER_HOST")
[[ ! -S $engine_folder/docker.sock ]] || candidates+=("unix://$engine_folder/docker.sock")
for candidate in "${candidates[@]}"; do
	if answers "$candidate"; then
		host=$candidate
		say "at $host"
		break
	fi
done
if [[ -z $host ]]; then
	say "None answers at: ${candidates[*]}"
	if [[ -n ${DOCKER_HOST:-} ]]; then
		"$work/demo-tool" ping "$DOCKER_HOST" || true
		say "The demo ends here: it validated and rendered. To see a start, set DOCKER_HOST to an engine that answers, or unset it."
		exit 0
	fi
	if ((EUID != 0)) || ! grep -qE '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release 2>/dev/null; then
		say "The demo ends here: it validated and rendered. To see a start it needs one of"
		say "  - a Docker Engine that answers: start yours, or set DOCKER_HOST (unix:// or tcp://)"
		say "  - root on Debian or Ubuntu, where it installs the distribution's engine and runs it in a folder of its own"
		exit 0
	fi
	say "This is root on Debian or Ubuntu: the demo installs the distribution's docker.io where it is missing (no service is"
	say "started) and runs an engine out of $engine_folder, which it stops and removes at its end."
	say "To stop it by hand: internal/testenv/run-debian-engine.sh stop $engine_folder"
	ours=1
	(
		cd -- "$root"
		internal/testenv/install.sh docker-debian
		internal/testenv/run-debian-engine.sh start "$engine_folder"
	)
	host=unix://$engine_folder/docker.sock
	answers "$host" || die "the engine at $host does not answer"
fi

title "A worker image, made without a registry"
for image in "${images[@]}"; do
	(cd -- "$root" && "$work/demo-tool" image "$host" "$image")
	imported+=("$image")
	say "imported $image (a static program that stands in for a build worker)"
done
sed "s|$sample|$host|" latent-engine.yaml >latent-engine.new
mv latent-engine.new latent-engine.yaml
[[ $host == "$sample" ]] || say "docker_host in the demo's copy of latent-engine.yaml: $host"
# What a killed demo left behind.
for id in $(instances); do
	"$work/latent-engine" stop --fast "$id" >/dev/null
done

title "A start: its image's name is \${{ vars.channel }}, which follows the branch"
show start linux --build main.json --password-out w.pass
id=$(instances)
[[ -n $id ]] || die "nothing runs after the start"

title "What it says, and what runs"
for _ in {1..50}; do
	[[ $("$work/latent-engine" logs "$id") != *"running until"* ]] || break
	sleep 0.1
done
show logs "$id"
log=$("$work/latent-engine" logs "$id")
[[ $log == *'starting worker "linux"'* ]] || die "the log is not the worker's: $log"
show ps

title "The end: nothing is left"
show stop "$id"
show ps
show gc --dry-run
[[ -z $(instances) ]] || die "something is left"
say ""
say "${bold}That was it.${plain} The definition: testdata/demo/latent-engine.yaml"
