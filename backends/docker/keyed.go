package docker

import (
	"context"
	"sync"
)

// keyed is a lock per key: two starts of one instance id go one after the other, all others side by side.
type keyed struct {
	mu   sync.Mutex
	held map[string]*keyedLock // guarded by mu
}

type keyedLock struct {
	turn chan struct{} // holds one token while the lock is free
	refs int
}

// lock waits for the key; ok is false where ctx ended first.
func (k *keyed) lock(ctx context.Context, key string) (unlock func(), ok bool) {
	k.mu.Lock()
	if k.held == nil {
		k.held = map[string]*keyedLock{}
	}
	l := k.held[key]
	if l == nil {
		l = &keyedLock{turn: make(chan struct{}, 1)}
		l.turn <- struct{}{}
		k.held[key] = l
	}
	l.refs++
	k.mu.Unlock()
	release := func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		if l.refs--; l.refs == 0 {
			delete(k.held, key)
		}
	}
	select {
	case <-l.turn:
		return func() { l.turn <- struct{}{}; release() }, true
	case <-ctx.Done():
		release()
		return nil, false
	}
}
