#!/usr/bin/env bash
# demo.sh is `make demo`: the main job in a minute, on the definition in testdata/demo.
#
# It runs the latent-engine that $LATENT_ENGINE names; else the one of the unpacked archive that it is in; else it builds
# one, which needs Go; else it takes bin/latent-engine, the archive in dist/, or the one in PATH. All else is done by
# latent-engine itself: the worker's image is built from a folder when the worker starts, and goes with it.
#
# It uses the Docker Engine that $DOCKER_HOST names, or one that answers where Docker usually does. Where there is none, and
# it runs as root on Debian or Ubuntu in a clone, it installs the distribution's engine, runs it out of a folder of its own,
# and stops it at the end (DEMO_KEEP_ENGINE=1 leaves it running). Without either it validates and renders, says what is
# missing, and exits 0. Whatever it started is gone when it ends, also after Ctrl-C; it may be run again at any time.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(cd -- "$here/.." && pwd)
# In an archive of `make dist` the script is in the folder of the definition, below the binary.
demo=$root/testdata/demo
[[ ! -f $here/latent-engine.yaml ]] || demo=$here

cache=${LATENT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/latent-engine}
engine_folder=/var/tmp/latent-engine-demo
sample=unix:///var/run/docker.sock # what the definition says

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
has_go() { [[ -f $root/go.mod ]] && command -v go >/dev/null; }

work=$(mktemp -d "${TMPDIR:-/tmp}/latent-demo.XXXXXX")
host='' ours=0 binary=''

# show prints a command as a user would type it, and runs it.
show() {
	printf '\n%s$ latent-engine' "$bold"
	printf ' %q' "$@"
	printf '%s\n' "$plain"
	"$binary" "$@"
}

# field prints a text field of latent-engine's JSON.
field() { sed -n "s/^ *\"$1\": \"\(.*\)\",\{0,1\}\$/\1/p"; }

# instances prints the ids of what runs.
instances() { "$binary" ps -o json 2>/dev/null | field instance || true; }

finish() {
	local code=$? id
	trap - EXIT
	trap '' INT TERM
	if [[ -n $host ]]; then
		cd -- "$work/demo"
		for id in $(instances); do
			"$binary" stop --fast "$id" >/dev/null 2>&1 || say "demo: cannot stop $id" >&2
		done
	fi
	cd -- "$root"
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

# archived unpacks the archive for this machine that `make dist` left, and prints the binary's path.
archived() {
	local os arch path
	os=$(uname -s | tr '[:upper:]' '[:lower:]')
	arch=$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')
	for path in "$root"/dist/latent-engine_*_"${os}_$arch.tar.gz"; do
		[[ -f $path ]] || continue
		mkdir -p "$work/archive"
		tar -xzf "$path" -C "$work/archive"
		echo "$work"/archive/*/latent-engine
		return
	done
	return 1
}

title "latent-engine"
if [[ -n ${LATENT_ENGINE:-} ]]; then
	[[ -f $LATENT_ENGINE && -x $LATENT_ENGINE ]] || die "LATENT_ENGINE=$LATENT_ENGINE is no program"
	binary=$(cd -- "$(dirname -- "$LATENT_ENGINE")" && pwd)/$(basename -- "$LATENT_ENGINE")
elif [[ $demo == "$here" && -x $root/latent-engine ]]; then
	binary=$root/latent-engine
elif has_go; then
	say "building it"
	binary=$work/latent-engine
	(cd -- "$root" && CGO_ENABLED=0 go build -o "$binary" ./cmd/latent-engine)
elif [[ -x $root/bin/latent-engine ]]; then
	binary=$root/bin/latent-engine
elif ! binary=$(archived) && ! binary=$(command -v latent-engine); then
	die "no latent-engine: name one with LATENT_ENGINE=/path/to/latent-engine, or install Go to build it: https://go.dev/dl/"
fi
cp -R -- "$demo" "$work/demo"
# The journal stays from run to run, so that a demo that was killed is cleared away by the next.
export LATENT_ENGINE_STATE=$cache/demo/state
cd -- "$work/demo"
"$binary" version || die "$binary does not run"

title "A definition is checked before any build ($demo)"
show validate
code=0
show validate broken.yaml || code=$?
((code == 1)) || die "validate of a broken file exits $code, not 1"

# To render a worker whose image is built, its folder has to be there.
mkdir -p worker/rootfs

title "The same worker, rendered for two builds"
show render linux --build main.json
printf '\n%s$ diff <(… --build main.json) <(… --build feature.json)%s\n' "$bold" "$plain"
diff <("$binary" render linux --build main.json) <("$binary" render linux --build feature.json) || true

title "Where a value comes from"
show explain linux hostconfig.mem_limit --build main.json
show explain linux target --build main.json

title "A Docker Engine"
# ask asks an engine for its version, through a definition that has nothing else; it fills $arch.
arch=''
ask() {
	local answer
	printf 'version: 1\nbackends: {demo: {docker: {docker_host: "%s"}}}\nworkers: {none: {image: none}}\n' "$1" >ask.yaml
	answer=$("$binary" version --backends -f ask.yaml -o json 2>/dev/null) || return
	[[ $(field os <<<"$answer") == linux ]] || return
	arch=$(field arch <<<"$answer")
}
candidates=(unix:///var/run/docker.sock "unix://${XDG_RUNTIME_DIR:-/run/user/$UID}/docker.sock" "unix://$HOME/.docker/run/docker.sock")
[[ -z ${DOCKER_HOST:-} ]] || candidates=("$DOCKER_HOST")
[[ ! -S $engine_folder/docker.sock ]] || candidates+=("unix://$engine_folder/docker.sock")
for candidate in "${candidates[@]}"; do
	if ask "$candidate"; then
		host=$candidate
		say "at $host"
		break
	fi
done
if [[ -z $host ]]; then
	say "None that runs Linux containers answers at: ${candidates[*]}"
	if [[ -n ${DOCKER_HOST:-} ]]; then
		ask "$DOCKER_HOST" || "$binary" version --backends -f ask.yaml || true
		say "The demo ends here: it validated and rendered. To see a start, set DOCKER_HOST to an engine that answers, or unset it."
		exit 0
	fi
	if ((EUID != 0)) || [[ ! -d $root/internal/testenv ]] || ! grep -qE '^ID(_LIKE)?=.*(debian|ubuntu)' /etc/os-release 2>/dev/null; then
		say "The demo ends here: it validated and rendered. To see a start it needs one of"
		say "  - a Docker Engine that answers: start yours, or set DOCKER_HOST"
		say "  - root on Debian or Ubuntu, and a clone, where it installs the distribution's engine and runs it in a folder of its own"
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
	ask "$host" || die "the engine at $host does not answer"
fi
sed "s|$sample|$host|" latent-engine.yaml >latent-engine.new
mv latent-engine.new latent-engine.yaml
[[ $host == "$sample" ]] || say "docker_host in the demo's copy of latent-engine.yaml: $host"

title "What the worker's image holds, made without a registry"
# shell_worker takes this machine's own shell with the libraries that it loads.
shell_worker() {
	local program path
	mkdir -p worker/rootfs/bin
	cp worker/worker.sh worker/rootfs/worker
	for program in sh sleep; do
		cp -L "$(command -v "$program")" "worker/rootfs/bin/$program"
		for path in $(ldd "$(command -v "$program")" 2>/dev/null | grep -o '/[^ ]*'); do
			mkdir -p "worker/rootfs$(dirname "$path")"
			cp -L "$path" "worker/rootfs$path"
		done
	done
}
own=$(dirname -- "$binary")/demo/worker/rootfs/worker
if [[ -f $own && $("$binary" version -o json | field platform) == */"$arch" ]]; then
	cp -- "$own" worker/rootfs/worker
	say "a static program that stands in for a build worker, from the archive"
elif has_go; then
	(cd -- "$root" && CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -ldflags='-s -w' -o "$work/demo/worker/rootfs/worker" ./internal/testenv/worker)
	say "a static program that stands in for a build worker (internal/testenv/worker)"
elif [[ $(uname -sm | sed 's/x86_64/amd64/; s/aarch64/arm64/') == "Linux $arch" ]]; then
	shell_worker
	say "this machine's sh with worker.sh, which stands in for a build worker"
else
	say "The demo ends here: there is no worker for linux/$arch. Go would build one; the archive of make dist for this platform has one."
	exit 0
fi
# What a killed demo left behind.
for id in $(instances); do
	"$binary" stop --fast "$id" >/dev/null
done

title "A start: the image is built from worker/Dockerfile, up to the stage that the branch chooses"
show start linux --build main.json --password-out w.pass
id=$(instances)
[[ -n $id ]] || die "nothing runs after the start"

title "What it says, and what runs"
for _ in {1..50}; do
	[[ $("$binary" logs "$id") != *"running until"* ]] || break
	sleep 0.1
done
show logs "$id"
log=$("$binary" logs "$id")
[[ $log == *'starting worker "linux"'* ]] || die "the log is not the worker's: $log"
show ps

title "The end: nothing is left"
show stop "$id"
show ps
show gc --dry-run
[[ -z $(instances) ]] || die "something is left"
say ""
say "${bold}That was it.${plain} The definition: $demo/latent-engine.yaml"
