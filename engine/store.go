package engine

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

// Store is the journal of instances in a state folder. Each intent is in it, synced, before the first call to a backend
// that could leave something behind. Several processes may share the folder.
//
//	engine-id     the engine's id, made once
//	journal       JSON lines, appended under the lock
//	journal.lock  held while the journal is read and appended to
//	starts/ID     held by the process that starts ID: the kernel lets it go when the process dies, however it dies
//	starts/ID.stop  there while somebody asks that process to give the start up
type Store struct {
	dir string

	mux     sync.Mutex
	file    *os.File         // guarded by mux
	info    fs.FileInfo      // guarded by mux: which file was read
	offset  int64            // guarded by mux: how far it was read
	entries map[string]Entry // guarded by mux
	engines map[string]bool  // guarded by mux: whose instances the folder has ever held
	lock    *flock.Flock
}

// EntryState is how far an instance came.
type EntryState string

// The states of an entry.
const (
	EntryIntent  EntryState = "intent"  // a start began
	EntryStarted EntryState = "started" // the start came about
	EntryEnded   EntryState = "ended"   // nothing of it is left
	entryEngine  EntryState = "engine"  // no instance: this folder has started something as the engine
)

// Entry is what the journal says of an instance.
type Entry struct {
	State      EntryState `json:"state"`
	Instance   string     `json:"instance"`
	Engine     string     `json:"engine,omitempty"`
	Tenant     string     `json:"tenant,omitempty"`
	Worker     string     `json:"worker,omitempty"`
	WorkerName string     `json:"worker_name,omitempty"`
	Kind       string     `json:"kind,omitempty"`
	Target     string     `json:"target,omitempty"`
	// Backend is the id of the backend that holds the instance: the target's name, or its address, may mean another one in another
	// definition. "" where the backend does not tell, or where the start ended before it had told.
	Backend string    `json:"backend,omitempty"`
	Object  string    `json:"object,omitempty"`
	Digest  string    `json:"digest,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	// Live: the process that starts it is alive. Not stored.
	Live bool `json:"-"`
}

// heldBy reports whether what the entry stands for is on a backend, if it is anywhere. Of what a dead start left that had not
// heard its backend's id, the backend of that name is taken: wrongly so, it is found by its label and removed there all the same.
func (en Entry) heldBy(target, id string) bool {
	if en.Backend != "" {
		return en.Backend == id
	}
	return en.Target == target && (id == "" || en.State == EntryIntent)
}

// Earlier is an entry of the same identity that has not ended.
type Earlier = Entry

// OpenStore opens a state folder, making it where it is not there (0700).
func OpenStore(dir string) (*Store, error) {
	if dir == "" {
		return nil, errors.New("cannot open the state folder: no folder is named")
	}
	if err := os.MkdirAll(filepath.Join(dir, "starts"), 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the state folder: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "journal"), os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("cannot open the journal: %w", err)
	}
	s := &Store{dir: dir, file: file, entries: map[string]Entry{}, engines: map[string]bool{}, lock: flock.New(filepath.Join(dir, "journal.lock"), flock.SetPermissions(0o600))}
	if err := s.locked(func() error { return s.compact() }); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return s, nil
}

// Close closes the journal.
func (s *Store) Close() error {
	s.mux.Lock()
	defer s.mux.Unlock()
	return errors.Join(s.file.Close(), s.lock.Close())
}

// EngineID is the folder's engine id, made at the first call.
func (s *Store) EngineID() (string, error) {
	path := filepath.Join(s.dir, "engine-id")
	var id string
	err := s.locked(func() error {
		b, err := os.ReadFile(path)
		if err == nil && len(bytes.TrimSpace(b)) > 0 {
			id = string(bytes.TrimSpace(b))
			return nil
		}
		id = "le-" + strings.ToLower(rand.Text()[:12])
		return writeSynced(path, []byte(id+"\n"))
	})
	return id, err
}

// locked runs f alone among all processes, with the journal read up to its end.
func (s *Store) locked(f func() error) error {
	s.mux.Lock()
	defer s.mux.Unlock()
	if err := s.lock.Lock(); err != nil {
		return fmt.Errorf("cannot lock the journal: %w", err)
	}
	defer s.lock.Unlock()
	if err := s.catchUp(); err != nil {
		return err
	}
	return f()
}

// catchUp reads what others appended; where another process has compacted the journal, the new file.
func (s *Store) catchUp() error {
	path := filepath.Join(s.dir, "journal")
	at, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("cannot read the journal: %w", err)
	}
	if s.info == nil || !os.SameFile(s.info, at) {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND, 0o600)
		if err != nil {
			return fmt.Errorf("cannot open the journal: %w", err)
		}
		if err := s.file.Close(); err != nil {
			return fmt.Errorf("cannot close the old journal: %w", err)
		}
		s.file, s.info, s.offset, s.entries, s.engines = file, at, 0, map[string]Entry{}, map[string]bool{}
	}
	if at.Size() == s.offset {
		return nil
	}
	r := bufio.NewReader(io.NewSectionReader(s.file, s.offset, at.Size()-s.offset))
	for {
		line, err := r.ReadBytes('\n')
		if err == io.EOF {
			// A line without an end was being written when its process died: it counts for nothing, and must not swallow the next.
			if len(line) > 0 {
				if err := s.file.Truncate(s.offset); err != nil {
					return fmt.Errorf("cannot mend the journal: %w", err)
				}
			}
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot read the journal: %w", err)
		}
		s.offset += int64(len(line))
		var e Entry
		if err := json.Unmarshal(line, &e); err != nil {
			// A machine that lost its power can leave zeros in the middle; the instances themselves still carry their labels.
			continue
		}
		s.apply(e)
	}
}

func (s *Store) apply(e Entry) {
	switch e.State {
	case EntryEnded:
		delete(s.entries, e.Instance)
		return
	case entryEngine:
		s.engines[e.Engine] = true
		return
	case EntryIntent, EntryStarted:
	}
	if old, ok := s.entries[e.Instance]; ok && e.Worker == "" {
		old.State = e.State
		e = old
	}
	s.entries[e.Instance] = e
}

// append writes one entry and syncs it.
func (s *Store) append(e Entry) error {
	if err := s.write(e); err != nil {
		return err
	}
	if err := datasync(s.file); err != nil {
		return fmt.Errorf("cannot sync the journal: %w", err)
	}
	return nil
}

func (s *Store) write(e Entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("cannot write the journal: %w", err)
	}
	n, err := s.file.Write(append(line, '\n'))
	if err != nil {
		return fmt.Errorf("cannot write the journal: %w", err)
	}
	s.offset += int64(n)
	s.apply(e)
	return nil
}

// compactAt is the size from which a journal is rewritten with what still counts.
const compactAt = 256 << 10

func (s *Store) compact() error {
	if s.offset < compactAt {
		return nil
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	for _, id := range slices.Sorted(maps.Keys(s.engines)) {
		if err := enc.Encode(Entry{State: entryEngine, Engine: id}); err != nil {
			return fmt.Errorf("cannot compact the journal: %w", err)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.entries)) {
		if err := enc.Encode(s.entries[id]); err != nil {
			return fmt.Errorf("cannot compact the journal: %w", err)
		}
	}
	if err := writeSynced(filepath.Join(s.dir, "journal"), b.Bytes()); err != nil {
		return fmt.Errorf("cannot compact the journal: %w", err)
	}
	return s.catchUp()
}

// writeSynced replaces a file: a crash leaves the old one or the new one, whole.
func writeSynced(path string, content []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(content)
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// Intent is a start under way: held until Release.
type Intent struct {
	store *Store
	entry Entry
	lock  *flock.Flock
	// Again: the journal holds this very instance id as started already. Its entry stays as it is until Renew.
	Again bool
	// Old is the entry of this very instance id, from an earlier start.
	Old *Entry
}

// Begin writes the intent to start an instance, and gives the entries of the same identity that have not ended. A start of
// the same identity that is under way in a live process is a *LiveError, and nothing is written then.
func (s *Store) Begin(e Entry) (*Intent, []Earlier, error) {
	e.State = EntryIntent
	in := &Intent{store: s, entry: e, lock: flock.New(s.startLock(e.Instance), flock.SetPermissions(0o600))}
	var earlier []Earlier
	err := s.locked(func() error {
		got, err := in.lock.TryLock()
		if err != nil {
			return fmt.Errorf("cannot lock instance %s: %w", e.Instance, err)
		}
		if !got {
			return &LiveError{Worker: e.Worker, Instance: e.Instance, Starting: true}
		}
		if err := os.Remove(s.stopRequest(e.Instance)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot begin the start of %s: %w", e.Instance, err)
		}
		if earlier, err = s.admit(in); err == nil && !in.Again {
			if !s.engines[e.Engine] {
				err = s.write(Entry{State: entryEngine, Engine: e.Engine})
			}
			err = errors.Join(err, s.append(in.entry))
		}
		if _, known := s.entries[e.Instance]; err != nil && !known {
			// What has no entry is never ended: its lock's file goes now.
			err = errors.Join(err, s.forget(e.Instance))
		}
		return err
	})
	if err != nil {
		in.Release()
		return nil, nil, err
	}
	return in, earlier, nil
}

// admit looks at the entries of in's identity, under the lock: those that have not ended, or why in cannot be.
func (s *Store) admit(in *Intent) (earlier []Earlier, err error) {
	e := in.entry
	for _, id := range slices.Sorted(maps.Keys(s.entries)) {
		old := s.entries[id]
		if id == e.Instance {
			if old.Engine != e.Engine || old.Worker != e.Worker || old.WorkerName != e.WorkerName {
				return nil, fmt.Errorf("cannot start worker %q as %s: that instance is worker %q", e.Worker, id, old.Worker)
			}
			if old.Target != e.Target {
				return nil, fmt.Errorf("cannot start worker %q as %s: that instance is on %q, and this build's is on %q", e.Worker, id, old.Target, e.Target)
			}
			in.Again, in.Old = old.State == EntryStarted, &old
			in.entry.Backend = old.Backend
			continue
		}
		if old.Engine != e.Engine || old.Tenant != e.Tenant || old.WorkerName != e.WorkerName {
			continue
		}
		if old.State == EntryIntent && s.live(id) {
			return nil, &LiveError{Worker: e.Worker, Instance: id, Starting: true}
		}
		earlier = append(earlier, old)
	}
	return earlier, nil
}

// Renew writes the intent again: the instance of an earlier start with the same id is gone.
func (in *Intent) Renew() error {
	return in.store.locked(func() error { return in.store.append(in.entry) })
}

// HeldBy notes which backend holds what the start makes. It is not synced: Started says it again, and what a dead start left is
// found without it.
func (in *Intent) HeldBy(backend string) error {
	return in.store.locked(func() error {
		now := in.store.entries[in.entry.Instance]
		if in.entry.Backend = backend; now.State != EntryIntent || now.Backend == backend {
			return nil
		}
		return in.store.write(in.entry)
	})
}

// Started notes that the start came about. The entry is whole: whatever became of the intent, the instance runs. The error
// is errStopped where somebody has asked for its end meanwhile: it is an intent still.
func (in *Intent) Started() error {
	return in.store.locked(func() error {
		if in.stopped() {
			return errStopped
		}
		e := in.entry
		e.State = EntryStarted
		if err := in.store.append(e); err != nil {
			return err
		}
		return in.store.forget(in.entry.Instance)
	})
}

// End notes that nothing of the instance is left.
func (in *Intent) End() error { return in.store.End(in.entry.Instance) }

// Release ends the claim that a live process stands behind the start. The entry stays as it is.
func (in *Intent) Release() { in.lock.Close() } //nolint:errcheck // the kernel lets go of the lock in any case

// forget removes a start's lock file. Only under the journal's lock, under which it is made: else a second process could
// lock a file that nobody sees any more.
func (s *Store) forget(instance string) error {
	for _, path := range []string{s.stopRequest(instance), s.startLock(instance)} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cannot remove the start's lock: %w", err)
		}
	}
	return nil
}

func (s *Store) stopRequest(instance string) string { return s.startLock(instance) + ".stop" }

var errStopped = errors.New("it was stopped while it was being started")

// AskStop asks the process that starts an instance to give it up. It does nothing where there is none.
func (s *Store) AskStop(instance string) error {
	return s.locked(func() error {
		if s.entries[instance].State != EntryIntent || !s.live(instance) {
			return nil
		}
		if err := os.WriteFile(s.stopRequest(instance), nil, 0o600); err != nil {
			return fmt.Errorf("cannot ask for the end of a start: %w", err)
		}
		return nil
	})
}

func (in *Intent) stopped() bool {
	_, err := os.Stat(in.store.stopRequest(in.entry.Instance))
	return err == nil
}

// Watched is ctx until somebody asks for the end of the start: its cause is errStopped then. A file tells nobody that it is
// there, so it is looked for, while the start lasts.
func (in *Intent) Watched(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		look := time.NewTicker(stopPoll)
		defer look.Stop()
		for {
			select {
			case <-look.C:
				if in.stopped() {
					cancel(errStopped)
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return ctx, func() { cancel(nil) }
}

// stopPoll is how soon a start notices that it is to end.
const stopPoll = 200 * time.Millisecond

// End notes that nothing of an instance is left.
func (s *Store) End(instance string) error {
	return s.locked(func() error { return s.end(instance) })
}

func (s *Store) end(instance string) error {
	if _, ok := s.entries[instance]; !ok {
		return nil
	}
	if err := s.append(Entry{State: EntryEnded, Instance: instance}); err != nil {
		return err
	}
	return s.forget(instance)
}

// EndAsItWas is End for an entry that was read before, and reports false where it has changed since: a start of the same
// instance id began, or came about.
func (s *Store) EndAsItWas(e Entry) (bool, error) {
	ended := false
	err := s.locked(func() error {
		now, ok := s.entries[e.Instance]
		if ended = ok && now.State == e.State && now.Backend == e.Backend && now.Created.Equal(e.Created) && !(now.State == EntryIntent && s.live(e.Instance)); ended {
			return s.end(e.Instance)
		}
		return nil
	})
	return ended, err
}

// Moved notes that an entry's instance was found on another backend than the entry says: one whose id has changed, or that did
// not tell it before.
func (s *Store) Moved(e Entry, backend string) error {
	return s.locked(func() error {
		now, ok := s.entries[e.Instance]
		if !ok || now.State != EntryStarted || now.Backend != e.Backend {
			return nil
		}
		now.Backend = backend
		return s.append(now)
	})
}

func (s *Store) startLock(instance string) string { return filepath.Join(s.dir, "starts", instance) }

// live reports whether a process holds the start of an instance.
func (s *Store) live(instance string) bool {
	path := s.startLock(instance)
	if _, err := os.Stat(path); err != nil {
		return false
	}
	l := flock.New(path)
	defer l.Close()
	got, err := l.TryLock()
	return err == nil && !got
}

// Entries are all that have not ended, of one engine id, oldest first.
func (s *Store) Entries(engine string) ([]Entry, error) {
	var out []Entry
	err := s.locked(func() error {
		for _, id := range slices.Sorted(maps.Keys(s.entries)) {
			if e := s.entries[id]; e.Engine == engine {
				e.Live = e.State == EntryIntent && s.live(id)
				out = append(out, e)
			}
		}
		return nil
	})
	return out, err
}

// Knows reports whether the folder has ever started something as an engine.
func (s *Store) Knows(engine string) (bool, error) {
	known := false
	err := s.locked(func() error {
		known = s.engines[engine]
		return nil
	})
	return known, err
}

// Find is the one entry that id names.
func (s *Store) Find(engine, id string) (Entry, error) {
	entries, err := s.Entries(engine)
	if err != nil {
		return Entry{}, err
	}
	var found []Entry
	for _, e := range entries {
		if strings.EqualFold(e.Instance, id) || e.Object == id {
			return e, nil
		}
		if matches(id, e.Instance, e.Object) {
			found = append(found, e)
		}
	}
	if len(found) == 1 {
		return found[0], nil
	}
	nf := &NotFoundError{ID: id}
	for _, e := range found {
		nf.Several = append(nf.Several, e.Object)
	}
	return Entry{}, nf
}

// minHandle is how many characters of an instance id name it at the least.
const minHandle = 4

// matches reports whether id names an instance: its id, its object's name, the beginning or the end of the id, or
// the worker's name and the end of the id, as `ps` prints it.
func matches(id, instance, object string) bool {
	if strings.EqualFold(id, instance) || id == object {
		return true
	}
	low, in := strings.ToLower(id), strings.ToLower(instance)
	if len(low) >= minHandle && (strings.HasPrefix(in, low) || strings.HasSuffix(in, low)) {
		return true
	}
	name, tail := cutLast(low, "-")
	prefix, _ := cutLast(strings.ToLower(object), "-")
	return name != "" && name == prefix && len(tail) >= minHandle && (strings.HasSuffix(in, tail) || strings.HasPrefix(in, tail))
}

func cutLast(s, sep string) (before, after string) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return "", s
	}
	return s[:i], s[i+1:]
}
