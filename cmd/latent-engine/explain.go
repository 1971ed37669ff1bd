package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/latent-engine/latent-engine/engine/config"
	"github.com/latent-engine/latent-engine/engine/diag"
	"github.com/latent-engine/latent-engine/engine/field"
	"github.com/latent-engine/latent-engine/engine/policy"
	"github.com/latent-engine/latent-engine/engine/render"
	"github.com/latent-engine/latent-engine/engine/spec"
	"github.com/latent-engine/latent-engine/renderers"
)

func (a *app) explainCommand() *cobra.Command {
	var build buildFlags
	cmd := &cobra.Command{
		Use:   "explain WORKER [FIELD.PATH]",
		Short: "Say where a value comes from",
		Long: `explain renders a worker for one build and says, for a field, its value, the expression that gave it, the properties
that it read, the defaults under it, and what it cost. FIELD.PATH is in the definition's words or the native object's:
hostconfig.mem_limit and HostConfig.Memory are one. Without a path all fields are listed.`,
		Example: `  latent-engine explain linux -f ci.yaml -p branch=main
  latent-engine explain linux hostconfig.mem_limit -f ci.yaml -p branch=main -p cores=8
  latent-engine explain linux 'env["JOBS"]' -o json`,
		Args:              between(1, "WORKER", "FIELD.PATH"),
		ValidArgsFunction: a.completeWorkers,
		RunE: func(cmd *cobra.Command, args []string) error {
			path := ""
			if len(args) > 1 {
				path = args[1]
			}
			return a.explain(cmd.Context(), args[0], path, build)
		},
	}
	a.definitionFlag(cmd)
	build.add(a, cmd)
	return cmd
}

func (a *app) explain(ctx context.Context, worker, path string, build buildFlags) error {
	r, err := a.rendered(ctx, worker, build, "")
	if err != nil {
		return err
	}
	found, err := r.spec.Explain(path)
	if err != nil {
		message, hint, _ := strings.Cut(err.Error(), "; ")
		return &hinted{err: errors.New(message), hint: hint}
	}
	origins := r.origins(found)
	switch {
	case a.json():
		if err := a.result(origins); err != nil {
			return err
		}
	case path == "":
		if err := a.explainAll(r, origins); err != nil {
			return err
		}
	default:
		for i, o := range origins {
			if i > 0 {
				fmt.Fprintln(a.stdout)
			}
			a.explainOne(o, found[i], r)
		}
	}
	if r.denied != nil {
		a.printDenial(r.denied, r.spec, r.spec.Worker)
		return &reported{exitDenied}
	}
	return nil
}

// explainAll is the table of all fields.
func (a *app) explainAll(r *rendering, origins []origin) error {
	rows := [][]string{{"FIELD", "VALUE", "FROM", "AT"}}
	for _, o := range origins {
		from, at := "", ""
		if len(o.From) > 0 {
			from, at = short(o.From[0].Text, 48), place(o.From[0].File, o.From[0].Line, o.From[0].Column)
			if layer := o.From[0].Layer; strings.HasPrefix(layer, "defaults.") {
				from += " (" + layer + ")"
			}
		}
		rows = append(rows, []string{o.Path, short(string(o.Value), 48), from, at})
	}
	if err := table(a.stdout, rows); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "\n%s on %s, %s\n%s of %s CEL units\n", r.spec.Worker, r.spec.Plan.Backend+"/"+r.spec.Target, r.spec.Digest,
		renderers.Thousands(r.spec.Cost), renderers.Thousands(renderers.DefaultLimits().RenderCost))
	return nil
}

// explainOne is one field's story.
func (a *app) explainOne(o origin, raw render.Origin, r *rendering) {
	name := o.Native
	if name == "" {
		name = o.Path
	}
	value := string(o.Value)
	if raw.Value == nil {
		value = "not set"
	}
	fmt.Fprintf(a.stdout, "%s = %s\n", visible(name), visible(value))
	var rows [][3]string
	row := func(word, what, where string) { rows = append(rows, [3]string{word, visible(what), visible(where)}) }
	if len(o.From) == 0 {
		row("type", o.Type, "")
	}
	for i, s := range o.From {
		at := place(s.File, s.Line, s.Column)
		switch {
		case s.Replaced:
			row("over", s.Text, at+" ("+s.Layer+")")
		case i > 0:
			row("on", s.Text, at+" ("+s.Layer+")")
		default:
			from := at
			if strings.HasPrefix(s.Layer, "defaults.") || s.Layer != field.JoinPath("workers", r.worker().Key) {
				from += " (" + s.Layer + ")"
			}
			row("from", s.Text, from)
		}
		seen := map[string]bool{}
		for _, e := range s.Expressions {
			for _, in := range e.Reads {
				if seen[in.Name] {
					continue
				}
				seen[in.Name] = true
				row("read", in.Name+" = "+readValue(in), origins(in))
			}
		}
		if i == 0 {
			if before := written(s); before != "" && before != string(o.Value) {
				row("then", before+" → "+string(o.Value), r.spec.Plan.Backend+": "+shortType(o.Type))
			}
			if len(s.Expressions) > 0 {
				cost := int64(0)
				for _, e := range s.Expressions {
					cost += e.Cost
				}
				row("cost", fmt.Sprintf("%s of %s CEL units", renderers.Thousands(cost), renderers.Thousands(s.Expressions[0].Limit)), "")
			}
		}
	}
	for _, p := range o.Policy {
		row("policy", p, "")
	}
	wide := 0
	for _, r := range rows {
		if n := utf8.RuneCountInString(r[1]); r[2] != "" {
			wide = max(wide, min(n, 60))
		}
	}
	for _, r := range rows {
		pad := strings.Repeat(" ", max(0, wide-utf8.RuneCountInString(r[1])))
		fmt.Fprintln(a.stdout, strings.TrimRight(fmt.Sprintf("  %-6s %s%s  %s", r[0], r[1], pad, r[2]), " "))
	}
}

func (r *rendering) worker() *config.Worker {
	t, err := r.definition.set.Template(r.spec.Worker)
	if err != nil {
		return &config.Worker{}
	}
	return t.Worker
}

func readValue(in read) string {
	if in.Source == "missing" || len(in.Value) == 0 {
		return "(missing)"
	}
	return short(string(in.Value), 60)
}

// origins says who gave what was read: "-p (default 2, 1…16 at ci.yaml:10)".
func origins(in read) string {
	from := in.Source
	switch from {
	case config.SourceCLI:
		from = "-p"
	case "missing":
		from = ""
	}
	if strings.HasPrefix(in.Name, "vars.") && in.File != "" {
		return fmt.Sprintf("vars (%s at %s)", in.Declared, place(in.File, in.Line, in.Column))
	}
	declared := in.Declared
	if from == "default" {
		// The value is the default: it need not be said twice.
		if _, bounds, ok := strings.Cut(declared, ", "); ok {
			declared = bounds
		} else {
			declared = "declared"
		}
	}
	var more []string
	if declared != "" {
		more = append(more, declared)
	}
	if in.File != "" {
		more = append(more, fmt.Sprintf("at %s:%d", in.File, in.Line))
	}
	if len(more) > 0 {
		from = strings.TrimSpace(from + " (" + strings.Join(more, " ") + ")")
	}
	return from
}

// written is the value as its expressions left it, before it was converted for its field: JSON, or "" where that cannot
// be told from the text.
func written(s step) string {
	text := s.Text
	if len(s.Expressions) == 0 {
		if strings.HasPrefix(text, `"`) || strings.HasPrefix(text, `'`) || strings.ContainsAny(text, "{}[]|>") || strings.HasSuffix(text, "…") {
			text = strings.Trim(text, `"'`)
		}
		if text == "" || strings.ContainsAny(text, "{}[]|>\\\"") {
			return ""
		}
		return quoteUnlessNumber(text)
	}
	quoted := len(text) >= 2 && (text[0] == '"' || text[0] == '\'') && text[len(text)-1] == text[0]
	if quoted {
		text = text[1 : len(text)-1]
	}
	if strings.Contains(text, `\`) {
		return ""
	}
	var out strings.Builder
	for _, e := range s.Expressions {
		at := strings.Index(text, e.Expression)
		open := strings.LastIndex(text[:max(at, 0)], "${{")
		if at < 0 || open < 0 {
			return ""
		}
		rest := text[at+len(e.Expression):]
		blank, rest, ok := strings.Cut(rest, "}}")
		if !ok || strings.TrimSpace(blank) != "" {
			return ""
		}
		if open == 0 && strings.TrimSpace(rest) == "" && len(s.Expressions) == 1 {
			return string(e.Result)
		}
		out.WriteString(text[:open])
		var str string
		if json.Unmarshal(e.Result, &str) == nil {
			out.WriteString(str)
		} else {
			out.Write(e.Result)
		}
		text = rest
	}
	out.WriteString(text)
	return quote(out.String())
}

func quoteUnlessNumber(s string) string {
	if json.Valid([]byte(s)) {
		return s
	}
	return quote(s)
}

func quote(s string) string { return string(spec.AppendString(nil, s)) }

// shortType is a type's first words: `a size (string such as …)` is "size".
func shortType(t string) string {
	t, _, _ = strings.Cut(t, " (")
	return strings.TrimPrefix(strings.TrimPrefix(t, "a "), "an ")
}

func short(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

func place(file string, line, column int) string {
	return diag.Pos{File: file, Line: line, Column: column}.String()
}

// origins are render's, in the form that is printed: with the values as they are sent.
func (r *rendering) origins(in []render.Origin) []origin {
	out := make([]origin, 0, len(in))
	for _, o := range in {
		n := origin{Path: o.Path, Native: o.Native, Value: r.sent(o), Type: o.Type, From: []step{}}
		for _, s := range o.Steps {
			st := step{Layer: s.Layer, Text: s.Raw, File: s.At.File, Line: s.At.Line, Column: s.At.Column, Replaced: s.Replaced, Expressions: []evaluated{}}
			for _, e := range s.Expressions {
				ev := evaluated{Expression: e.Source, File: e.At.File, Line: e.At.Line, Column: e.At.Column, Reads: []read{}, Result: redacted(e.Result), Cost: e.Cost, Limit: e.Limit}
				for _, in := range e.Reads {
					ev.Reads = append(ev.Reads, r.read(in))
				}
				st.Expressions = append(st.Expressions, ev)
			}
			n.From = append(n.From, st)
		}
		n.Policy = r.judged(o)
		if holdsPassword(o) {
			n.mask()
		}
		out = append(out, n)
	}
	return out
}

// holdsPassword reports whether a field is the worker's password, or an environment that (wrongly) sets it: it may be plain text.
func holdsPassword(o render.Origin) bool {
	keys, err := field.SplitPath(o.Path)
	if err != nil || len(keys) == 0 || o.Value == nil {
		return false
	}
	switch keys[0] {
	case "password":
		return true
	case "env":
		if len(keys) > 1 {
			name, _ := keys[1].(string)
			return isPassword(name)
		}
		all, _ := o.Value.(field.Object)
		for name := range all {
			if isPassword(name) {
				return true
			}
		}
	}
	return false
}

// mask hides everything that could be a part of a password that is written, or read from a property, in plain text.
func (o *origin) mask() {
	hidden := json.RawMessage(quote(spec.Mask))
	o.Value = hidden
	for i := range o.From {
		o.From[i].Text = spec.Mask
		for j := range o.From[i].Expressions {
			e := &o.From[i].Expressions[j]
			e.Expression, e.Result = spec.Mask, hidden
			for k := range e.Reads {
				if e.Reads[k].Value = hidden; e.Reads[k].Declared != "" {
					e.Reads[k].Declared = spec.Mask
				}
			}
		}
	}
}

// sent is an origin's value as it stands in the native object, where it can be found there by its path.
func (r *rendering) sent(o render.Origin) json.RawMessage {
	if v, ok := nativeAt(r.bound.Create, o.Native); ok && o.Value != nil {
		return redacted(v)
	}
	return redacted(o.Value)
}

func nativeAt(v field.Value, path string) (field.Value, bool) {
	keys, err := field.SplitPath(path)
	if err != nil || len(keys) == 0 {
		return nil, false
	}
	for _, k := range keys {
		name, ok := k.(string)
		o, isMap := v.(field.Object)
		if !ok || !isMap {
			return nil, false
		}
		if v, ok = o[name]; !ok {
			return nil, false
		}
	}
	return v, v != nil
}

func (r *rendering) read(in render.Read) read {
	out := read{Name: in.Path, Value: redacted(in.Value), Source: in.From, File: in.Declared.File, Line: in.Declared.Line, Column: in.Declared.Column}
	keys, err := field.SplitPath(in.Path)
	if err != nil || len(keys) < 2 {
		return out
	}
	if keys[0] == "vars" {
		for _, v := range r.worker().Vars {
			if v.Name == keys[1] {
				out.Declared, out.File, out.Line, out.Column = short(v.Node.Raw, 60), v.Node.Span.File, v.Node.Span.Line, v.Node.Span.Column
			}
		}
	}
	if keys[0] != "props" {
		return out
	}
	for _, p := range r.worker().Props {
		if p.Name == keys[1] {
			out.Declared = declared(p)
		}
	}
	return out
}

// declared is a property's declaration in short: "default 2, 1…16", or its type.
func declared(p *config.Prop) string {
	var parts []string
	if p.Default != nil {
		parts = append(parts, "default "+string(redacted(p.Default)))
	}
	lo, hi := p.Type.Min, p.Type.Max
	switch {
	case lo != nil && hi != nil:
		parts = append(parts, fmt.Sprintf("%d…%d", *lo, *hi))
	case lo != nil:
		parts = append(parts, fmt.Sprintf("at least %d", *lo))
	case hi != nil:
		parts = append(parts, fmt.Sprintf("at most %d", *hi))
	}
	if len(parts) == 0 {
		return p.Decl
	}
	return strings.Join(parts, ", ")
}

// judged are policy's words on a field: its violations, else that it passed what looks at it.
func (r *rendering) judged(o render.Origin) []string {
	var out []string
	if r.denied != nil {
		for _, v := range r.denied.Violations {
			if sameField(v.Field, o) {
				out = append(out, v.Rule+": "+v.Message)
			}
		}
	}
	if len(out) > 0 {
		return out
	}
	for _, d := range r.decisions {
		if d.Outcome == "passed" && looksAt(d.Rule, o.Path) {
			out = append(out, "unrestricted/"+d.Rule+": passed")
		}
	}
	return out
}

// looksAt reports whether a rule of the profile "unrestricted" looks at a field.
func looksAt(rule, path string) bool {
	root, _, _ := strings.Cut(path, ".")
	root, _, _ = strings.Cut(root, "[")
	return rule == "identity.env" && root == "env" || rule == "identity.labels" && root == "labels" || rule == "secrets" && root == "env"
}

func sameField(violation string, o render.Origin) bool {
	return violation == o.Path || violation == o.Native || violation != "" && (strings.HasPrefix(violation, o.Path+".") || strings.HasPrefix(violation, o.Path+"["))
}

// located puts to each violation where the value stands that caused it.
func located(denied *policy.DeniedError, s *render.Spec) []violation {
	var origins []render.Origin
	if s != nil {
		origins, _ = s.Explain("")
	}
	out := make([]violation, 0, len(denied.Violations))
	for _, v := range denied.Violations {
		l := violation{Violation: v}
		for _, o := range origins {
			if sameField(v.Field, o) && len(o.Steps) > 0 && len(l.Path) <= len(o.Path) {
				at := o.Steps[0].At
				l.Path, l.File, l.Line, l.Column = o.Path, at.File, at.Line, at.Column
			}
		}
		out = append(out, l)
	}
	return out
}

// printDenial prints why policy denied, and where each value comes from.
func (a *app) printDenial(denied *policy.DeniedError, s *render.Spec, worker string) {
	if a.json() {
		for _, v := range located(denied, s) {
			d := diag.Diagnostic{Span: diag.Span{Pos: diag.Pos{File: v.File, Line: v.Line, Column: v.Column}}, Path: v.Field, Message: "denied: " + v.Rule + ": " + v.Message, Severity: diag.Error}
			a.jsonLine(a.stderr, d)
		}
		return
	}
	what := "profile unrestricted"
	if s != nil && s.Tenant != "" {
		what = "tenant " + s.Tenant + ", " + what
	}
	if worker != "" {
		what = "worker " + worker + ", " + what
	}
	fmt.Fprintln(a.stderr, a.err.paint(red, "denied:")+" "+what)
	for _, v := range located(denied, s) {
		fmt.Fprintf(a.stderr, "  %s: %s\n", v.Rule, visible(v.Message))
		if v.Line > 0 {
			text, read := sourceText(s, v.Path)
			fmt.Fprintf(a.stderr, "     %s, from %s at %s%s\n", visible(v.Field), text, place(v.File, v.Line, v.Column), read)
		}
	}
}

// sourceText is the text that a field's value was written as, and the properties that it read with their sources.
func sourceText(s *render.Spec, path string) (text, read string) {
	found, err := s.Explain(path)
	if err != nil || len(found) == 0 || len(found[0].Steps) == 0 {
		return path, ""
	}
	for _, e := range found[0].Steps[0].Expressions {
		for _, r := range e.Reads {
			if name, ok := strings.CutPrefix(r.Path, "props."); ok {
				read += fmt.Sprintf(" (property %q, source %q)", name, r.From)
			}
		}
	}
	if holdsPassword(found[0]) {
		return spec.Mask, read
	}
	return visible(short(found[0].Steps[0].Raw, 60)), read
}
