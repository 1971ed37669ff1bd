// Command worker stands in for a CI system's build worker in tests: a static binary that an image
// can hold alone, and that can be told to end in every way in which a real worker ends.
//
// It reads the environment, or the same settings as arguments of the form NAME=value, which win:
//
//	WORKER_LOG_LINES=n   print n numbered lines ("line 1 of n") before anything else happens
//	WORKER_SLEEP=2s      wait that long, then go on (a bare number is seconds)
//	WORKER_OOM=1         allocate and touch memory until the kernel ends the process
//	WORKER_CHILD_OOM=1   start a child that does that, tell how it ended, and go on
//	WORKER_EXIT=3        exit with that code instead of running on
//	WORKER_STUBBORN=1    ignore SIGTERM, as a worker does that hangs
//	WORKER_DIAL=1        connect to BUILDMASTER:BUILDMASTER_PORT over TCP, and exit 1 if that fails
//
// Otherwise it runs until SIGTERM or SIGINT and exits 0. Its first line names its environment
// variables, never their values: a test looks for a leaked WORKERPASS in the log. What goes wrong
// is on standard error, the rest on standard output; an engine's log may swap lines of the two.
package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	os.Exit(run(os.Args[1:], os.Environ()))
}

func run(args, environ []string) int {
	set := map[string]string{}
	for _, pair := range append(environ, args...) {
		if name, value, ok := strings.Cut(pair, "="); ok {
			set[name] = value
		}
	}

	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	if set["WORKER_STUBBORN"] == "1" {
		signal.Ignore(syscall.SIGTERM)
	}

	var names []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		names = append(names, name)
	}
	sort.Strings(names)
	fmt.Printf("starting worker %q; environment: %s\n", set["WORKERNAME"], strings.Join(names, " "))

	lines, err := strconv.Atoi(or(set["WORKER_LOG_LINES"], "0"))
	if err != nil {
		return usage("WORKER_LOG_LINES", set["WORKER_LOG_LINES"])
	}
	for i := range lines {
		fmt.Printf("line %d of %d\n", i+1, lines)
	}

	if set["WORKER_DIAL"] == "1" {
		address := net.JoinHostPort(set["BUILDMASTER"], set["BUILDMASTER_PORT"])
		conn, err := net.DialTimeout("tcp", address, 10*time.Second)
		if err != nil {
			fmt.Fprintf(os.Stderr, "cannot connect to %s: %v\n", address, err)
			return 1
		}
		defer conn.Close()
		fmt.Printf("Connected to %s; worker is ready\n", address)
	}

	if text := set["WORKER_SLEEP"]; text != "" {
		if _, err := strconv.Atoi(text); err == nil {
			text += "s"
		}
		wait, err := time.ParseDuration(text)
		if err != nil {
			return usage("WORKER_SLEEP", set["WORKER_SLEEP"])
		}
		select {
		case <-time.After(wait):
		case sig := <-stop:
			fmt.Printf("stopping: %s\n", sig)
			return 0
		}
	}

	if set["WORKER_CHILD_OOM"] == "1" {
		child := exec.Command("/proc/self/exe", "WORKER_CHILD_OOM=0", "WORKER_SLEEP=0", "WORKER_OOM=1")
		child.Env = []string{}
		fmt.Printf("the child ended: %v\n", child.Run())
	}

	if set["WORKER_OOM"] == "1" {
		fmt.Println("allocating memory until killed")
		var kept [][]byte
		for {
			block := make([]byte, 1<<20)
			for i := range block {
				block[i] = byte(i) | 1 // touched and not compressible to the zero page
			}
			kept = append(kept, block)
			if len(kept)%64 == 0 {
				fmt.Printf("allocated %d MiB\n", len(kept))
			}
		}
	}

	if text := set["WORKER_EXIT"]; text != "" {
		code, err := strconv.Atoi(text)
		if err != nil {
			return usage("WORKER_EXIT", text)
		}
		fmt.Fprintf(os.Stderr, "exiting with code %d\n", code)
		return code
	}

	fmt.Println("running until told to stop")
	sig := <-stop
	fmt.Printf("stopping: %s\n", sig)
	return 0
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}

func usage(name, value string) int {
	fmt.Fprintf(os.Stderr, "cannot read %s: %q is not valid\n", name, value)
	return 2
}
