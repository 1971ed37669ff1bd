#!/usr/bin/env bash
# install.sh puts in place what the integration tests and `make demo` run against.
#
#   install.sh docker-debian   the distribution's own Docker Engine (package docker.io)
#   install.sh ssh             its ssh server and client, for engines that are reached over ssh
#   install.sh engine29        Docker Engine 29 and runc, built from their Go modules
#   install.sh registry        the distribution registry, built from its Go module
#   install.sh buildbot        Buildbot masters, the newest in a virtual environment and the distribution's
#                              own, and a root file system with a Buildbot worker
#   install.sh buildbot-venv   the virtual environment alone
#   install.sh [all]           all of them
#
# Packages are installed only where they are missing, which needs root, and none of them starts a
# service, now or at the next boot. What is built goes to ${LATENT_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/latent-engine/testenv},
# in a folder per version. With everything in place it prints nothing, needs neither root nor
# network, and exits 0; else it prints a line for each step, and what a step printed where it fails. Exit 1: something is missing and could not be put in place. Exit 2: usage.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
cache=$(realpath -m -- "${LATENT_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/latent-engine/testenv}")
# Daemons live in sbin, which a user's PATH on Debian leaves out.
export PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf 'testenv: %s\n' "$*" >&2; }
die() {
	say "error: $*"
	exit 1
}

# quietly runs a command, and prints what it printed only if it fails.
quietly() {
	local log code=0
	log=$(mktemp)
	"$@" >"$log" 2>&1 || code=$?
	((code == 0)) || cat "$log" >&2
	rm -f "$log"
	return "$code"
}

# missing_packages prints those of its arguments that dpkg does not have installed.
missing_packages() {
	local package
	for package in "$@"; do
		[[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || echo "$package"
	done
}

install_packages() {
	local wanted=() policy=/usr/sbin/policy-rc.d ours=0 log
	command -v dpkg-query >/dev/null || die "cannot install packages: this is not Debian or Ubuntu; wanted: $*"
	mapfile -t wanted < <(missing_packages "$@")
	((${#wanted[@]})) || return 0
	((EUID == 0)) || die "cannot install packages without root; as root: apt-get install --no-install-recommends ${wanted[*]}"
	if [[ " ${wanted[*]} " == *" docker.io "* ]] && [[ -n $(dpkg-query -W -f='${db:Status-Status}' docker-ce 2>/dev/null) ]]; then
		[[ $(missing_packages docker-ce) ]] || die "cannot install docker.io: docker-ce is installed, and the two exclude each other"
	fi

	say "installing Debian packages (no service is started): ${wanted[*]}"
	# A policy that is already there is the administrator's, and stays.
	if [[ ! -e $policy ]]; then
		ours=1
		trap 'rm -f /usr/sbin/policy-rc.d' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod 755 "$policy"
	fi
	log=$(mktemp)
	# --no-remove: installing a test environment must not take anything away.
	local apt=(env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l apt-get -q -y --no-remove --no-install-recommends
		-o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 install "${wanted[@]}")
	# The lists are fetched only when the ones at hand do not do: none, or too old.
	if ! "${apt[@]}" >"$log" 2>&1; then
		say "fetching the package lists"
		apt-get -q update >"$log" 2>&1 || {
			cat "$log" >&2
			die "cannot fetch the package lists"
		}
		"${apt[@]}" >"$log" 2>&1 || {
			cat "$log" >&2
			die "cannot install ${wanted[*]}"
		}
	fi
	rm -f "$log"
	if ((ours)); then
		rm -f "$policy"
		trap - EXIT
	fi
	# Not at the next boot either: who wants Debian's engine as a service enables it.
	local package units=()
	for package in "${wanted[@]}"; do
		case $package in
		docker.io) units+=(docker.service docker.socket) ;;
		containerd) units+=(containerd.service) ;;
		openssh-server) units+=(ssh.service ssh.socket) ;;
		buildbot | buildbot-worker) units+=("$package.service") ;;
		esac
	done
	if ((${#units[@]})) && command -v systemctl >/dev/null; then
		systemctl --quiet disable "${units[@]}" || say "cannot disable ${units[*]}: they may start at the next boot"
	fi
}

# pin NAME prints the module, version and recipe number of a line of pins.txt.
pin() {
	awk -v name="$1" '$1 == name { print $2, $3, $4 }' "$here/pins.txt"
}

# build NAME BINARY=PACKAGE... -- GO_BUILD_FLAG... builds into the cache unless it is there.
build() {
	local name=$1 module version recipe folder partial binary
	shift
	read -r module version recipe < <(pin "$name") || die "cannot build $name: pins.txt has no such line"
	folder=$cache/$name-$version-$recipe
	local binaries=()
	while [[ $1 != -- ]]; do
		binaries+=("$1")
		shift
	done
	shift
	[[ ! -d $folder ]] || return 0
	command -v go >/dev/null || die "cannot build $name: no go command in PATH"

	mkdir -p "$cache"
	(
		# Two installers at once must not build the same thing twice.
		flock 9
		[[ ! -d $folder ]] || exit 0
		say "building $name ($module $version), which takes minutes when it is the first time"
		partial=$(mktemp -d "$cache/.$name.XXXXXX")
		trap 'rm -rf "$partial"' EXIT
		cd "$here/$name"
		[[ $(go list -mod=readonly -m -f '{{.Version}}' "$module") == "$version" ]] ||
			die "cannot build $name: pins.txt says $version, $name/go.mod another version"
		for binary in "${binaries[@]}"; do
			quietly go build -mod=readonly -trimpath -buildvcs=false "$@" -o "$partial/${binary%%=*}" "${binary#*=}" ||
				die "cannot build ${binary%%=*}"
		done
		chmod 755 "$partial"
		mv -T "$partial" "$folder"
		trap - EXIT
		say "built $folder"
	) 9>"$cache/.lock"
}

docker_debian() {
	# iproute2 removes the bridge that an engine leaves behind; tini is what `init: true` runs.
	install_packages docker.io containerd runc iptables iproute2 tini ca-certificates
}

ssh() {
	# docker.io has the docker command, which is the far end of a connection over ssh.
	install_packages docker.io openssh-server openssh-client
}

engine29() {
	local module version recipe
	install_packages containerd iptables iproute2 tini ca-certificates
	read -r module version recipe < <(pin engine29)
	local set=$module/dockerversion
	CGO_ENABLED=0 build engine29 dockerd="$module/cmd/dockerd" docker-proxy="$module/cmd/docker-proxy" -- \
		-tags "netgo osusergo" \
		-ldflags "-s -w -X $set.Version=29.0.0-moby.$version -X $set.GitCommit=$version -X $set.BuildTime=unknown -X '$set.PlatformName=Docker Engine from its Go module'"
	# Packages that only the build needs are not asked for where the cache has the binary.
	read -r module version recipe < <(pin runc)
	if [[ ! -d $cache/runc-$version-$recipe ]]; then
		install_packages gcc libc6-dev libseccomp-dev pkg-config
		CGO_ENABLED=1 build runc runc="$module" -- -tags seccomp -ldflags "-s -w -X main.gitCommit=$version"
	fi
	# The library itself is needed to run it.
	install_packages libseccomp2
}

registry() {
	local module version recipe
	read -r module version recipe < <(pin registry)
	CGO_ENABLED=0 build registry registry="$module/cmd/registry" -- -ldflags "-s -w -X $module/version.version=$version"
}

# make_folder NAME FUNCTION calls a function with a folder of the cache to fill, unless it was filled before. The folder has its
# final name from the start, because a virtual environment cannot be moved; a file in it says that it is whole.
make_folder() {
	local name=$1 fill=$2 module version recipe folder
	read -r module version recipe < <(pin "$name") || die "cannot make $name: pins.txt has no such line"
	folder=$cache/$name-$version-$recipe
	[[ ! -e $folder/.whole ]] || return 0
	mkdir -p "$cache"
	(
		flock 9
		[[ ! -e $folder/.whole ]] || exit 0
		say "making $name ($module $version), which takes a minute when it is the first time"
		rm -rf "$folder"
		mkdir "$folder"
		"$fill" "$folder" "$version"
		touch "$folder/.whole"
		say "made $folder"
	) 9>"$cache/.lock"
}

# The distribution's Python throughout: another one in PATH does not see the distribution's packages.
buildbot_venv() {
	quietly /usr/bin/python3 -m venv "$1" || die "cannot make a virtual environment"
	quietly "$1/bin/python" -m pip --disable-pip-version-check install --no-deps --requirement "$here/buildbot/requirements.txt" ||
		die "cannot install Buildbot"
	quietly "$1/bin/python" -m pip --disable-pip-version-check check || die "the versions in requirements.txt do not fit together"
}

# Debian's buildbot comes without the web server's plugin, without which it has no REST API.
buildbot_www() {
	quietly "$cache/buildbot-venv-$(pin buildbot-venv | cut -d' ' -f2,3 --output-delimiter=-)/bin/python" -m pip --disable-pip-version-check \
		install --no-deps --target "$1/packages" "buildbot-www==$2" || die "cannot install buildbot-www $2"
}

buildbot_worker() {
	local log path exclude=()
	for path in doc man locale; do
		exclude+=(--dpkgopt="path-exclude=/usr/share/$path/*")
	done
	log=$(mktemp)
	# What of Cython and Perl only compilers read goes at the end; their packages want it while they are set up.
	# shellcheck disable=SC2016 # $1 is the hooks' own
	mmdebstrap --mode=root --variant=essential --include=buildbot-worker --aptopt='APT::Install-Recommends "false"' "${exclude[@]}" \
		--customize-hook="upload $here/buildbot/worker-entrypoint /usr/local/bin/worker-entrypoint" \
		--customize-hook="upload $here/buildbot/worker.tac /usr/local/share/buildbot.tac" \
		--customize-hook='chmod 755 "$1/usr/local/bin/worker-entrypoint" && chmod 644 "$1/usr/local/share/buildbot.tac"' \
		--customize-hook='install -d -m 1777 "$1/var/lib/worker"' \
		--customize-hook='rm -rf "$1"/usr/lib/python3/dist-packages/Cython "$1"/usr/lib/*/perl/*/CORE' \
		"$2" "$1/root.tar" >"$log" 2>&1 || {
		tail -n 40 "$log" >&2
		die "cannot make the root file system of a worker"
	}
	rm -f "$log"
}

buildbot_newest() {
	/usr/bin/python3 -c 'import ensurepip, venv' 2>/dev/null || install_packages python3-venv
	make_folder buildbot-venv buildbot_venv
}

buildbot() {
	install_packages buildbot buildbot-worker mmdebstrap debian-archive-keyring
	buildbot_newest
	make_folder buildbot-www buildbot_www
	make_folder buildbot-worker buildbot_worker
}

(($# <= 1)) || {
	say "usage: install.sh [docker-debian|ssh|engine29|registry|buildbot|buildbot-venv|all]"
	exit 2
}
case ${1:-all} in
docker-debian) docker_debian ;;
ssh) ssh ;;
engine29) engine29 ;;
registry) registry ;;
buildbot) buildbot ;;
buildbot-venv) buildbot_newest ;;
all)
	docker_debian
	ssh
	engine29
	registry
	buildbot
	;;
*)
	say "usage: install.sh [docker-debian|ssh|engine29|registry|buildbot|buildbot-venv|all]"
	exit 2
	;;
esac
