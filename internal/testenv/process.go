package testenv

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is a program that we started.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended; set before done is closed
}

// startProcess starts a program whose output is appended to a file. The attributes are boundToUs
// or onItsOwn.
func startProcess(attributes *syscall.SysProcAttr, logFile string, env []string, path string, args ...string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()

	// The process outlives the test that needed it first, so it has no test's context.
	cmd := exec.CommandContext(context.Background(), path, args...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = attributes

	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The kernel sends the signal of boundToUs when the thread ends, not the process; locked
		// and waiting here, the thread ends with the process.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("cannot start %s: %w", path, err)
	}
	return p, nil
}

// listening returns nil if somebody takes connections on a unix socket.
func listening(socket string) error {
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "unix", socket)
	if err != nil {
		return err
	}
	return conn.Close()
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// end signals the process, waits for it, and reports false if it did not end in time.
func (p *process) end(signal syscall.Signal, wait time.Duration) bool {
	if !p.running() {
		return true
	}
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.done:
		return true
	case <-time.After(wait):
		return false
	}
}
