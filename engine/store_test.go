package engine

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func entry(id, name string) Entry {
	return Entry{Instance: id, Engine: "ci", Worker: name, WorkerName: name, Kind: "docker", Target: "local", Object: name + "-" + strings.ToLower(id), Created: time.Unix(1, 0).UTC()}
}

func openStore(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := OpenStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

const (
	idA = "01JD0000000000000000000000"
	idB = "01JD0000000000000000000001"
)

func TestStoreLife(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	in, earlier, err := s.Begin(entry(idA, "linux"))
	if err != nil || len(earlier) != 0 || in.Again {
		t.Fatalf("Begin: %v, %v", earlier, err)
	}
	// A second process sees the start under way, and refuses a second one of the same worker.
	other := openStore(t, dir)
	entries, err := other.Entries("ci")
	if err != nil || len(entries) != 1 || !entries[0].Live || entries[0].State != EntryIntent {
		t.Fatalf("entries %+v, %v", entries, err)
	}
	var live *LiveError
	if _, _, err := other.Begin(entry(idB, "linux")); !errors.As(err, &live) || live.Instance != idA {
		t.Fatalf("second start: %v", err)
	}
	if _, _, err := other.Begin(entry(idA, "linux")); !errors.As(err, &live) {
		t.Fatalf("the same start twice at once: %v", err)
	}
	// Who is refused leaves nothing.
	if locks, _ := os.ReadDir(filepath.Join(dir, "starts")); len(locks) != 1 {
		t.Errorf("locks of starts: %v", locks)
	}
	if err := in.Started(); err != nil {
		t.Fatal(err)
	}
	in.Release()
	again, _, err := other.Begin(entry(idA, "linux"))
	if err != nil || !again.Again {
		t.Fatalf("the same start again: %+v, %v", again, err)
	}
	again.Release()
	if e, err := other.Find("ci", idA); err != nil || e.State != EntryStarted {
		t.Fatalf("after the same start again: %+v, %v", e, err)
	}
	second, earlier, err := other.Begin(entry(idB, "linux"))
	if err != nil || len(earlier) != 1 || earlier[0].Instance != idA {
		t.Fatalf("start beside a started one: %+v, %v", earlier, err)
	}
	if err := second.End(); err != nil {
		t.Fatal(err)
	}
	second.Release()
	if err := s.End(idA); err != nil {
		t.Fatal(err)
	}
	if entries, _ := openStore(t, dir).Entries("ci"); len(entries) != 0 {
		t.Errorf("left: %+v", entries)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "starts")); len(left) != 0 {
		t.Errorf("lock files left: %v", left)
	}
}

func TestStoreOtherWorkerOfOneID(t *testing.T) {
	s := openStore(t, t.TempDir())
	in, _, err := s.Begin(entry(idA, "linux"))
	if err != nil {
		t.Fatal(err)
	}
	in.Release()
	if _, _, err := s.Begin(entry(idA, "mac")); err == nil {
		t.Error("one instance id served two workers")
	}
}

func TestStoreFind(t *testing.T) {
	s := openStore(t, t.TempDir())
	for _, e := range []Entry{entry(idA, "linux-x64"), entry(idB, "mac")} {
		in, _, err := s.Begin(e)
		if err != nil {
			t.Fatal(err)
		}
		in.Release()
	}
	for id, want := range map[string]string{
		idA: idA, strings.ToLower(idB): idB, "mac-" + strings.ToLower(idB): idB, "000001": idB, "linux-x64-000000": idA, "mac-000001": idB,
	} {
		if e, err := s.Find("ci", id); err != nil || e.Instance != want {
			t.Errorf("Find(%q) = %s, %v", id, e.Instance, err)
		}
	}
	for _, id := range []string{"", "1", "mac", "01JD", "nothing", "mac-000000"} {
		if e, err := s.Find("ci", id); err == nil {
			t.Errorf("Find(%q) = %s", id, e.Instance)
		}
	}
	if _, err := s.Find("other", idA); err == nil {
		t.Error("another engine's instance was found")
	}
}

// A process that dies in the middle of a line must not swallow the next process's entry, and what is not JSON is passed over.
func TestStoreTornJournal(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	in, _, err := s.Begin(entry(idA, "linux"))
	if err != nil {
		t.Fatal(err)
	}
	in.Release()
	f, err := os.OpenFile(filepath.Join(dir, "journal"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("\x00\x00\x00\n{\"state\":\"intent\",\"inst"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	other := openStore(t, dir)
	in, _, err = other.Begin(entry(idB, "mac"))
	if err != nil {
		t.Fatal(err)
	}
	in.Release()
	entries, err := openStore(t, dir).Entries("ci")
	if err != nil || len(entries) != 2 {
		t.Errorf("entries %+v, %v", entries, err)
	}
	for _, e := range entries {
		if e.Live {
			t.Errorf("%s counts as alive after its process let go", e.Instance)
		}
	}
}

func TestStoreCompacts(t *testing.T) {
	dir := t.TempDir()
	s := openStore(t, dir)
	kept, _, err := s.Begin(entry(idB, "kept"))
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Release()
	if err := s.locked(func() error {
		for range 3000 {
			if err := s.write(entry(idA, "linux")); err != nil {
				return err
			}
			if err := s.write(Entry{State: EntryEnded, Instance: idA}); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	before, _ := os.Stat(filepath.Join(dir, "journal"))
	other := openStore(t, dir)
	after, _ := os.Stat(filepath.Join(dir, "journal"))
	if after.Size() >= before.Size()/100 {
		t.Errorf("journal of %d bytes became %d", before.Size(), after.Size())
	}
	// The first process goes on with the new file.
	if err := s.End(idB); err != nil {
		t.Fatal(err)
	}
	if entries, err := other.Entries("ci"); err != nil || len(entries) != 0 {
		t.Errorf("entries %+v, %v", entries, err)
	}
}

func TestStoreKilledProcess(t *testing.T) {
	if dir := os.Getenv("STORE_TEST_HOLD"); dir != "" {
		s, err := OpenStore(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := s.Begin(entry(idA, "linux")); err != nil {
			t.Fatal(err)
		}
		os.Stdout.WriteString("held\n")
		select {}
	}
	dir := t.TempDir()
	cmd := exec.Command(os.Args[0], "-test.run=^TestStoreKilledProcess$", "-test.v")
	cmd.Env = append(os.Environ(), "STORE_TEST_HOLD="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	for buf := make([]byte, 256); !strings.Contains(said.String(), "held"); {
		n, err := out.Read(buf)
		if err != nil {
			t.Fatalf("the process that holds the start ended: %s", said.String())
		}
		said.Write(buf[:n])
	}
	s := openStore(t, dir)
	if entries, _ := s.Entries("ci"); len(entries) != 1 || !entries[0].Live {
		t.Errorf("while the process lives: %+v", entries)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if entries, _ := s.Entries("ci"); len(entries) != 1 || entries[0].Live {
		t.Errorf("after kill -9: %+v", entries)
	}
	in, earlier, err := s.Begin(entry(idB, "linux"))
	if err != nil || len(earlier) != 1 {
		t.Fatalf("start after kill -9: %+v, %v", earlier, err)
	}
	in.Release()
}

func TestLabelValue(t *testing.T) {
	for _, s := range []string{"linux", "a_b.c-9", strings.Repeat("a", 63)} {
		if got := LabelValue(s); got != s {
			t.Errorf("LabelValue(%q) = %q", s, got)
		}
	}
	seen := map[string]string{}
	for _, s := range []string{"", "ä", "ö", "-a", "a-", "a b", "a/b", strings.Repeat("a", 64), strings.Repeat("a", 65), "_"} {
		got := LabelValue(s)
		if other, twice := seen[got]; twice {
			t.Errorf("%q and %q have one label value %q", s, other, got)
		}
		seen[got] = s
		if len(got) == 0 || len(got) > 63 || !alnum(got[0]) || !alnum(got[len(got)-1]) || strings.IndexFunc(got, func(r rune) bool { return !labelRune(r) }) >= 0 {
			t.Errorf("LabelValue(%q) = %q is not valid", s, got)
		}
	}
}

// BenchmarkStore is what the journal costs a start: the intent, synced; started, synced; ended.
func BenchmarkStore(b *testing.B) {
	s, err := OpenStore(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	for b.Loop() {
		in, _, err := s.Begin(entry(idA, "linux"))
		if err != nil {
			b.Fatal(err)
		}
		if err := in.Started(); err != nil {
			b.Fatal(err)
		}
		in.Release()
		if err := s.End(idA); err != nil {
			b.Fatal(err)
		}
	}
}
