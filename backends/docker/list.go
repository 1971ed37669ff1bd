package docker

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	"github.com/latent-engine/latent-engine/backends"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// The kinds of objects that List gives.
const (
	objectContainer = "container"
	objectImage     = "image"
)

// labelBuild is on what an image build makes on its way, with the instance's id, so that what a build left is found: images and
// the containers of its steps. The image that comes out has it empty, so that nobody's container of that is taken for one.
//
// Its name sorts behind those of all other labels of ours: the builder applies the labels of a call one by one in that order,
// each with an image of its own, and this one has to be the last.
const labelBuild = spec.LabelPrefix + "working-for"

// List gives containers, then images. An exited container costs one more call: why it ended.
func (b *backend) List(ctx context.Context) ([]backends.Object, error) {
	containers, err := b.containers(ctx)
	if err != nil {
		return nil, b.failure(ctx, err)
	}
	var out []backends.Object
	var running []*backends.Status
	for _, c := range containers {
		o := backends.Object{Kind: objectContainer, ID: c.ID, Name: nameOf(c), Instance: c.Labels[spec.LabelInstance]}
		switch {
		case isInstance(nameOf(c), c.Labels):
			s, err := b.summaryStatus(ctx, c)
			if err != nil {
				return nil, err
			}
			if o.Status = &s; s.State == backends.StateRunning {
				running = append(running, &s)
			}
		case c.Labels[labelBuild] != "":
			o.Instance = c.Labels[labelBuild]
		default:
			// Somebody's own container of an image that this engine built: it has the image's labels, and is not ours.
			continue
		}
		out = append(out, o)
	}
	b.warn(ctx, running)
	images, err := b.images(ctx)
	if err != nil {
		return nil, b.failure(ctx, err)
	}
	for _, i := range images {
		out = append(out, imageObject(i))
	}
	return out, nil
}

// warn puts in what went wrong beside the workers that run: one call for all of them.
func (b *backend) warn(ctx context.Context, running []*backends.Status) {
	if len(running) == 0 {
		return
	}
	first := slices.MinFunc(running, func(a, b *backends.Status) int { return a.Created.Compare(b.Created) }).Created
	killed := b.memoryKills(ctx, first, b.engineNow(), "label", spec.LabelEngine+"="+b.engine)
	for _, s := range running {
		if !killed[s.NativeID].IsZero() {
			s.Warnings = []string{warnMemory}
		}
	}
}

// imageObject: an image goes with the instance that it was built for, or that built it and did not come to its end; one that
// names no instance is meant to stay.
func imageObject(i image.Summary) backends.Object {
	o := backends.Object{Kind: objectImage, ID: i.ID, Name: firstTag(i), Instance: i.Labels[spec.LabelInstance]}
	if mark := i.Labels[labelBuild]; mark != "" && o.Name == "" {
		o.Instance = mark
	}
	// A build that was cut off between its last step and its name leaves an image to be kept that nobody can name.
	o.Kept = o.Instance == "" && o.Name != ""
	return o
}

func nameOf(c container.Summary) string {
	for _, n := range c.Names {
		// Links give a container further names, with the other's in front.
		if n = strings.TrimPrefix(n, "/"); n != "" && !strings.Contains(n, "/") {
			return n
		}
	}
	return ""
}

func firstTag(i image.Summary) string {
	for _, t := range slices.Sorted(slices.Values(i.RepoTags)) {
		if t != "" && t != "<none>:<none>" {
			return t
		}
	}
	return ""
}

// summaryStatus is a status from a list's line; why an ended one ended is asked for.
func (b *backend) summaryStatus(ctx context.Context, c container.Summary) (backends.Status, error) {
	state := stateOf(c.State)
	if state == backends.StateExited {
		return b.inspect(ctx, c.ID, c.Labels[spec.LabelInstance])
	}
	s := backends.Status{Backend: Kind{}.Name(), Target: b.target, Object: nameOf(c), NativeID: c.ID, Image: c.Image, State: state}
	if c.Created > 0 {
		s.Created = time.Unix(c.Created, 0).UTC()
	}
	labelled(&s, maps.Clone(c.Labels))
	if c.NetworkSettings != nil {
		s.Address = addressOf("", c.NetworkSettings.Networks)
	}
	return s, nil
}

// images lists this engine's images: named ones, and of the nameless those that no other image stands on.
func (b *backend) images(ctx context.Context) ([]image.Summary, error) {
	var out []image.Summary
	q := url.Values{"filters": {filterJSON(map[string][]string{"label": {spec.LabelEngine + "=" + b.engine}})}}
	err := b.get(ctx, call{what: "list images", path: "/images/json", query: q}, &out)
	return out, err
}

// Remove takes an object away, forcibly.
func (b *backend) Remove(ctx context.Context, o backends.Object) error {
	var err error
	switch o.Kind {
	case objectContainer:
		err = b.removeContainer(ctx, o.ID)
	case objectImage:
		ref := o.ID
		if o.Name != "" {
			ref = o.Name
		}
		err = b.removeImage(ctx, ref)
	default:
		return configFailure("", "cannot remove %s %s: docker has no such kind of object", o.Kind, o.ID)
	}
	if err != nil {
		return b.failure(ctx, err)
	}
	return nil
}

// removeContainer kills and removes a container with its own volumes, and returns when it is gone. What goes wrong for a
// moment (a busy file system, somebody else's removal) is tried again.
func (b *backend) removeContainer(ctx context.Context, id string) error {
	what := "remove container " + id
	path := "/containers/" + url.PathEscape(id)
	return b.again(ctx, func() error {
		err := b.do(ctx, call{what: what, method: http.MethodDelete, path: path, query: url.Values{"force": {"1"}, "v": {"1"}}})
		if statusOf(err) == http.StatusConflict {
			// Somebody else is at it: wait for that.
			if b.do(ctx, call{what: what, method: http.MethodPost, path: path + "/wait", query: url.Values{"condition": {"removed"}}, wait: 30 * time.Second}) == nil {
				return nil
			}
		}
		return err
	})
}

// removeImage removes a name, and with the last one the image and the nameless images that only it stood on.
func (b *backend) removeImage(ctx context.Context, ref string) error {
	return b.again(ctx, func() error {
		return b.do(ctx, call{what: "remove image " + ref, method: http.MethodDelete, path: "/images/" + ref, query: url.Values{"force": {"1"}}})
	})
}

// again tries a removal a few times; absent is success.
func (b *backend) again(ctx context.Context, try func() error) error {
	wait := 100 * time.Millisecond
	for n := 1; ; n++ {
		err := try()
		switch {
		case err == nil, isNotFound(err):
			return nil
		case n == 5, ctx.Err() != nil, statusOf(err) == http.StatusBadRequest:
			return err
		}
		if !pause(ctx, wait) {
			return err
		}
		wait *= 2
	}
}

// pause waits; false where ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// removeImagesOf removes what an instance's own build made: its temporary image, and what a build left on its way.
func (b *backend) removeImagesOf(ctx context.Context, instance string) error {
	// A nameless image is shown only while no other stands on it: removing one can show the next.
	for range 50 {
		images, err := b.images(ctx)
		if err != nil {
			return err
		}
		removed, failed := 0, error(nil)
		for _, i := range images {
			o := imageObject(i)
			if o.Instance != instance || o.Kept {
				continue
			}
			ref := o.ID
			if o.Name != "" {
				ref = o.Name
			}
			if err := b.removeImage(ctx, ref); err != nil {
				failed = err
				continue
			}
			removed++
		}
		if removed == 0 {
			return failed
		}
	}
	return fmt.Errorf("cannot remove the images of %s: there are always more", instance)
}
