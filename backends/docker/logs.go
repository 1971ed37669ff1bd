package docker

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/latent-engine/latent-engine/backends"
)

// Logs streams what the instance wrote.
func (b *backend) Logs(ctx context.Context, instance string, o backends.LogOptions) (io.ReadCloser, error) {
	c, err := b.find(ctx, instance)
	if err != nil {
		return nil, b.failure(ctx, err)
	}
	lost := &backends.Failure{Class: backends.ClassLost, Message: fmt.Sprintf("cannot read the log of %s: there is no such instance", instance)}
	if c == nil {
		return nil, lost
	}
	r, err := b.inspectContainer(ctx, c.ID)
	if isNotFound(err) {
		return nil, lost
	}
	if err != nil {
		return nil, b.failure(ctx, err)
	}
	body, err := b.openLog(ctx, c.ID, r.Config != nil && r.Config.Tty, o)
	if isNotFound(err) {
		return nil, lost
	}
	if err != nil {
		return nil, b.failure(ctx, err)
	}
	return body, nil
}

func (b *backend) openLog(ctx context.Context, id string, tty bool, o backends.LogOptions) (io.ReadCloser, error) {
	q := url.Values{"stdout": {"1"}, "stderr": {"1"}}
	if o.Follow {
		q.Set("follow", "1")
	}
	if o.Timestamps {
		q.Set("timestamps", "1")
	}
	if o.Tail > 0 {
		q.Set("tail", strconv.Itoa(o.Tail))
	}
	resp, err := b.send(ctx, call{what: "read the log of container " + id, method: "GET", path: "/containers/" + url.PathEscape(id) + "/logs", query: q, stream: true, wait: callWait})
	if err != nil {
		return nil, err
	}
	if tty {
		return resp.Body, nil
	}
	return &demux{body: resp.Body, r: bufio.NewReaderSize(resp.Body, 32<<10)}, nil
}

// demux reads the engine's frames (a header of 8 bytes: stream, 0, 0, 0, length) as one text. It holds no frame in memory:
// a length is the sender's word.
type demux struct {
	body io.ReadCloser
	r    *bufio.Reader
	left uint32 // of the present frame
}

var errFrames = errors.New("cannot read the log: it is not in docker's frames")

func (d *demux) Read(p []byte) (int, error) {
	for d.left == 0 {
		var h [8]byte
		if _, err := io.ReadFull(d.r, h[:]); err != nil {
			if errors.Is(err, io.ErrUnexpectedEOF) {
				return 0, io.EOF
			}
			return 0, err
		}
		if h[0] > 3 || h[1] != 0 || h[2] != 0 || h[3] != 0 {
			return 0, errFrames
		}
		d.left = binary.BigEndian.Uint32(h[4:])
	}
	if uint32(min(len(p), 1<<30)) > d.left {
		p = p[:d.left]
	}
	n, err := d.r.Read(p)
	d.left -= uint32(n)
	return n, err
}

func (d *demux) Close() error { return d.body.Close() }

// lastLines are the last lines of a container's log, for a failure: bounded in number, length and time.
func (b *backend) lastLines(ctx context.Context, id string, tty bool) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	body, err := b.openLog(ctx, id, tty, backends.LogOptions{Tail: failureLines})
	if err != nil {
		return nil, err
	}
	defer body.Close()
	text, err := io.ReadAll(io.LimitReader(body, 256<<10))
	return splitLines(string(text)), err
}

// splitLines gives the last lines of a text, each clipped, without terminal control.
func splitLines(text string) []string {
	text = strings.TrimRight(text, "\r\n")
	if text == "" {
		return nil
	}
	lines := strings.Split(text, "\n")
	if len(lines) > failureLines {
		lines = lines[len(lines)-failureLines:]
	}
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = clip(plainLine(l), 1000)
	}
	return out
}

// plainLine takes out what a terminal would act on.
func plainLine(s string) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	return strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		if r < 0x20 || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return -1
		}
		return r
	}, s)
}
