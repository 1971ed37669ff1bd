package docker

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// Stop ends and removes everything that carries the instance's id: the container, those of a build under way, the temporary
// image. The engine asks the worker to end (SIGTERM, or the image's own signal) and kills it after the grace.
func (b *backend) Stop(ctx context.Context, instance string, o backends.StopOptions) error {
	b.watched.stopping(instance)
	// A start of this instance under way on this connection ends first: what it makes is to be found.
	unlock, ok := b.starts.lock(ctx, instance)
	if !ok {
		return ended(ctx, &callError{what: "stop " + instance})
	}
	defer unlock()
	return b.stop(ctx, instance, o)
}

func (b *backend) stop(ctx context.Context, instance string, o backends.StopOptions) error {
	containers, err := b.containers(ctx)
	if err != nil {
		return b.failure(ctx, err)
	}
	var failed error
	for _, c := range containers {
		main := isInstance(nameOf(c), c.Labels) && c.Labels[spec.LabelInstance] == instance
		if !main && c.Labels[labelBuild] != instance {
			continue
		}
		if main && !o.Fast && stateOf(c.State) == backends.StateRunning {
			// An error here is not the end: the removal kills.
			_ = b.stopContainer(ctx, c.ID, o.Grace)
		}
		if err := b.removeContainer(ctx, c.ID); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	if failed == nil {
		failed = b.again(ctx, func() error { return b.removeImagesOf(ctx, instance) })
	}
	if failed == nil {
		return nil
	}
	var ce *callError
	if errors.As(failed, &ce) {
		return b.failure(ctx, ce)
	}
	return b.failure(ctx, failed)
}

func (b *backend) stopContainer(ctx context.Context, id string, grace time.Duration) error {
	c := call{what: "stop container " + id, method: http.MethodPost, path: "/containers/" + url.PathEscape(id) + "/stop", wait: 24 * time.Hour}
	if grace > 0 {
		// Seconds, rounded up: 0 would be a kill.
		s := int((grace + time.Second - 1) / time.Second)
		c.query = url.Values{"t": {strconv.Itoa(s)}}
		c.wait = grace + callWait
	}
	return b.do(ctx, c)
}
