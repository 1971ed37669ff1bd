package backendtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/latent-engine/latent-engine/engine/field"
)

// Call is one request as it went out.
type Call struct {
	Method string
	Path   string
	Query  map[string][]string
	Header http.Header
	Body   []byte
	Status int // 0 = no answer came
}

func (c Call) String() string { return c.Method + " " + c.Path }

// Recorder keeps every request that goes through it, and can cut connections. The zero Recorder is ready.
type Recorder struct {
	mu    sync.Mutex
	calls []*Call                           // guarded by mu
	hook  func(r *http.Request, after bool) // guarded by mu
	cut   bool                              // guarded by mu
	open  map[*cuttable]bool                // guarded by mu
}

// Hook is told of each request before it is sent and when its reply has come.
func (r *Recorder) Hook(f func(req *http.Request, after bool)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hook = f
}

// Cut breaks all replies that are being read, and with true every request until Cut(false).
func (r *Recorder) Cut(on bool) {
	r.mu.Lock()
	r.cut = on
	open := r.open
	r.open = nil
	r.mu.Unlock()
	for b := range open {
		b.Close()
	}
}

// Calls are all requests until now.
func (r *Recorder) Calls() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]Call, len(r.calls))
	for i, c := range r.calls {
		out[i] = *c
	}
	return out
}

// Changing are the requests that ask for more than a look.
func (r *Recorder) Changing() []Call {
	return slices.DeleteFunc(r.Calls(), func(c Call) bool { return c.Method == http.MethodGet || c.Method == http.MethodHead })
}

// Wrap is the transport through the recorder.
func (r *Recorder) Wrap(next http.RoundTripper) http.RoundTripper {
	return transport{r, next}
}

type transport struct {
	r    *Recorder
	next http.RoundTripper
}

var errCut = errors.New("the connection was cut by the test")

func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	t.r.mu.Lock()
	cut, hook := t.r.cut, t.r.hook
	c := &Call{Method: req.Method, Path: req.URL.Path, Query: req.URL.Query(), Header: req.Header.Clone()}
	t.r.calls = append(t.r.calls, c)
	t.r.mu.Unlock()
	if cut {
		return nil, errCut
	}
	out := req
	if req.Body != nil && req.Body != http.NoBody {
		out = req.Clone(req.Context())
		out.Body = &tee{ReadCloser: req.Body, r: t.r, c: c}
		out.GetBody = nil
	}
	if hook != nil {
		hook(req, false)
	}
	resp, err := t.next.RoundTrip(out)
	if hook != nil {
		hook(req, true)
	}
	if err != nil {
		return nil, err
	}
	t.r.mu.Lock()
	defer t.r.mu.Unlock()
	c.Status = resp.StatusCode
	if t.r.open == nil {
		t.r.open = map[*cuttable]bool{}
	}
	b := &cuttable{ReadCloser: resp.Body, r: t.r}
	t.r.open[b] = true
	resp.Body = b
	return resp, nil
}

// tee keeps what is sent.
type tee struct {
	io.ReadCloser
	r *Recorder
	c *Call
}

func (t *tee) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	t.r.mu.Lock()
	t.c.Body = append(t.c.Body, p[:n]...)
	t.r.mu.Unlock()
	return n, err
}

// cuttable is a reply that can be closed from elsewhere.
type cuttable struct {
	io.ReadCloser
	r *Recorder
}

func (b *cuttable) Close() error {
	b.r.mu.Lock()
	delete(b.r.open, b)
	b.r.mu.Unlock()
	return b.ReadCloser.Close()
}

// Secrets makes up a value for every secret that is asked for, none of which can be mistaken for anything else.
type Secrets struct {
	mu     sync.Mutex
	values map[field.SecretRef]string // guarded by mu
}

// NewSecrets makes an empty Secrets.
func NewSecrets() *Secrets { return &Secrets{values: map[field.SecretRef]string{}} }

// Fill is backends.Fill. The values have characters in them that JSON and URLs write in another way.
func (s *Secrets) Fill(ref field.SecretRef) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.values[ref]
	if !ok {
		v = fmt.Sprintf("s3cr3t-%d-\"\\<&%%+ é", len(s.values)+1)
		s.values[ref] = v
	}
	return v, nil
}

// Unseen fails a test whose text has a secret's value in it.
func (s *Secrets) Unseen(t *testing.T, text string) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref := range s.values {
		// The beginning is the same however the rest is written.
		if strings.Contains(text, "s3cr3t-") {
			t.Errorf("the secret %q is seen in %s", ref.Name, text)
			return
		}
	}
}

// Restore decodes JSON and puts the holes back where a secret's value stands, so that it can be held against a plan.
func (s *Secrets) Restore(body []byte) (field.Value, error) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("cannot decode what was sent: %w", err)
	}
	if d.More() {
		return nil, errors.New("cannot decode what was sent: there is more than one value")
	}
	return s.value(v)
}

func (s *Secrets) value(v any) (field.Value, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case bool:
		return field.Bool(v), nil
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return field.Int(n), nil
		}
		f, err := v.Float64()
		return field.Float(f), err
	case string:
		return s.text(v), nil
	case []any:
		out := make(field.List, len(v))
		for i, e := range v {
			var err error
			if out[i], err = s.value(e); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		out := make(field.Object, len(v))
		for k, e := range v {
			w, err := s.value(e)
			if err != nil {
				return nil, err
			}
			if w != nil {
				out[k] = w
			}
		}
		return out, nil
	}
	return nil, fmt.Errorf("cannot decode a %T", v)
}

// text is a text with the holes that its secrets came from.
func (s *Secrets) text(text string) field.Value {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out field.Text
	for text != "" {
		at, length, ref := -1, 0, field.SecretRef{}
		for r, v := range s.values {
			if i := strings.Index(text, v); i >= 0 && (at < 0 || i < at) {
				at, length, ref = i, len(v), r
			}
		}
		if at < 0 {
			break
		}
		if at > 0 {
			out = append(out, field.Segment{Text: text[:at]})
		}
		out = append(out, field.Segment{Secret: ref})
		text = text[at+length:]
	}
	if out == nil {
		return field.String(text)
	}
	if text != "" {
		out = append(out, field.Segment{Text: text})
	}
	return out
}

// Plain takes the absent values out of a value, as its JSON has it.
func Plain(v field.Value) field.Value {
	switch v := v.(type) {
	case field.Object:
		out := make(field.Object, len(v))
		for k, e := range v {
			if e != nil {
				out[k] = Plain(e)
			}
		}
		return out
	case field.List:
		out := make(field.List, len(v))
		for i, e := range v {
			out[i] = Plain(e)
		}
		return out
	case field.Float:
		if i := int64(v); float64(i) == float64(v) {
			return field.Int(i)
		}
	}
	return v
}
