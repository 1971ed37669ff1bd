//go:build integration

package demo

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/latent-engine/latent-engine/internal/testenv"
)

// document is what a page of docs/ shows: files, by name, and the sessions at a terminal.
type document struct {
	files    map[string]string
	sessions []session
}

// session is a command and what it prints; … stands for anything within a line, and alone on a line for any lines.
type session struct{ command, output string }

var fence = regexp.MustCompile("(?ms)^(?:<!-- file: ([^ ]+) -->\n)?```([a-z]*)\n(.*?)^```$")

func parse(text string) document {
	d := document{files: map[string]string{}}
	for _, m := range fence.FindAllStringSubmatch(text, -1) {
		name, language, content := m[1], m[2], m[3]
		switch {
		case name != "":
			d.files[name] = content
		case language == "console":
			for _, part := range strings.Split("\n"+content, "\n$ ")[1:] {
				command, output, _ := strings.Cut(part, "\n")
				d.sessions = append(d.sessions, session{command, strings.TrimSpace(output)})
			}
		}
	}
	return d
}

// matches reports whether a command printed what the page shows.
func (s session) matches(output string) bool {
	var pattern strings.Builder
	for line := range strings.SplitSeq(s.output, "\n") {
		if line == "…" {
			pattern.WriteString(`(?:.*\n)*`)
			continue
		}
		// The width of a table's columns is no promise.
		for i, part := range strings.Split(line, "…") {
			if i > 0 {
				pattern.WriteString(".*")
			}
			words := regexp.MustCompile(` {2,}`).Split(part, -1)
			for j, w := range words {
				if j > 0 {
					pattern.WriteString(" +")
				}
				pattern.WriteString(regexp.QuoteMeta(w))
			}
		}
		pattern.WriteString(`\s*\n`)
	}
	return s.output == "" && output == "" || s.output != "" && regexp.MustCompile("^"+pattern.String()+"$").MatchString(strings.TrimSpace(output)+"\n")
}

// TestWorkerImageDocument does what docs/worker-image.md shows, command by command, on a real engine.
func TestWorkerImageDocument(t *testing.T) {
	e := testenv.Debian(t)
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "worker-image.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := parse(string(text))
	folder := t.TempDir()
	for name, content := range page.files {
		content = strings.ReplaceAll(content, "unix:///var/run/docker.sock", e.Host())
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script, err := os.ReadFile(filepath.Join("..", "..", "testdata", "demo", "worker", "worker.sh"))
	if err != nil || page.files["worker/worker.sh"] != string(script) {
		t.Errorf("worker.sh of the page is not that of testdata/demo (%v)", err)
	}
	if len(page.sessions) < 10 {
		t.Errorf("the page shows %d commands", len(page.sessions))
	}
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, "../../cmd/latent-engine")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	base(t, e)

	// One shell for all, because they hand variables on; each command's output goes to a file of its own.
	var commands bytes.Buffer
	for i, s := range page.sessions {
		t.Logf("%d: %s", i, s.command)
		// What a worker prints first takes a moment longer than its start.
		if strings.HasPrefix(s.command, "latent-engine logs") {
			commands.WriteString("for _ in {1..100}; do " + s.command + " | grep -q running && break; sleep 0.1; done\n")
		}
		commands.WriteString("{ " + s.command + "\n} >out." + string(rune('a'+i)) + " 2>err." + string(rune('a'+i)) + "\necho $? >code." + string(rune('a'+i)) + "\n")
	}
	run := exec.CommandContext(t.Context(), "bash")
	run.Stdin = &commands
	run.Dir = folder
	run.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "DOCKER_HOST="+e.Host(), "DOCKER_CONFIG="+folder, "DOCKER_BUILDKIT=0", "LATENT_ENGINE_STATE="+filepath.Join(folder, "state"))
	if output, err := run.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	for i, s := range page.sessions {
		get := func(name string) string {
			content, err := os.ReadFile(filepath.Join(folder, name+"."+string(rune('a'+i))))
			if err != nil {
				t.Fatal(err)
			}
			return string(content)
		}
		// A failure is on standard error, and shown where it is the point of a command.
		stdout, stderr := get("out"), get("err")
		if code := strings.TrimSpace(get("code")); code != "0" || !s.matches(stdout) && !s.matches(stderr+stdout) {
			t.Errorf("$ %s\nexit code %s\n%s%s\nthe page shows\n%s", s.command, code, stdout, stderr, s.output)
		}
	}
	if containers, _ := e.Objects(t, ""); len(containers) > 0 {
		t.Errorf("left: %v", containers)
	}
}

// base makes busybox on an engine that cannot pull it, of this machine's own programs.
func base(t *testing.T, e *testenv.Engine) {
	t.Helper()
	script := `set -eu
for name in sh sleep tr grep pidof; do
	path=$(command -v $name)
	mkdir -p root/bin root/proc
	cp -L "$path" root/bin/$name
	for library in $(ldd "$path" | grep -o '/[^ ]*'); do
		mkdir -p "root$(dirname "$library")"
		cp -L "$library" "root$library"
	done
done
tar -C root -c . >base.tar`
	folder := t.TempDir()
	built := exec.CommandContext(t.Context(), "sh", "-c", script)
	built.Dir = folder
	if output, err := built.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	e.Docker(t, "import", filepath.Join(folder, "base.tar"), "busybox:latest")
}
