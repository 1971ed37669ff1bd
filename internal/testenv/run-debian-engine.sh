#!/usr/bin/env bash
# run-debian-engine.sh runs the distribution's Docker Engine out of one folder.
#
#   run-debian-engine.sh start DIR   start it with nothing in it, and return when it answers at
#                                    unix://DIR/docker.sock
#   run-debian-engine.sh stop DIR    stop it, and remove everything that it made in DIR
#
# It needs root and what `install.sh docker-debian` installs. It shares nothing with an engine that
# the machine runs: it has a containerd, data, sockets and a bridge of its own, and leaves the
# firewall alone; its containers reach each other and this machine, and nothing beyond it. One can
# run at a time. Its log is DIR/log. Both commands do nothing where there is nothing to do.
# Exit 1: it could not be started or stopped. Exit 2: usage.
set -euo pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# The last /21 of the range that is set aside for tests (RFC 2544); internal/testenv has the rest.
bridge=latent-demo
address=198.19.248.1/22
pool=198.19.252.0/22
made=(containerd-root containerd-state data exec tmp containerd.sock containerd.sock.ttrpc containerd.toml
	containerd.pid daemon.json docker.sock docker.pid log)

say() { printf 'run-debian-engine: %s\n' "$*" >&2; }
die() {
	say "error: $*"
	exit 1
}

# command_of PID prints a process's command line, or nothing if it has ended.
command_of() {
	tr '\0' ' ' 2>/dev/null <"/proc/$1/cmdline" || true
}

# running FILE prints the process id in a pid file if that process is one of this folder's.
running() {
	local pid
	pid=$(cat "$1" 2>/dev/null) || return 1
	[[ $pid =~ ^[0-9]+$ && $(command_of "$pid") == *"$dir/"* ]] || return 1
	echo "$pid"
}

# end SIGNAL SECONDS FILE ends the process of a pid file, and fails if it is still there then.
end() {
	local pid i
	pid=$(running "$3") || return 0
	kill "-$1" "$pid" 2>/dev/null || true
	for ((i = 0; i < $2 * 20; i++)); do
		running "$3" >/dev/null || return 0
		sleep 0.05
	done
	return 1
}

# containers prints the ids that the folder's containerd has, dead or alive.
containers() {
	local bundle
	for bundle in "$dir"/containerd-state/io.containerd.runtime.v2.task/*/*/; do
		[[ ! -d $bundle ]] || basename "$bundle"
	done
}

# wipe removes what an engine, stopped or dead, left on the machine.
wipe() {
	local pid id mount name ids
	end TERM 10 "$dir/containerd.pid" || end KILL 10 "$dir/containerd.pid" || die "cannot end containerd"
	ids=$(containers)
	for pid in /proc/[0-9]*; do
		pid=${pid#/proc/}
		if [[ $(command_of "$pid") == *containerd-shim*"$dir/"* ]]; then
			kill -KILL "$pid" 2>/dev/null || true
		fi
	done
	for id in $ids; do
		for pid in /proc/[0-9]*; do
			if grep -q "$id" "$pid/cgroup" 2>/dev/null; then
				kill -KILL "${pid#/proc/}" 2>/dev/null || true
			fi
		done
	done
	# What was mounted last goes first.
	while read -r mount; do
		umount -l -- "$mount" || die "cannot unmount $mount"
	done < <(awk -v dir="$dir/" 'index($5, dir) == 1 { print $5 }' /proc/self/mountinfo | tac)
	for name in "${made[@]}"; do
		rm -rf -- "${dir:?}/$name"
	done
	# The engine's own bridge and those of its containers' networks.
	while read -r _ name _; do
		ip link delete "$name" type bridge || die "cannot remove bridge $name"
	done < <(ip -o -4 address show to 198.19.248.0/21 | sort -u -k2,2)
	rmdir -- "$dir" 2>/dev/null || true
}

start() {
	local pid other
	if running "$dir/docker.pid" >/dev/null; then
		say "runs already: unix://$dir/docker.sock"
		return
	fi
	((EUID == 0)) || die "cannot start a Docker Engine without root"
	for other in dockerd containerd ip; do
		command -v "$other" >/dev/null || die "cannot start a Docker Engine: no $other; run install.sh docker-debian"
	done
	for other in /proc/[0-9]*; do
		[[ $(command_of "${other#/proc/}") != *dockerd*"--bridge=$bridge"* ]] ||
			die "cannot start a Docker Engine: another one of this script runs, process ${other#/proc/}"
	done
	# A socket's address has at most 107 characters.
	((${#dir} <= 70)) || die "cannot start a Docker Engine: the path $dir is too long for its sockets"

	# shellcheck disable=SC2174 # the folder is for root alone, those above it are not ours
	mkdir -p -m 700 "$dir"
	[[ -O $dir ]] || die "cannot start a Docker Engine: $dir belongs to another user"
	wipe
	# wipe removes the folder when nothing else is in it.
	# shellcheck disable=SC2174
	mkdir -p -m 700 "$dir"
	mkdir "$dir/tmp"
	cat >"$dir/containerd.toml" <<-EOF
		version = 2
		root = "$dir/containerd-root"
		state = "$dir/containerd-state"
		disabled_plugins = ["io.containerd.grpc.v1.cri"]
		[grpc]
		address = "$dir/containerd.sock"
	EOF
	# Without a file of its own dockerd reads the one in /etc/docker.
	echo '{}' >"$dir/daemon.json"
	ip link add "$bridge" type bridge
	ip address add "$address" dev "$bridge"
	ip link set "$bridge" up

	# A containerd of its own, because dockerd by itself joins the machine's if there is one.
	TMPDIR=$dir/tmp setsid containerd --config "$dir/containerd.toml" >>"$dir/log" 2>&1 </dev/null &
	echo $! >"$dir/containerd.pid"
	wait_for containerd "$dir/containerd.pid" test -S "$dir/containerd.sock"

	local storage=()
	# overlayfs cannot be stacked on itself, as it would be in a container.
	[[ $(stat -f -c %T "$dir") != overlayfs ]] || storage=(--storage-driver=vfs)
	TMPDIR=$dir/tmp setsid dockerd --config-file="$dir/daemon.json" --data-root="$dir/data" --exec-root="$dir/exec" \
		--pidfile="$dir/docker.pid" --host="unix://$dir/docker.sock" --group=root --containerd="$dir/containerd.sock" \
		--exec-opt=native.cgroupdriver=cgroupfs --bridge="$bridge" --default-address-pool="base=$pool,size=27" \
		--iptables=false --ip6tables=false --ip-masq=false "${storage[@]}" >>"$dir/log" 2>&1 </dev/null &
	wait_for dockerd "" grep -q 'msg="API listen on' "$dir/log"
	say "started; stop it with: $0 stop $dir"
}

# wait_for NAME PIDFILE COMMAND... waits until the command succeeds, while the background process
# started last lives.
wait_for() {
	local name=$1 pid=$! i
	shift 2
	for ((i = 0; i < 600; i++)); do
		! "$@" 2>/dev/null || return 0
		kill -0 "$pid" 2>/dev/null || break
		sleep 0.05
	done
	tail -n 30 "$dir/log" >&2
	kill -KILL "$pid" 2>/dev/null || true
	stop
	die "cannot start $name; its log is above"
}

stop() {
	[[ -d $dir ]] || return 0
	((EUID == 0)) || die "cannot stop a Docker Engine without root"
	end TERM 30 "$dir/docker.pid" || end KILL 10 "$dir/docker.pid" || die "cannot end dockerd"
	wipe
}

if (($# != 2)) || [[ $1 != start && $1 != stop || -z $2 ]]; then
	say "usage: run-debian-engine.sh start|stop DIR"
	exit 2
fi
dir=$(realpath -m -- "$2")
"$1"
