package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/latent-engine/latent-engine/backends"
)

// pty is a terminal, and what was written to it so far.
func pty(t *testing.T) (terminal *os.File, written func() string) {
	t.Helper()
	control, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	n, err := unix.IoctlGetInt(int(control.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(control.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	if err := unix.IoctlSetWinsize(int(terminal.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: 80, Row: 24}); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = out.ReadFrom(control)
	}()
	t.Cleanup(func() { control.Close() })
	return terminal, func() string {
		terminal.Close()
		<-done
		return strings.ReplaceAll(out.String(), "\r\n", "\n")
	}
}

func TestProgressOnATerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	t.Setenv("NO_COLOR", "")
	terminal, written := pty(t)
	a := &app{stderr: terminal, err: screenOf(terminal)}
	if !a.err.terminal || a.err.width() != 80 {
		t.Fatalf("%+v is no terminal of 80 columns", a.err)
	}
	p := a.newProgress()
	p.report(backends.Progress{Phase: "pulling", Subject: "registry.corp/ci/linux:stable"})
	p.report(backends.Progress{Phase: "pulling", Subject: "registry.corp/ci/linux:stable", Done: 412e6, Total: 560e6})
	time.Sleep(100 * time.Millisecond)
	p.report(backends.Progress{Phase: "pulling", Subject: "registry.corp/ci/linux:stable", Done: 560e6, Total: 560e6})
	p.report(backends.Progress{Phase: "waiting", Subject: "x", Message: "evil \x1b]0;title\x07" + strings.Repeat("wide ", 40)})
	p.report(backends.Progress{Phase: "created", Subject: "linux-1"})
	p.line("running", "0.4 s")
	p.done()
	got := written()
	for _, want := range []string{"\r\x1b[Kpulling", "████████████████  560/560 MB", `\x1b]0;title\a`, "…\n", "\x1b[32mrunning"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	for line := range strings.Lines(got) {
		for _, shown := range strings.Split(line, "\r\x1b[K") {
			if n := len([]rune(strings.TrimRight(shown, "\n"))); n > 90 {
				t.Errorf("a line of %d columns on a terminal of 80: %q", n, shown)
			}
		}
	}
}

func TestProgressElsewhere(t *testing.T) {
	var b bytes.Buffer
	a := &app{stderr: &b}
	p := a.newProgress()
	for i := range int64(10) {
		p.report(backends.Progress{Phase: "pulling", Subject: "a:latest", Done: i, Total: 10})
	}
	p.report(backends.Progress{Phase: "waiting", Subject: "a:latest", Message: "429"})
	p.report(backends.Progress{Phase: "created", Subject: "w-1", Message: "no swap limit"})
	p.line("created", "w-1")
	if want := "pulling   a:latest\nwaiting   a:latest  429\nwarning   no swap limit\ncreated   w-1\n"; b.String() != want {
		t.Errorf("got %q, want %q", b.String(), want)
	}
	b.Reset()
	a.output = "json"
	p.report(backends.Progress{Phase: "pulling", Subject: "a:latest", Done: 1, Total: 2})
	if err := checkSchema("progress", bytes.TrimSpace(b.Bytes())); err != nil {
		t.Errorf("%v: %s", err, b.String())
	}
}

func TestColour(t *testing.T) {
	t.Setenv("TERM", "xterm")
	for _, c := range []struct {
		noColor string
		want    bool
	}{{"", true}, {"1", false}} {
		t.Setenv("NO_COLOR", c.noColor)
		terminal, written := pty(t)
		if code := run(context.Background(), []string{"validate", "/nowhere.yaml"}, strings.NewReader(""), terminal, terminal); code != exitFailed {
			t.Errorf("exit code %d", code)
		}
		if got := written(); strings.Contains(got, "\x1b[") != c.want || !strings.Contains(got, "no such file") {
			t.Errorf("NO_COLOR=%q: %q", c.noColor, got)
		}
	}
}
