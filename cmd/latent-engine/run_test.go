package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine"
)

func TestHandles(t *testing.T) {
	one := backends.Status{Instance: "01J8Z3W6R4T5Y7N8B2V1C0X9M3", Object: "web-linux-01j8z3w6r4t5y7n8b2v1c0x9m3"}
	twin := backends.Status{Instance: "01J8Z3W6R4T5Y7N8BZV1C0X9M3", Object: "web-linux-01j8z3w6r4t5y7n8bzv1c0x9m3"}
	other := backends.Status{Instance: "01J8Z3W6R4T5Y7N8B2V1C0X9M3", Object: "gpu-01j8z3w6r4t5y7n8b2v1c0x9m3"}
	for _, c := range []struct {
		name string
		in   []backends.Status
		want string
	}{
		{"one", []backends.Status{one}, "web-linux-c0x9m3"},
		{"same end, other worker", []backends.Status{one, other}, "web-linux-c0x9m3 gpu-c0x9m3"},
		{"twins", []backends.Status{one, twin}, "web-linux-2v1c0x9m3 web-linux-zv1c0x9m3"},
		{"no object", []backends.Status{{Instance: "01J8Z3W6R4T5Y7N8B2V1C0X9M3"}}, "01j8z3w6r4t5y7n8b2v1c0x9m3"},
		{"the same twice", []backends.Status{one, one}, "web-linux-01j8z3w6r4t5y7n8b2v1c0x9m3 web-linux-01j8z3w6r4t5y7n8b2v1c0x9m3"},
		{"none", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := strings.Join(handles(c.in), " "); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m1s", 2 * time.Minute: "2m", 12*time.Minute + 7*time.Second: "12m",
		200 * time.Minute: "3h20m", 3 * time.Hour: "3h", 52 * time.Hour: "2d4h", 48 * time.Hour: "2d",
	} {
		if got := age(d); got != want {
			t.Errorf("age(%s) = %q, want %q", d, got, want)
		}
	}
}

// TestErrors: one printer, whatever the error.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		code int
		want string
	}{
		{"plain", errors.New("cannot do it"), exitFailed, "latent-engine: error: cannot do it\n"},
		{"hint", &hinted{err: errors.New("no"), hint: "try yes"}, exitFailed, "latent-engine: error: no\nhint: try yes\n"},
		{"usage", &usageError{message: "what?", hint: "help"}, exitUsage, "latent-engine: error: what?\nhint: help\n"},
		{"joined", errors.Join(errors.New("one"), errors.New("two")), exitFailed, "latent-engine: error: one\nlatent-engine: error: two\n"},
		{"control characters", errors.New("a\x1b[31mb"), exitFailed, "latent-engine: error: a\\x1b[31mb\n"},
		{"cancelled", context.Canceled, exitFailed, "latent-engine: error: cancelled\n"},
		{"reported", &reported{exitDenied}, exitDenied, ""},
		{"live", &engine.LiveError{Worker: "linux", Instance: "01J8", Starting: true}, exitFailed, "latent-engine: error: worker \"linux\" has an instance already: 01J8 is being started\nhint: latent-engine stop 01J8 ends it, --replace takes its place\n"},
		{"several", &engine.NotFoundError{ID: "abcd", Several: []string{"a-1", "b-2"}}, exitFailed, "latent-engine: error: \"abcd\" names several instances: [a-1 b-2]\nhint: latent-engine ps lists the instances\n"},
		{
			"failure", &backends.Failure{Class: backends.ClassOOM, Message: "the kernel killed the worker", Log: []string{"one", "two\x07"}, Hint: "raise hostconfig.mem_limit"},
			exitFailed, "failed (oom): the kernel killed the worker; last log lines:\n  | one\n  | two\\a\n  raise hostconfig.mem_limit\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			a := &app{stderr: &b}
			if code := a.fail(c.err); code != c.code || b.String() != c.want {
				t.Errorf("exit code %d, want %d\n got %q\nwant %q", code, c.code, b.String(), c.want)
			}
			b.Reset()
			a.output = "json"
			a.fail(c.err)
			for line := range strings.Lines(b.String()) {
				if err := checkSchema("diagnostic", []byte(line)); err != nil {
					t.Errorf("%v: %s", err, line)
				}
			}
		})
	}
}

// TestWarnings: an instance that is well, with a warning, is shown so.
func TestWarnings(t *testing.T) {
	var b bytes.Buffer
	s := backends.Status{Instance: "01J8", State: backends.StateRunning, Warnings: []string{"a process was killed"}}
	if err := (&app{stdout: &b}).printStatus(s); err != nil || !strings.Contains(b.String(), "running (warning)") || !strings.Contains(b.String(), "warning  ") || !strings.Contains(b.String(), "a process was killed") {
		t.Errorf("%v\n%s", err, b.String())
	}
	if endedWell(s) || statusWord(backends.Status{State: backends.StateRunning}) != "running" {
		t.Error("a status without a warning has one")
	}
}

func TestPasswordOut(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "w.pass")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	p, err := newPasswordOut(path)
	if err != nil {
		t.Fatal(err)
	}
	p.discard()
	if b, _ := os.ReadFile(path); string(b) != "old" {
		t.Errorf("a start that failed left %q", b)
	}
	p, err = newPasswordOut(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.write("secret"); err != nil {
		t.Fatal(err)
	}
	p.discard()
	b, _ := os.ReadFile(path)
	info, err := os.Stat(path)
	if string(b) != "secret\n" || err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%q, %v, %v", b, info.Mode(), err)
	}
	if all, _ := os.ReadDir(dir); len(all) != 1 {
		t.Errorf("left: %v", all)
	}
	if _, err := newPasswordOut(dir); err == nil {
		t.Error("a folder was taken for a password file")
	}
}

func TestPasswordFile(t *testing.T) {
	for _, c := range []struct{ content, want, message string }{
		{"secret\n", "secret", ""},
		{"secret\r\n", "secret", ""},
		{"with blank ", "with blank ", ""},
		{"", "", "it is empty"},
		{"\n", "", "it is empty"},
		{"one\ntwo\n", "", "a password is one line"},
		{"a\x00b", "", "a password is one line"},
		{strings.Repeat("x", maxPassword+1), "", "more than 4096 bytes"},
	} {
		a := &app{stdin: strings.NewReader(c.content)}
		got, err := a.password("-")
		if got != c.want || (err == nil) != (c.message == "") || err != nil && !strings.Contains(err.Error(), c.message) {
			t.Errorf("%.20q: %q, %v", c.content, got, err)
		}
	}
}

func TestLines(t *testing.T) {
	long := strings.Repeat("x", maxLine+10)
	var got []string
	if err := lines(strings.NewReader("a\r\n\nb\n"+long+"\nend"), func(s string) { got = append(got, s) }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 6 || got[0] != "a" || got[1] != "" || len(got[3])+len(got[4]) != len(long) || got[5] != "end" {
		t.Errorf("%d lines: %.40q", len(got), got)
	}
}

func TestYAML(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                            "{}\n",
		`[]`:                            "[]\n",
		`"a"`:                           "a\n",
		`{"b":1,"a":[]}`:                "b: 1\na: []\n",
		`{"a":{"b":[1,"x",null,true]}}`: "a:\n  b:\n    - 1\n    - x\n    - null\n    - true\n",
		`[{"a":1,"b":[{"c":2}]},[3,4]]`: "- a: 1\n  b:\n    - c: 2\n- - 3\n  - 4\n",
		`["no","NULL","1","0x1",":","a: b","- a","#","é","x\ny","","a b","true","~"]`: "- \"no\"\n- \"NULL\"\n- \"1\"\n- \"0x1\"\n- \":\"\n- \"a: b\"\n- \"- a\"\n- \"#\"\n- \"é\"\n- \"x\\ny\"\n- \"\"\n- \"a b\"\n- \"true\"\n- \"~\"\n",
		`{"17179869184":17179869184,"a.b/c":"a.b/c"}`:                                 "\"17179869184\": 17179869184\na.b/c: a.b/c\n",
	} {
		var b bytes.Buffer
		if err := writeYAML(&b, []byte(in)); err != nil || b.String() != want {
			t.Errorf("%s: %v\n got %q\nwant %q", in, err, b.String(), want)
		}
	}
}

// TestInterrupted: a first Ctrl-C ends the context, a second one is told apart.
func TestInterrupted(t *testing.T) {
	ctx, cancel := interrupted(context.Background())
	defer cancel()
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []<-chan struct{}{ctx.Done(), again(ctx)} {
		select {
		case <-again(ctx):
			t.Fatal("one Ctrl-C was taken for two")
		default:
		}
		if err := self.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		select {
		case <-want:
		case <-time.After(5 * time.Second):
			t.Fatalf("Ctrl-C %d was not noticed", i+1)
		}
	}
}
