package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"github.com/docker/docker/api/types"
)

const (
	// replyLimit bounds the reply of a call that is no stream: an engine's largest list is far below it.
	replyLimit = 32 << 20
	// messageLimit bounds one message of a stream.
	messageLimit = 1 << 20
	// errorLimit bounds what is read of an error's text.
	errorLimit = 64 << 10
	// callWait is how long a call that is no stream may take, unless it says otherwise.
	callWait = 2 * time.Minute
)

// errNoAnswer ends a call that takes longer than it may, while its caller still waits.
var errNoAnswer = errors.New("docker gives no answer")

// call is one request to the engine. All of them are made here, and not with the client's own methods, so that what is sent
// is byte for byte what was judged, every reply is bounded, and no error tells a query (build arguments are in one).
type call struct {
	what   string // "create container x": cannot <what>: …
	method string
	path   string // escaped
	query  url.Values
	header http.Header
	body   io.Reader
	bare   bool          // no version before the path
	stream bool          // the reply ends when the engine ends it
	limit  int64         // of the reply; 0 = replyLimit
	wait   time.Duration // 0 = callWait; of a stream: until its head is there, 0 = no limit but the context's
}

// callError is an engine that said no (status) or that was not reached (err).
type callError struct {
	what    string
	status  int
	message string // the engine's own
	err     error
}

func (e *callError) Error() string { return "cannot " + e.what + ": " + e.cause() }

func (e *callError) cause() string {
	if e.status != 0 {
		return e.message
	}
	return transportCause(e.err)
}

func (e *callError) Unwrap() error { return e.err }

// statusOf is the engine's HTTP status in err; 0 = it gave none.
func statusOf(err error) int {
	var e *callError
	if errors.As(err, &e) {
		return e.status
	}
	return 0
}

func isNotFound(err error) bool { return statusOf(err) == http.StatusNotFound }

// send makes one call. An answer of 400 and above is a *callError.
func (b *backend) send(ctx context.Context, c call) (*http.Response, error) {
	wait := c.wait
	if wait == 0 && !c.stream {
		wait = callWait
	}
	ctx, cancel := context.WithCancelCause(ctx)
	timer := (*time.Timer)(nil)
	if wait > 0 {
		timer = time.AfterFunc(wait, func() { cancel(errNoAnswer) })
	}
	stop := func() {
		if timer != nil {
			timer.Stop()
		}
		cancel(nil)
	}
	req, err := b.request(ctx, c)
	if err != nil {
		stop()
		return nil, &callError{what: c.what, err: err}
	}
	resp, err := b.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); errors.Is(cause, errNoAnswer) {
			err = cause
		}
		// What answers the next time may be an engine that was set up anew.
		b.id.Store(nil)
		stop()
		return nil, &callError{what: c.what, err: plainTransport(err)}
	}
	if at, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		b.clock.Store(int64(time.Until(at)))
	}
	if resp.StatusCode >= http.StatusBadRequest {
		defer stop()
		defer resp.Body.Close()
		return nil, &callError{what: c.what, status: resp.StatusCode, message: errorMessage(resp)}
	}
	if resp.StatusCode >= http.StatusMultipleChoices && resp.StatusCode != http.StatusNotModified {
		defer stop()
		defer resp.Body.Close()
		return nil, &callError{what: c.what, status: resp.StatusCode, message: "the answer is a redirect: what answers is no Docker Engine"}
	}
	body := &reply{ctx: ctx, ReadCloser: resp.Body, left: -1, done: stop}
	if c.stream {
		if timer != nil {
			timer.Stop()
		}
	} else if body.left = c.limit; body.left == 0 {
		body.left = replyLimit
	}
	resp.Body = body
	return resp, nil
}

// engineNow is the time by the engine's clock, of its last reply: never in its future.
func (b *backend) engineNow() time.Time { return time.Now().Add(time.Duration(b.clock.Load())) }

func (b *backend) request(ctx context.Context, c call) (*http.Request, error) {
	p := c.path
	if !c.bare {
		p = "/v" + b.version + p
	}
	p = b.url.Path + p
	if strings.Contains(p, "/../") || path.Clean(p) != strings.TrimSuffix(p, "/") {
		return nil, fmt.Errorf("%q is no path of the API", p)
	}
	u := b.url
	plain, err := url.PathUnescape(p)
	if err != nil {
		return nil, fmt.Errorf("%q is no path of the API", p)
	}
	u.Path, u.RawPath, u.RawQuery = plain, p, c.query.Encode()
	req, err := http.NewRequestWithContext(ctx, c.method, u.String(), c.body)
	if err != nil {
		return nil, errors.New("no request can be made of it")
	}
	if b.dummy != "" {
		req.Host = b.dummy
	}
	maps.Copy(req.Header, c.header)
	return req, nil
}

// do makes a call whose reply does not matter.
func (b *backend) do(ctx context.Context, c call) error {
	resp, err := b.send(ctx, c)
	if err != nil {
		return err
	}
	drain(resp.Body)
	return resp.Body.Close()
}

// get makes a call and decodes its reply.
func (b *backend) get(ctx context.Context, c call, into any) error {
	if c.method == "" {
		c.method = http.MethodGet
	}
	resp, err := b.send(ctx, c)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return &callError{what: c.what, err: plainTransport(err)}
	}
	if err := json.Unmarshal(body, into); err != nil {
		return &callError{what: c.what, err: errNoEngine}
	}
	return nil
}

var (
	errNoEngine = errors.New("the answer cannot be read: what answers is no Docker Engine, or one of another version")
	errTooLong  = errors.New("the answer is longer than any Docker Engine's")
)

// reply is a bounded body; left < 0 is no bound.
type reply struct {
	io.ReadCloser
	ctx  context.Context
	left int64
	done func()
}

func (r *reply) Read(p []byte) (int, error) {
	if r.ctx.Err() != nil {
		return 0, context.Cause(r.ctx)
	}
	if r.left == 0 {
		// One byte more tells the end from an excess.
		var one [1]byte
		if n, err := r.ReadCloser.Read(one[:]); n == 0 && err != nil {
			return 0, err
		}
		return 0, errTooLong
	}
	if r.left > 0 && int64(len(p)) > r.left {
		p = p[:r.left]
	}
	n, err := r.ReadCloser.Read(p)
	if r.left > 0 {
		r.left -= int64(n)
	}
	if err != nil && err != io.EOF && errors.Is(context.Cause(r.ctx), errNoAnswer) {
		err = errNoAnswer
	}
	return n, err
}

func (r *reply) Close() error {
	err := r.ReadCloser.Close()
	r.done()
	return err
}

// drain reads the little that is left, so that the connection can be used again.
func drain(r io.Reader) { _, _ = io.CopyN(io.Discard, r, 64<<10) }

// errorMessage is the text of an engine's error reply: JSON with a message, or whatever a proxy before it says.
func errorMessage(resp *http.Response) string {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, errorLimit))
	var said types.ErrorResponse
	if json.Unmarshal(body, &said) == nil && strings.TrimSpace(said.Message) != "" {
		return strings.TrimSpace(said.Message)
	}
	text := strings.TrimSpace(string(body))
	if text == "" || strings.HasPrefix(text, "{") || strings.HasPrefix(text, "<") {
		return "HTTP status " + resp.Status
	}
	return clip(strings.ToValidUTF8(text, "\ufffd"), 2000)
}

// plainTransport takes an error of net/http out of its URL, which may hold what nobody else may see.
func plainTransport(err error) error {
	var u *url.Error
	for errors.As(err, &u) {
		err = u.Err
	}
	return err
}

func transportCause(err error) string {
	var dns *net.DNSError
	var ssh *sshError
	var op *net.OpError
	switch {
	case errors.As(err, &ssh):
		return "ssh: " + ssh.cause
	case errors.As(err, &op) && op.Op == "remote error":
		// A TLS alert, without net/http's words before it.
		return op.Error()
	case errors.Is(err, context.Canceled):
		return "cancelled"
	case errors.Is(err, context.DeadlineExceeded):
		return "the time for it is over"
	case errors.Is(err, os.ErrPermission):
		return "permission denied"
	case errors.Is(err, os.ErrNotExist):
		return "no such file"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.As(err, &dns):
		return dns.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "docker closed the connection"
	case strings.Contains(err.Error(), "malformed HTTP response"), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return "what answers does not speak this protocol (TLS on one side alone?)"
	}
	return err.Error()
}

// messages reads a stream of JSON messages, none of which is longer than messageLimit.
type messages struct {
	dec *json.Decoder
	r   *messageReader
}

func newMessages(r io.Reader) *messages {
	m := &messageReader{r: r, left: messageLimit}
	return &messages{dec: json.NewDecoder(m), r: m}
}

// next decodes the next message; io.EOF is the end of the stream.
func (m *messages) next(into any) error {
	m.r.left = messageLimit
	err := m.dec.Decode(into)
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax), errors.As(err, &kind):
		return errNoEngine
	}
	return err
}

type messageReader struct {
	r    io.Reader
	left int
}

func (m *messageReader) Read(p []byte) (int, error) {
	if m.left <= 0 {
		return 0, errTooLong
	}
	n, err := m.r.Read(p[:min(len(p), m.left)])
	m.left -= n
	return n, err
}

func pingOf(version string) types.Ping { return types.Ping{APIVersion: version} }

func jsonBody(b []byte) (io.Reader, http.Header) {
	return bytes.NewReader(b), http.Header{"Content-Type": {"application/json"}}
}

// clip shortens a text to n bytes, on a character's boundary.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + cutMark
}

// cutMark is where something was cut off.
const cutMark = "…"
