package main

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/latent-engine/latent-engine/backends"
)

// progress shows long work on standard error: one line that changes, on a terminal; a line for each phase, elsewhere.
type progress struct {
	app *app

	mux   sync.Mutex
	last  string    // guarded by mux: the phase and subject shown last
	open  bool      // guarded by mux: a changing line is shown
	since time.Time // guarded by mux: when the phase began
	drawn time.Time // guarded by mux
}

func (a *app) newProgress() *progress { return &progress{app: a} }

// report is called by a backend; it does not block for longer than a write takes.
func (p *progress) report(r backends.Progress) {
	p.mux.Lock()
	defer p.mux.Unlock()
	if p.app.json() {
		p.app.jsonLine(p.app.stderr, progressLine{"progress", r})
		return
	}
	now := time.Now()
	key := r.Phase + " " + r.Subject + " " + r.Message
	fresh := key != p.last
	if fresh {
		p.last, p.since = key, now
	}
	if r.Phase == "created" || r.Phase == "starting" {
		p.close()
		if r.Phase == "created" && r.Message != "" {
			p.print("warning", r.Message)
		}
		return // said by start itself, with the instance's short name
	}
	if !p.app.err.terminal {
		switch {
		case !fresh:
		case r.Phase != "building" || r.Message == "":
			p.print(r.Phase, joinNonEmpty(r.Subject, r.Message))
		default:
			fmt.Fprintln(p.app.stderr, "  | "+visible(r.Message))
		}
		return
	}
	if r.Phase == "building" && r.Message != "" {
		r.Subject = "" // the builder's own line says more than the image's made name
	}
	if !fresh && now.Sub(p.drawn) < 80*time.Millisecond && r.Done < r.Total {
		return
	}
	p.drawn = now
	p.draw(r, now)
}

func joinNonEmpty(parts ...string) string {
	var out []string
	for _, s := range parts {
		if s != "" {
			out = append(out, s)
		}
	}
	return strings.Join(out, "  ")
}

const barWidth = 16

func (p *progress) draw(r backends.Progress, now time.Time) {
	detail := r.Message
	if r.Total > 0 {
		done := int(min(r.Done*barWidth/r.Total, barWidth))
		detail = strings.Repeat("█", done) + strings.Repeat("░", barWidth-done) + fmt.Sprintf("  %s/%s MB", megabytes(r.Done), megabytes(r.Total))
		if s := now.Sub(p.since).Seconds(); s > 0.5 {
			detail += fmt.Sprintf("  %s MB/s", megabytes(int64(float64(r.Done)/s)))
		}
	}
	line := fmt.Sprintf("%-9s %s", r.Phase, visible(joinNonEmpty(r.Subject, "", detail)))
	line = short(strings.ReplaceAll(line, "\n", " "), p.app.err.width()-1)
	fmt.Fprint(p.app.stderr, "\r\x1b[K"+line)
	p.open = true
}

// megabytes are as registries count them: of 1,000,000 bytes.
func megabytes(n int64) string {
	mb := float64(n) / 1e6
	if mb < 10 {
		return fmt.Sprintf("%.1f", mb)
	}
	return fmt.Sprintf("%.0f", mb)
}

func (p *progress) close() {
	if p.open {
		fmt.Fprintln(p.app.stderr)
		p.open = false
	}
}

func (p *progress) print(word, text string) {
	fmt.Fprintf(p.app.stderr, "%s %s\n", p.app.err.paint(green, fmt.Sprintf("%-9s", word)), visible(text))
}

// line prints a line of the session.
func (p *progress) line(word, text string) {
	p.mux.Lock()
	defer p.mux.Unlock()
	p.close()
	p.print(word, text)
}

// done ends the line that changes.
func (p *progress) done() {
	p.mux.Lock()
	defer p.mux.Unlock()
	p.close()
}
