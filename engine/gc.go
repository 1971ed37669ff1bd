package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/latent-engine/latent-engine/backends"
)

// Removal is one thing that gc removed, or would remove.
type Removal struct {
	Target string          `json:"target"`
	Object backends.Object `json:"object"`
	Why    string          `json:"why"`
}

// GCReport is what one run of gc did.
type GCReport struct {
	Removed []Removal `json:"removed"`
	// Kept are running instances that would be nobody's, had this state folder ever started anything as this engine.
	Kept []Removal `json:"kept"`
	// Cleared are journal entries of which nothing was left anyway.
	Cleared []string `json:"cleared"`
}

// GCOptions say how far gc goes.
type GCOptions struct {
	// DryRun only says what would be removed.
	DryRun bool
	// Orphans: running instances are removed too where the state folder has never started anything as this engine. Without it a
	// second state folder, or one that was lost, would be the end of every running worker.
	Orphans bool
}

// GC compares the journal and the backends both ways, and removes what is this engine's and nobody's: what a start left
// that died in the middle, what a stop left, what has expired, what the journal does not know. A start that a live process
// stands behind, a started instance and another engine id's objects are never touched. What could not be
// removed is in the error, beside the rest.
//
// A backend can still be at work on the last call of a process that died, an image build above all. So where something was
// removed GC looks again after a moment, until it finds nothing.
func (e *Engine) GC(ctx context.Context, o GCOptions) (GCReport, error) {
	report, err := e.collect(ctx, o)
	for found := len(report.Removed); err == nil && found > 0 && !o.DryRun; {
		select {
		case <-time.After(settle):
		case <-ctx.Done():
			return report, ctx.Err()
		}
		var more GCReport
		more, err = e.collect(ctx, o)
		found = len(more.Removed)
		report.Removed = append(report.Removed, more.Removed...)
		report.Cleared = append(report.Cleared, more.Cleared...)
	}
	return report, err
}

// settle is how long GC waits before it looks again. The classic builder needs some tenths of a second to notice that its
// client is gone.
const settle = time.Second

// collect is one look at everything.
func (e *Engine) collect(ctx context.Context, options GCOptions) (GCReport, error) {
	report := GCReport{Removed: []Removal{}, Kept: []Removal{}, Cleared: []string{}}
	ours, err := e.store.Knows(e.id)
	if err != nil {
		return report, err
	}
	var errs []error
	now := e.options.Now()
	// Of what the journal had before a backend is asked, and still has as it was, nothing is left where the backend has nothing.
	// An instance that began in between is not among it.
	before, err := e.store.Entries(e.id)
	if err != nil {
		return report, err
	}
	asked := map[string]string{} // ids of the backends by target
	present := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(e.set.Targets)) {
		b, err := e.Backend(ctx, name)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		objects, err := b.List(ctx)
		if err != nil {
			errs = append(errs, fmt.Errorf("cannot list %s: %w", name, err))
			continue
		}
		id := ""
		if len(before) > 0 {
			if id, err = b.ID(ctx); err != nil {
				errs = append(errs, fmt.Errorf("cannot tell which backend %s is: %w", name, err))
			} else {
				asked[name] = id
			}
		}
		// The journal is read after the backend: an instance that began in between is in the journal, never only on the backend.
		entries, err := e.store.Entries(e.id)
		if err != nil {
			return report, err
		}
		known := map[string]Entry{}
		building := false
		for _, en := range entries {
			known[en.Instance] = en
			building = building || en.Live
		}
		stopped := map[string]bool{}
		for _, o := range objects {
			present[o.Instance] = true
			if en := known[o.Instance]; id != "" && o.Status != nil && en.State == EntryStarted && en.Backend != id && !options.DryRun {
				if err := e.store.Moved(en, id); err != nil {
					return report, err
				}
			}
			why := verdict(o, known, building)
			if en := known[o.Instance]; why == "" && en.State == EntryStarted && !en.Expires.IsZero() && now.After(en.Expires) {
				why = "expired at " + en.Expires.Format("2006-01-02 15:04:05Z07:00")
			}
			if why == "" {
				continue
			}
			if _, known := known[o.Instance]; !known && !ours && !options.Orphans && runs(o) {
				report.Kept = append(report.Kept, Removal{Target: name, Object: o, Why: "it runs, and this state folder has never started anything as engine " + e.id})
				continue
			}
			if !options.DryRun {
				// Stop first: it takes what goes with an instance in the right order. What is left after it goes one by one.
				if o.Instance != "" && !stopped[o.Instance] {
					stopped[o.Instance] = true
					if err := b.Stop(ctx, o.Instance, backends.StopOptions{Fast: true}); err != nil {
						errs = append(errs, err)
					}
				}
				if err := b.Remove(ctx, o); err != nil {
					errs = append(errs, fmt.Errorf("cannot remove %s %s: %w", o.Kind, o.Name, err))
					continue
				}
				if o.Instance != "" {
					if err := e.store.End(o.Instance); err != nil {
						return report, err
					}
				}
			}
			report.Removed = append(report.Removed, Removal{Target: name, Object: o, Why: why})
		}
	}
	for _, en := range before {
		if en.Live || present[en.Instance] || !en.heldByAny(asked) {
			continue
		}
		if !options.DryRun {
			ended, err := e.store.EndAsItWas(en)
			if err != nil {
				return report, errors.Join(append(errs, err)...)
			}
			if !ended {
				continue
			}
		}
		report.Cleared = append(report.Cleared, en.Instance)
	}
	return report, errors.Join(errs...)
}

// heldByAny is heldBy for any of several targets.
func (en Entry) heldByAny(ids map[string]string) bool {
	for target, id := range ids {
		if en.heldBy(target, id) {
			return true
		}
	}
	return false
}

func runs(o backends.Object) bool {
	return o.Status != nil && (o.Status.State == backends.StateRunning || o.Status.State == backends.StateStarting)
}

// verdict says why an object is nobody's, "" where it is somebody's.
func verdict(o backends.Object, known map[string]Entry, building bool) string {
	en, ok := known[o.Instance]
	switch {
	case o.Kept:
		return ""
	case o.Instance == "" && building:
		return "" // a build under way may be making it
	case o.Instance == "":
		return "left behind by an image build"
	case !ok:
		return "not in the journal: its start or stop did not come to an end"
	case en.State == EntryIntent && !en.Live:
		return "its start was cut off"
	}
	return ""
}
