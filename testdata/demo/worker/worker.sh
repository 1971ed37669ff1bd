#!/bin/sh
# Stands in for a build worker: does what every worker image has to do, and no builds.
set -u

# The password is for the worker alone: what builds start must not inherit it.
password=${WORKERPASS-}
unset WORKERPASS

# Who ignores SIGTERM is killed after stop_timeout, and cannot say goodbye.
trap 'echo "stopping"; exit 0' TERM INT

echo "starting worker \"$WORKERNAME\" for $BUILDMASTER:$BUILDMASTER_PORT ($BUILDMASTER_PROTOCOL), password of ${#password} characters"
n=0
while [ "$n" -lt "${WORKER_LOG_LINES:-0}" ]; do
	n=$((n + 1))
	echo "line $n of $WORKER_LOG_LINES"
done
echo "running until told to stop"
# A trap runs once the command in the foreground has ended; wait is one that ends with the signal.
while :; do
	sleep 3600 &
	wait $!
done
