package testenv

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// slots is how many engines can run on one machine at once. Each has a /21 of 198.18.0.0/15, whose
// last /21 is for run-debian-engine.sh.
const slots = 63

// slot is what one engine has to itself among all engines of all test binaries.
type slot struct {
	lock      *os.File // held until the slot is given back
	dir       string
	bridge    string
	address   netip.Prefix // the bridge's address in its network, one half of the slot's range
	pool      netip.Prefix // the other half, from which the engine's other networks come
	addresses netip.Prefix // both
}

// takeSlot finds a free slot and adds its bridge. It removes what dead test binaries left in any.
func takeSlot() (*slot, error) {
	locks := "/run/latent-engine-testenv"
	if err := ownFolder(locks); err != nil {
		return nil, fmt.Errorf("cannot take a slot: %w", err)
	}
	base := os.Getenv("LATENT_TEST_DIR")
	if base == "" {
		base = "/var/tmp" // not os.TempDir: where /tmp is in memory, images would be too
	}
	folders := filepath.Join(base, "latent-engine-testenv")
	if err := ownFolder(folders); err != nil {
		return nil, fmt.Errorf("cannot take a slot: %w", err)
	}
	var found *slot
	var failed []error
	for n := range slots {
		lock, dir := filepath.Join(locks, strconv.Itoa(n)), filepath.Join(folders, strconv.Itoa(n))
		if found != nil {
			// The rest is looked at as well: what the dead left must not wait until so many run.
			if info, err := os.Stat(lock); err != nil || info.Size() == 0 {
				continue
			}
		}
		s, err := trySlot(n, lock, dir, found == nil)
		if err != nil {
			// Somebody's broken leftovers make that slot unusable, not this engine.
			failed = append(failed, fmt.Errorf("cannot take slot %d: %w", n, err))
		}
		if s != nil {
			found = s
		}
	}
	if found == nil {
		return nil, errors.Join(append(failed, errors.New("cannot take a slot: all are taken, or their addresses are in use on this machine"))...)
	}
	return found, nil
}

// trySlot removes what a dead owner left in a slot, and takes it if that is wanted. It returns nil
// if somebody has the slot or its addresses are in use.
func trySlot(n int, lockPath, dir string, want bool) (*slot, error) {
	lock, free, err := lockFile(lockPath)
	if err != nil || !free {
		return nil, err
	}
	third := n * 8
	network := func(offset, bits int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{198, byte(18 + third>>8), byte(third + offset), 0}), bits)
	}
	s := &slot{
		lock:      lock,
		dir:       dir,
		bridge:    "latent-test-" + strconv.Itoa(n),
		address:   netip.PrefixFrom(network(0, 22).Addr().Next(), 22),
		pool:      network(4, 22),
		addresses: network(0, 21),
	}
	ready := false
	defer func() {
		if !ready {
			lock.Close()
		}
	}()

	// The lock file says where the last owner had its folder, for a dead one cannot be asked.
	last, err := os.ReadFile(lockPath)
	if err != nil {
		return nil, err
	}
	if left := strings.TrimSpace(string(last)); left != "" {
		if err := sweep(left, s.addresses); err != nil {
			return nil, err
		}
		if err := os.Truncate(lockPath, 0); err != nil {
			return nil, err
		}
	}
	if !want {
		return nil, nil
	}
	if inUse, err := taken(s.addresses, s.bridge); err != nil || inUse {
		return nil, err
	}
	if err := os.WriteFile(lockPath, []byte(dir+"\n"), 0o600); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := addBridge(s.bridge, s.address); err != nil {
		return nil, err
	}
	ready = true
	return s, nil
}

// giveBack removes everything of the slot from the machine.
func (s *slot) giveBack() error {
	err := sweep(s.dir, s.addresses)
	if err == nil {
		err = os.Truncate(s.lock.Name(), 0)
	}
	s.lock.Close()
	return err
}
