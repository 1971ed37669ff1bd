// Command bench measures the whole against what it replaces and what it is made of, in one run on one machine, and prints
// the ratios. `make bench` starts it.
//
// The benchmarks themselves are in this folder's tests. Each round runs each of them once, one after another, so that a
// machine that gets slower gets slower for all; the table has the medians of all rounds.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

// buildbotVariable names the file with what Buildbot rendered.
const buildbotVariable = "LATENT_BENCH_BUILDBOT"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "bench: error:", err)
		os.Exit(1)
	}
}

type options struct {
	python, out string
	rounds      int
	real        bool
	strict      bool
}

func run(args []string) error {
	var o options
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&o.python, "python", "", "python with Buildbot in it")
	flags.StringVar(&o.out, "out", "", "file to write the table to as well")
	flags.IntVar(&o.rounds, "rounds", 7, "how often everything is run")
	flags.BoolVar(&o.real, "real", os.Geteuid() == 0, "start real containers too, on a Docker Engine of the test environment")
	flags.BoolVar(&o.strict, "strict", false, "fail where a goal is missed")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.rounds < 1 {
		return errors.New("cannot run less than one round")
	}
	folder := filepath.Join("internal", "bench")
	if _, err := os.Stat(filepath.Join(folder, "buildbot_render.py")); err != nil {
		return errors.New("cannot find internal/bench: run this from the top of the clone")
	}
	work, err := os.MkdirTemp("", "latent-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	binary := filepath.Join(work, "bench.test")
	compile := exec.Command("go", "test", "-c", "-tags=integration", "-o", binary, "./"+folder)
	if output, err := compile.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot compile the benchmarks: %w: %s", err, output)
	}
	r := &rounds{folder: folder, binary: binary, work: work, values: map[string][]float64{}}
	began := time.Now()
	for n := range o.rounds {
		fmt.Fprintf(os.Stderr, "bench: round %d of %d\n", n+1, o.rounds)
		if err := r.round(o, n == 0); err != nil {
			return err
		}
	}
	table, missed := r.table(o.rounds, time.Since(began))
	fmt.Print(table)
	if o.out != "" {
		if err := os.MkdirAll(filepath.Dir(o.out), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(o.out, []byte(table), 0o600); err != nil {
			return err
		}
		fmt.Fprintln(os.Stderr, "bench: written to", o.out)
	}
	if o.strict && missed > 0 {
		return fmt.Errorf("%d goals missed", missed)
	}
	return nil
}

// rounds collects the values of each benchmark's metrics: "Render ns/op".
type rounds struct {
	folder, binary, work string
	values               map[string][]float64
	buildbot             string // its version
}

func (r *rounds) round(o options, first bool) error {
	type step struct{ pattern, count string }
	// What is held against each other takes turns in short runs, so that all of them see the same machine.
	for turn := range 3 {
		if o.python != "" {
			if err := r.renderBuildbot(o.python, first && turn == 0); err != nil {
				return err
			}
		}
		for _, s := range []step{{"^BenchmarkRenderCEL$", "5000x"}, {"^BenchmarkRender$", "5000x"}} {
			if err := r.bench(s.pattern, s.count); err != nil {
				return err
			}
		}
	}
	// A fixed number of iterations makes rounds alike; each takes some hundred milliseconds.
	steps := []step{
		{"^BenchmarkRenderConcurrent$", "40000x"},
		{"^BenchmarkLoad$", "2x"},
		{"^BenchmarkStart$", "200x"},
		{"^BenchmarkSync$", "200x"},
	}
	if o.real {
		steps = append(steps, step{"^BenchmarkRealStart$", "7x"})
	}
	for _, s := range steps {
		if err := r.bench(s.pattern, s.count); err != nil {
			return err
		}
	}
	return nil
}

func (r *rounds) bench(pattern, count string) error {
	output, err := r.test("-test.run=^$", "-test.bench="+pattern, "-test.benchtime="+count)
	if err == nil {
		r.parse(output)
	}
	return err
}

func (r *rounds) test(args ...string) ([]byte, error) {
	test := exec.Command(r.binary, args...)
	test.Dir = r.folder
	test.Env = append(os.Environ(), buildbotVariable+"="+os.Getenv(buildbotVariable))
	output, err := test.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("cannot run %v: %w: %s", args, err, output)
	}
	return output, nil
}

// renderBuildbot times Buildbot's render, and makes sure, once, that it gives what ours gives.
func (r *rounds) renderBuildbot(python string, first bool) error {
	script := exec.Command(python, filepath.Join(r.folder, "buildbot_render.py"), filepath.Join(r.folder, "testdata", "build.json"), "150")
	var problems bytes.Buffer
	script.Stderr = &problems
	output, err := script.Output()
	if err != nil {
		return fmt.Errorf("cannot run Buildbot's render: %w: %s", err, problems.Bytes())
	}
	var result struct {
		Version  string          `json:"version"`
		Took     float64         `json:"ns_per_render"`
		Rendered json.RawMessage `json:"rendered"`
	}
	if err := json.Unmarshal(output, &result); err != nil {
		return fmt.Errorf("cannot read what Buildbot's render printed: %w", err)
	}
	r.buildbot = result.Version
	r.add("Buildbot", "ns/op", result.Took)
	if !first {
		return nil
	}
	path := filepath.Join(r.work, "buildbot.json")
	if err := os.WriteFile(path, result.Rendered, 0o600); err != nil {
		return err
	}
	if err := os.Setenv(buildbotVariable, path); err != nil {
		return err
	}
	_, err = r.test("-test.run=^Test(BuildbotAgrees|PeerAgrees|Large)$")
	return err
}

func (r *rounds) add(name, unit string, value float64) {
	key := name + " " + unit
	r.values[key] = append(r.values[key], value)
}

// parse reads the lines of `go test -bench`: BenchmarkX-2  100  123 ns/op  45 B/op.
func (r *rounds) parse(output []byte) {
	for line := range strings.Lines(string(output)) {
		words := strings.Fields(line)
		if len(words) < 4 || !strings.HasPrefix(words[0], "Benchmark") {
			continue
		}
		name := strings.TrimPrefix(words[0], "Benchmark")
		if at := strings.LastIndexByte(name, '-'); at > 0 {
			if _, err := strconv.Atoi(name[at+1:]); err == nil {
				name = name[:at]
			}
		}
		for i := 2; i+1 < len(words); i += 2 {
			if value, err := strconv.ParseFloat(words[i], 64); err == nil {
				r.add(name, words[i+1], value)
			}
		}
	}
}

// median of what all rounds gave; false where there is nothing.
func (r *rounds) median(key string) (float64, bool) {
	v := slices.Clone(r.values[key])
	if len(v) == 0 {
		return 0, false
	}
	slices.Sort(v)
	if len(v)%2 == 1 {
		return v[len(v)/2], true
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2, true
}

// table is the result, and how many goals were missed.
func (r *rounds) table(n int, took time.Duration) (string, int) {
	var out bytes.Buffer
	missed := 0
	fmt.Fprintf(&out, "%s, %s/%s, %d processors, %s; medians of %d rounds, %s in all\n\n",
		time.Now().UTC().Format(time.DateOnly), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), runtime.Version(), n, took.Round(time.Second))
	line := func(what, value, than, goal string) {
		fmt.Fprintf(&out, "%-58s %12s  %-28s %s\n", what, value, than, goal)
	}
	line("", "median", "ratio", "goal")
	judge := func(ok bool, goal string) string {
		if ok {
			return goal + ": reached"
		}
		missed++
		return goal + ": MISSED"
	}
	ours, _ := r.median("Render ns/op")
	line("render of a Docker worker, 8 renderables", duration(ours), "", "")
	if theirs, ok := r.median("Buildbot ns/op"); ok {
		line("  Buildbot "+r.buildbot+", Properties.render", duration(theirs), fmt.Sprintf("%.0f times as long as ours", theirs/ours), judge(theirs >= 50*ours, "50 times or more"))
	}
	if bare, ok := r.median("RenderCEL ns/op"); ok {
		line("  the same CEL programs and one json.Marshal", duration(bare), fmt.Sprintf("ours takes %.2f times that", ours/bare), judge(ours <= 2*bare, "2 times or less"))
	}
	r.allocations(line, "  allocations of ours", "Render")
	r.allocations(line, "  allocations of the bare CEL programs", "RenderCEL")
	r.simple(line, "  one of 200 concurrent renders, p50", "RenderConcurrent p50-ns")
	r.simple(line, "  one of 200 concurrent renders, p99", "RenderConcurrent p99-ns")
	if load, ok := r.median("Load ns/op"); ok {
		line("load of 1,000 workers with 8 expressions (200 texts)", duration(load), "", judge(load < 1e9, "less than 1 s"))
	}
	if own, ok := r.median("Start own-ns"); ok {
		calls, _ := r.median("Start calls/op")
		line(fmt.Sprintf("start over a stub transport (%.0f calls), own time", calls), duration(own), "", judge(own <= 1e6, "1 ms or less"))
	}
	r.simple(line, "  p99", "Start own-p99-ns")
	r.simple(line, "  of which the disk: two appended lines, synced, alone", "Sync ns/op")
	if engine, ok := r.median("RealStart/engine ns/op"); ok {
		line("start on a real Docker Engine", duration(engine), "", "for information")
		for _, p := range []struct{ what, key string }{{"  create and start with bare HTTP", "RealStart/raw ns/op"}, {"  docker run --detach", "RealStart/docker-run ns/op"}} {
			if v, ok := r.median(p.key); ok {
				line(p.what, duration(v), fmt.Sprintf("ours takes %.2f times that", engine/v), "")
			}
		}
	}
	return out.String(), missed
}

func (r *rounds) simple(line func(what, value, than, goal string), what, key string) {
	if v, ok := r.median(key); ok {
		line(what, duration(v), "", "")
	}
}

func (r *rounds) allocations(line func(what, value, than, goal string), what, name string) {
	count, ok := r.median(name + " allocs/op")
	if size, also := r.median(name + " B/op"); ok && also {
		line(what, fmt.Sprintf("%.0f", count), fmt.Sprintf("%.1f KiB", size/1024), "")
	}
}

// duration prints three digits.
func duration(ns float64) string {
	d := time.Duration(ns)
	switch {
	case d < time.Microsecond:
		return fmt.Sprintf("%.0f ns", ns)
	case d < time.Millisecond:
		return fmt.Sprintf("%.3g µs", ns/1e3)
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", ns/1e6)
	}
	return fmt.Sprintf("%.3g s", ns/1e9)
}
