package docker

import (
	_ "crypto/sha256" // for digests in references
	_ "crypto/sha512"
	"errors"
	"fmt"
	"strings"

	"github.com/distribution/reference"

	"github.com/latent-engine/latent-engine/engine/field"
)

// localDomain is the registry that there is not: images that are built here, under their tenant's name.
const localDomain = "latent-engine.local"

// imageRef is one image reference, read.
type imageRef struct {
	// ID is an image id, sha256:… or a short one of hexadecimal digits; the other fields are empty then.
	ID string
	// Familiar is the short form that a plan holds and Docker shows: alpine:latest. One image, one form.
	Familiar string
	// Canonical is the full form that policy judges: docker.io/library/alpine:latest.
	Canonical string
	Domain    string // docker.io
	Path      string // library/alpine
	Tag       string
	Digest    string // sha256:…
}

// String is what a plan holds.
func (r imageRef) String() string {
	if r.ID != "" {
		return r.ID
	}
	return r.Familiar
}

// parseImage reads what a user may write as an image: a familiar or full name with tag, digest or both, or an id.
//
// A name of twelve or more hexadecimal digits alone could be a short id as well as a repository of Docker Hub; the engine
// looks for both, so it is treated as an id, which no list of registries allows.
func parseImage(s string) (imageRef, error) {
	if r, ok := plainImage(s); ok {
		return r, nil
	}
	if s == "" {
		return imageRef{}, errors.New("the image is empty")
	}
	if id, ok := imageID(s); ok {
		return imageRef{ID: id}, nil
	}
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return imageRef{}, imageError(s, err)
	}
	named = reference.TagNameOnly(named)
	r := imageRef{Familiar: reference.FamiliarString(named), Canonical: named.String(), Path: reference.Path(named)}
	if back, err := reference.ParseNormalizedNamed(r.Familiar); err != nil || back.String() != r.Canonical {
		// docker.io/r.corp/x shortens to r.corp/x, which is another registry's.
		r.Familiar = r.Canonical
	}
	r.Domain = strings.TrimSuffix(named.Name(), "/"+r.Path)
	if r.Domain == named.Name() || r.Path == "" {
		// A first part such as Registry or registry_corp.example is one to the normaliser and none to the grammar.
		r.Domain, r.Path, _ = strings.Cut(named.Name(), "/")
	}
	if t, ok := named.(reference.Tagged); ok {
		r.Tag = t.Tag()
	}
	if d, ok := named.(reference.Digested); ok {
		r.Digest = d.Digest().String()
	}
	return r, nil
}

// plainImage reads the everyday references, host/path:tag in lower case, without the library's regular expressions. What
// it takes, the library takes with the same result; a fuzz test holds it to that.
func plainImage(s string) (imageRef, bool) {
	if len(s) > 200 || len(s) == 0 {
		return imageRef{}, false
	}
	slash := strings.IndexByte(s, '/')
	colon := strings.LastIndexByte(s, ':')
	if colon < slash {
		colon = -1
	}
	name, tag := s, "latest"
	if colon >= 0 {
		name, tag = s[:colon], s[colon+1:]
		if !plainTag(tag) {
			return imageRef{}, false
		}
	} else if slash < 0 {
		if _, id := imageID(s); id {
			return imageRef{}, false
		}
	}
	if colon >= 0 && slash < 0 && name == "sha256" {
		return imageRef{}, false
	}
	domain, path := "docker.io", name
	if slash >= 0 {
		if first := name[:slash]; strings.IndexByte(first, '.') >= 0 || strings.IndexByte(first, ':') >= 0 || first == "localhost" {
			if !plainDomain(first) || first == "index.docker.io" || first == "docker.io" {
				return imageRef{}, false
			}
			domain, path = first, name[slash+1:]
		}
	}
	if !plainPath(path) {
		return imageRef{}, false
	}
	r := imageRef{Domain: domain, Path: path, Tag: tag}
	switch {
	case domain != "docker.io":
	case slash < 0:
		r.Path = "library/" + path
	case strings.HasPrefix(path, "library/"):
		return imageRef{}, false
	}
	if colon >= 0 {
		r.Familiar = s
	} else {
		r.Familiar = s + ":latest"
	}
	r.Canonical = r.Familiar
	if domain == "docker.io" {
		r.Canonical = "docker.io/" + r.Path + ":" + tag
	}
	return r, true
}

func plainTag(s string) bool {
	if s == "" || len(s) > 128 || s[0] == '.' || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !alnum(c) && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}

// plainDomain is a dotted name or localhost, in lower case, with or without a port.
func plainDomain(s string) bool {
	host, port, hasPort := strings.Cut(s, ":")
	if hasPort && !digits(port) {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for i := range len(label) {
			if c := label[i]; !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-') {
				return false
			}
		}
	}
	return true
}

// plainPath is components of lower-case letters and digits, with single separators within.
func plainPath(s string) bool {
	separator := true
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z' || c >= '0' && c <= '9':
			separator = false
		case (c == '/' || c == '-' || c == '_' || c == '.') && !separator:
			separator = true
		default:
			return false
		}
	}
	return !separator
}

// imageID reads an image id: sha256:… in full or short, or hexadecimal digits alone, twelve or more.
func imageID(s string) (string, bool) {
	if rest, ok := strings.CutPrefix(s, "sha256:"); ok {
		if len(rest) > 64 || len(rest) < 12 || !hexadecimal(rest) {
			return "", false
		}
		return s, true
	}
	if len(s) < 12 || len(s) > 64 || !hexadecimal(s) {
		return "", false
	}
	if len(s) == 64 {
		return "sha256:" + s, true
	}
	return s, true
}

func hexadecimal(s string) bool {
	for i := range len(s) {
		if !strings.ContainsRune("0123456789abcdef", rune(s[i])) {
			return false
		}
	}
	return true
}

// imageError says in a user's words why a reference is none.
func imageError(s string, err error) error {
	switch {
	case strings.Contains(s, "://"):
		return fmt.Errorf("%q has a scheme: an image is registry/name:tag", s)
	case strings.ContainsAny(s, " \t\r\n"):
		return fmt.Errorf("%q holds a blank", s)
	case errors.Is(err, reference.ErrNameContainsUppercase) || strings.Contains(err.Error(), "must be lowercase"):
		return fmt.Errorf("%q has upper-case letters in its name", s)
	case errors.Is(err, reference.ErrNameTooLong):
		return fmt.Errorf("the name of the image has more than %d characters", reference.RepositoryNameTotalLengthMax)
	case errors.Is(err, reference.ErrTagInvalidFormat), errors.Is(err, reference.ErrDigestInvalidFormat):
		return fmt.Errorf("%q has no valid tag or digest", s)
	}
	return fmt.Errorf("%q is not an image: name, name:tag, name@sha256:…, registry/name or an id", s)
}

// checkImage leaves the familiar form with its tag, or the id. Names under latent-engine.local are the engine's own.
func checkImage(v field.Value) (field.Value, error) {
	s, _ := v.(field.String)
	r, err := parseImage(string(s))
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(strings.ToLower(r.Domain)+":", localDomain+":") {
		return nil, fmt.Errorf("%q: images under %s are those that the engine builds itself", string(s), localDomain)
	}
	if text := r.String(); text != string(s) {
		return field.String(text), nil
	}
	return v, nil
}

// canonicalImage is the full form for policy. What is no reference stays as it is, and so fits no list.
func canonicalImage(s string) string {
	r, err := parseImage(s)
	if err != nil || r.ID != "" {
		return s
	}
	return r.Canonical
}
