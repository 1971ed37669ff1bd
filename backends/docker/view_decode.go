package docker

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/strslice"

	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/spec"
)

// createBody is the create object of a plan: the body of POST /containers/create, with its two query parameters beside it.
type createBody struct {
	Name     string `json:"name"`
	Platform string `json:"platform"`
	container.Config
	HostConfig       *container.HostConfig
	NetworkingConfig *network.NetworkingConfig
}

type pullPlan struct {
	Image    string `json:"image"`
	Policy   string `json:"policy"`
	Platform string `json:"platform"`
}

type buildPlan struct {
	Dockerfile string            `json:"dockerfile"`
	Context    string            `json:"context"`
	SHA256     string            `json:"sha256"`
	Text       string            `json:"context_dockerfile"`
	Encoding   string            `json:"encoding"`
	BuildArgs  map[string]string `json:"buildargs"`
	Target     string            `json:"target"`
	Platform   string            `json:"platform"`
	Pull       bool              `json:"pull"`
	Tag        string            `json:"tag"`
	Temporary  bool              `json:"temporary"`
	When       string            `json:"when"`
	Labels     map[string]string `json:"labels"`
}

type afterPlan struct {
	Networks []struct {
		Network string                    `json:"network"`
		Config  *network.EndpointSettings `json:"config"`
	} `json:"networks"`
	FollowStartupLogs bool `json:"follow_startup_logs"`
	StopTimeout       int  `json:"stop_timeout"`
}

// structKeys are the JSON keys, exactly as they are written, of every struct that a plan is read into.
var structKeys = collectKeys(reflect.TypeFor[createBody](), reflect.TypeFor[pullPlan](), reflect.TypeFor[buildPlan](), reflect.TypeFor[afterPlan]())

func collectKeys(types ...reflect.Type) map[reflect.Type]map[string][]int {
	all := map[reflect.Type]map[string][]int{}
	var visit func(t reflect.Type)
	visit = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			visit(t.Elem())
		case reflect.Struct:
			if all[t] != nil {
				return
			}
			keys := map[string][]int{}
			all[t] = keys
			for _, f := range reflect.VisibleFields(t) {
				name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if f.Anonymous && name == "" || !f.IsExported() || name == "-" {
					continue
				}
				if name == "" {
					name = f.Name
				}
				keys[name] = f.Index
				visit(f.Type)
			}
		}
	}
	for _, t := range types {
		visit(t)
	}
	return all
}

// decodeStrict reads a value into an SDK type: an unknown key, a key in another case, a value of another kind and a number
// that does not fit are errors. (encoding/json folds case, and its DisallowUnknownFields does not notice.) A secret is read
// as [spec.Mask] where holes allows its path, and is an error anywhere else.
func decodeStrict(v field.Value, into any, holes func(path string) bool) error {
	return (&decoder{holes: holes}).decode(v, reflect.ValueOf(into).Elem(), "")
}

type decoder struct{ holes func(path string) bool }

func (d *decoder) decode(v field.Value, into reflect.Value, path string) error {
	if v == nil {
		return nil
	}
	misfit := func() error { return fmt.Errorf("%s: %s cannot stand here", path, field.KindName(v)) }
	if _, secret := v.(field.Text); secret {
		if into.Kind() != reflect.String || d.holes == nil || !d.holes(path) {
			return fmt.Errorf("%s: a secret cannot stand here", path)
		}
		into.SetString(spec.Mask)
		return nil
	}
	switch into.Kind() {
	case reflect.Pointer:
		into.Set(reflect.New(into.Type().Elem()))
		return d.decode(v, into.Elem(), path)
	case reflect.String:
		s, ok := v.(field.String)
		if !ok {
			return misfit()
		}
		into.SetString(string(s))
	case reflect.Bool:
		b, ok := v.(field.Bool)
		if !ok {
			return misfit()
		}
		into.SetBool(bool(b))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, ok := v.(field.Int)
		if !ok {
			return misfit()
		}
		if into.OverflowInt(int64(n)) {
			return fmt.Errorf("%s: %d does not fit", path, n)
		}
		into.SetInt(int64(n))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, ok := v.(field.Int)
		if !ok {
			return misfit()
		}
		if n < 0 || into.OverflowUint(uint64(n)) {
			return fmt.Errorf("%s: %d does not fit", path, n)
		}
		into.SetUint(uint64(n))
	case reflect.Slice:
		return d.slice(v, into, path)
	case reflect.Array:
		l, ok := v.(field.List)
		if !ok {
			return misfit()
		}
		if len(l) != into.Len() {
			return fmt.Errorf("%s: %d elements; %d are wanted", path, len(l), into.Len())
		}
		for i, e := range l {
			if err := d.decode(e, into.Index(i), field.IndexPath(path, i)); err != nil {
				return err
			}
		}
	case reflect.Map:
		o, ok := v.(field.Object)
		if !ok {
			return misfit()
		}
		into.Set(reflect.MakeMapWithSize(into.Type(), len(o)))
		for _, k := range slices.Sorted(maps.Keys(o)) {
			e := reflect.New(into.Type().Elem()).Elem()
			if err := d.decode(o[k], e, field.JoinPath(path, k)); err != nil {
				return err
			}
			into.SetMapIndex(reflect.ValueOf(k).Convert(into.Type().Key()), e)
		}
	case reflect.Struct:
		return d.structure(v, into, path)
	default:
		panic("internal error: no reading of " + into.Type().String())
	}
	return nil
}

func (d *decoder) slice(v field.Value, into reflect.Value, path string) error {
	if s, ok := v.(field.String); ok && into.Type() == reflect.TypeFor[strslice.StrSlice]() {
		into.Set(reflect.ValueOf(strslice.StrSlice{string(s)}))
		return nil
	}
	l, ok := v.(field.List)
	if !ok {
		return fmt.Errorf("%s: %s cannot stand here", path, field.KindName(v))
	}
	into.Set(reflect.MakeSlice(into.Type(), len(l), len(l)))
	for i, e := range l {
		if e == nil {
			return fmt.Errorf("%s: null cannot stand here", field.IndexPath(path, i))
		}
		if err := d.decode(e, into.Index(i), field.IndexPath(path, i)); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) structure(v field.Value, into reflect.Value, path string) error {
	o, ok := v.(field.Object)
	if !ok {
		return fmt.Errorf("%s: %s cannot stand here", path, field.KindName(v))
	}
	keys := structKeys[into.Type()]
	for _, k := range slices.Sorted(maps.Keys(o)) {
		index, known := keys[k]
		if !known {
			hint := ""
			if s := diag.Suggest(k, slices.Collect(maps.Keys(keys))); s != "" {
				hint = fmt.Sprintf(" (the API's spelling is %q)", s)
			}
			return fmt.Errorf("%s: unknown field%s", field.JoinPath(path, k), hint)
		}
		if err := d.decode(o[k], into.FieldByIndex(index), field.JoinPath(path, k)); err != nil {
			return err
		}
	}
	return nil
}
