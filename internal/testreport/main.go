// Command testreport runs `go test -json` and prints what `go test` prints, and at its end how many tests there were and
// which were skipped, with their reasons: a test that did not run must not look like one that passed.
//
//	go run ./internal/testreport [-strict] [-allow FILE] [-v] -- GO_TEST_ARGUMENT...
//
// With -strict (set by CI=true) a skipped test fails the run unless its reason is in the list of -allow: lines of
// `PACKAGE TEST-REGEXP REASON-REGEXP`, where PACKAGE is relative to the module and # begins a comment.
// It exits as `go test` does, or 1 for a skip that is not allowed.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"time"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	flags := flag.NewFlagSet("testreport", flag.ContinueOnError)
	flags.SetOutput(stderr)
	strict := flags.Bool("strict", os.Getenv("CI") == "true", "a skip that is not allowed fails the run")
	allow := flags.String("allow", "", "file with the skips that are allowed")
	verbose := flags.Bool("v", false, "print the line of every test")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	var allowed []allowance
	if *allow != "" {
		text, err := os.ReadFile(*allow)
		if err == nil {
			allowed, err = parseAllowed(string(text))
		}
		if err != nil {
			fmt.Fprintf(stderr, "testreport: error: cannot read the allowed skips: %v\n", err)
			return 2
		}
	}
	began := time.Now()
	test := exec.Command("go", append([]string{"test", "-json"}, flags.Args()...)...)
	test.Stderr = stderr
	pipe, err := test.StdoutPipe()
	if err == nil {
		err = test.Start()
	}
	if err != nil {
		fmt.Fprintf(stderr, "testreport: error: cannot run go test: %v\n", err)
		return 2
	}
	r := newReport(stdout, *verbose)
	r.read(pipe)
	err = test.Wait()
	refused := r.end(time.Since(began), allowed, *strict)
	switch {
	case err != nil && test.ProcessState.ExitCode() > 0:
		return test.ProcessState.ExitCode()
	case err != nil || r.failed > 0 || refused > 0:
		return 1
	}
	return 0
}

// event is a line of `go test -json`.
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

type name struct{ pkg, test string }

// skip is a test that did not run.
type skip struct {
	name
	reason string
}

// report collects events and prints what go test would.
type report struct {
	out            io.Writer
	verbose        bool
	output         map[name][]string
	passed, failed int
	packages       map[string]bool
	failures       []name
	skips          []skip
}

func newReport(out io.Writer, verbose bool) *report {
	return &report{out: out, verbose: verbose, output: map[name][]string{}, packages: map[string]bool{}}
}

func (r *report) read(from io.Reader) {
	lines := bufio.NewReader(from)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if json.Unmarshal(line, &e) != nil || e.Action == "" {
				r.out.Write(line)
			} else {
				r.add(e)
			}
		}
		if err != nil {
			return
		}
	}
}

func (r *report) add(e event) {
	id := name{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(r.out, e.Output)
	case "output":
		if e.Test == "" {
			// The package's own lines: ok, FAIL, what TestMain prints. A bare PASS says nothing.
			if e.Output != "PASS\n" && !strings.HasPrefix(e.Output, "testing: warning: no tests to run") {
				fmt.Fprint(r.out, e.Output)
			}
			return
		}
		if r.verbose && isResult(e.Output) {
			fmt.Fprint(r.out, e.Output)
		}
		r.output[id] = append(r.output[id], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			r.packages[e.Package] = e.Action != "fail"
			return
		}
		r.result(id, e.Action)
	}
}

func isResult(line string) bool { return strings.HasPrefix(strings.TrimLeft(line, " "), "--- ") }

func (r *report) result(id name, action string) {
	switch action {
	case "pass":
		r.passed++
	case "fail":
		r.failed++
		r.failures = append(r.failures, id)
		for _, line := range r.output[id] {
			if !strings.HasPrefix(line, "=== ") {
				fmt.Fprint(r.out, line)
			}
		}
	case "skip":
		r.skips = append(r.skips, skip{id, reason(r.output[id])})
	}
	delete(r.output, id)
}

// reason is what a test said before it was skipped.
func reason(output []string) string {
	var words []string
	for _, line := range output {
		if text := strings.TrimSpace(line); text != "" && !strings.HasPrefix(text, "=== ") && !isResult(line) {
			words = append(words, location.ReplaceAllString(text, ""))
		}
	}
	return cmp.Or(strings.Join(words, " "), "no reason given")
}

var location = regexp.MustCompile(`^[\w.-]+\.go:\d+: `)

// end prints the totals and gives the number of skips that are not allowed.
func (r *report) end(took time.Duration, allowed []allowance, strict bool) int {
	refused := 0
	// Tests with the same reason are one line; the reason is what is to be read.
	type group struct {
		reason  string
		allowed bool
		tests   []string
	}
	var groups []*group
	for _, s := range r.skips {
		ok := slices.ContainsFunc(allowed, func(a allowance) bool { return a.covers(s) })
		if !ok {
			refused++
		}
		text := relative(s.pkg) + "." + s.test
		if i := slices.IndexFunc(groups, func(g *group) bool { return g.reason == s.reason && g.allowed == ok }); i >= 0 {
			groups[i].tests = append(groups[i].tests, text)
			continue
		}
		groups = append(groups, &group{s.reason, ok, []string{text}})
	}
	if len(groups) > 0 {
		fmt.Fprintln(r.out, "\nskipped:")
		for _, g := range groups {
			mark := ""
			switch {
			case g.allowed:
				mark = " (allowed)"
			case strict:
				mark = " (NOT ALLOWED)"
			}
			fmt.Fprintf(r.out, "  %s%s\n", g.reason, mark)
			for _, t := range g.tests {
				fmt.Fprintf(r.out, "    %s\n", t)
			}
		}
	}
	if len(r.failures) > 0 {
		fmt.Fprintln(r.out, "\nfailed:")
		for _, f := range r.failures {
			fmt.Fprintf(r.out, "  %s.%s\n", relative(f.pkg), f.test)
		}
	}
	bad := 0
	for _, ok := range r.packages {
		if !ok {
			bad++
		}
	}
	fmt.Fprintf(r.out, "\n%d tests: %d passed, %d failed, %d skipped; %d packages, %d of them failed; %s\n",
		r.passed+r.failed+len(r.skips), r.passed, r.failed, len(r.skips), len(r.packages), bad, took.Round(time.Second))
	if !strict {
		return 0
	}
	if refused > 0 {
		fmt.Fprintf(r.out, "FAIL: %d skipped tests are not in the list of allowed skips\n", refused)
	}
	return refused
}

const module = "github.com/latent-engine/latent-engine/"

func relative(pkg string) string { return strings.TrimPrefix(pkg, module) }

// allowance is a line of the list of allowed skips.
type allowance struct {
	pkg          string
	test, reason *regexp.Regexp
}

func (a allowance) covers(s skip) bool {
	return a.pkg == relative(s.pkg) && a.test.MatchString(s.test) && a.reason.MatchString(s.reason)
}

func parseAllowed(text string) ([]allowance, error) {
	var out []allowance
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		parts := strings.SplitN(line, " ", 3)
		if len(parts) != 3 {
			return nil, fmt.Errorf("line %d: PACKAGE TEST-REGEXP REASON-REGEXP is wanted: %q", i+1, line)
		}
		test, err := regexp.Compile("^(?:" + parts[1] + ")$")
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		why, err := regexp.Compile(parts[2])
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		out = append(out, allowance{parts[0], test, why})
	}
	return out, nil
}
