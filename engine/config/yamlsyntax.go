package config

import (
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// syntax reports, in our words, what made the YAML library stop. It tells only a line, often not the one that matters: how far
// it had read tells more, and a look at the text before that place mostly finds the mistake itself.
func (t *tree) syntax(err error) {
	text := err.Error()
	read := consumed(t.f.src)
	s := scout(t.f.src[:read])
	at := func(from, to int, hint, message string) { t.errorf(t.f.span(from, to), hint, "%s", message) }
	has := func(part string) bool { return strings.Contains(text, part) }
	switch {
	case s.expr >= 0:
		at(s.expr, s.expr+3, `quote it: "${{ ... }}"`, "inside [ ] and { }, an expression must be quoted")
	case has("unknown anchor"):
		i := s.last('*')
		at(i, i+len(word(t.f.src[i:])), `write the value out, or quote it if the "*" belongs to it`, "aliases are not read")
	case has("exceeded max depth"):
		at(s.token, s.token+1, "", "nested too deeply")
	case has("mapping values are not allowed"):
		t.secondColon(s, read)
	case has("tab character"):
		i := s.back(read, "\t")
		at(i, i+1, "indent with spaces", "a tab cannot indent a line")
	case has("cannot start any token"):
		i := s.back(read, "\t@`%|>&*!")
		if t.f.src[min(i, len(t.f.src)-1)] == '\t' {
			at(i, i+1, "indent with spaces", "a tab cannot indent a line")
			return
		}
		at(i, i+1, "quote the value", "a plain text cannot start with "+quoteAt(t.f.src, i))
	case has("unexpected end of stream"), has("unexpected document indicator"):
		i := s.quote
		if i < 0 {
			i = s.token
		}
		at(i, i+1, "", "this quoted text is not closed")
	case has("unknown escape character"), has("hexdecimal"), has("Unicode character escape"):
		i := s.back(read, `\`)
		size := 1
		if i+1 < len(t.f.src) {
			_, size = utf8.DecodeRuneInString(t.f.src[i+1:])
			size++
		}
		at(i, i+size, `in single quotes, a "\" is an ordinary character`, "this is not an escape that YAML knows")
	case has("indentation indicator equal to 0"), has("comment or line break"):
		at(s.token, t.f.lineEnd(t.f.pos(s.token).Line), `such as "|", "|-" or ">2"; the text begins on the next line`, "this is not how a block of text begins")
	case has("alphabetic or numeric character"):
		i := s.back(read, "*&")
		at(i, i+len(word(t.f.src[i:])), "quote the value", "a plain text cannot start with "+quoteAt(t.f.src, i))
	case has("tag"), has("'>'"), has("'!'"), has("URI"), has("octet"), has("whitespace or line break"):
		i := s.last('!')
		at(i, i+len(word(t.f.src[i:])), `leave it out, or quote the value if the "!" belongs to it`, "tags are not read")
	case s.mismatch >= 0:
		at(s.mismatch, s.mismatch+1, quoteHint(t.f.src, s.mismatch), "this "+quoteAt(t.f.src, s.mismatch)+" closes nothing that is open here")
	case len(s.open) > 0 && unclosed(t.f.src, s) >= 0:
		i := unclosed(t.f.src, s)
		at(i, i+1, quoteHint(t.f.src, i), "this "+quoteAt(t.f.src, i)+" is not closed")
	case (has("find expected ',' or") || has("node content")) && questioned(t.f.src[:read]) >= 0:
		i := questioned(t.f.src[:read])
		at(i, i+1, `quote it: "string?"`, `inside [ ] and { }, a text with a "?" at its end must be quoted`)
	case has("find expected ',' or") && s.comma >= 0:
		at(s.comma, s.comma+max(1, len(word(t.f.src[s.comma:]))), quoteHint(t.f.src, s.comma), `a "," is missing before this`)
	case has("find expected ',' or"), has("node content"):
		at(s.token, s.token+1, quoteHint(t.f.src, s.token), "a value cannot start with "+quoteAt(t.f.src, s.token))
	case has("block sequence entries"):
		at(s.token, s.token+1, "put the list on lines of its own, or quote the value", `a list item ("- ") cannot start here`)
	case has("mapping keys are not allowed"):
		at(s.token, s.token+1, "quote the value", "a key cannot start here")
	case s.after >= 0:
		at(s.after, s.after+max(1, len(word(t.f.src[s.after:]))), quoteHint(t.f.src, s.after), "text after the end of a value")
	case has("document start"):
		at(s.token, s.token+1, "", "text after the end of the document")
	case has("expected ':'"):
		// Here the library's line is the key's own.
		line, _ := strconv.Atoi(strings.TrimSuffix(strings.Fields(text + " 0 0 0")[2], ":"))
		off := t.f.offset(min(max(line, 1), len(t.f.lines)), 1)
		end := t.f.lineEnd(t.f.pos(off).Line)
		off += len(t.f.src[off:end]) - len(strings.TrimLeft(t.f.src[off:end], " -"))
		at(off, end, "", `this line has no ": "`)
	case has("'-' indicator"), has("expected key"):
		t.indentation(s, read)
	default:
		at(s.token, s.token+1, "", "this is not valid YAML")
	}
}

// unclosed is the bracket that the whole text never closes, -1 where there is none.
func unclosed(src string, s *scouted) int {
	all := scout(src)
	switch {
	case all.mismatch >= 0 || all.quote >= 0 || all.expr >= 0:
		return s.open[0]
	case len(all.open) > 0:
		return all.open[0]
	}
	return -1
}

func quoteAt(src string, i int) string {
	if i >= len(src) {
		return "the end of the file"
	}
	r, _ := utf8.DecodeRuneInString(src[i:])
	return `"` + string(r) + `"`
}

// quoteHint helps with the commonest mistake of this language: an expression that must be quoted, because YAML reads a part
// of it as its own.
func quoteHint(src string, i int) string {
	if strings.Contains(lineAt(src, i), "${{") {
		return `quote the whole value: "${{ ... }}"`
	}
	return ""
}

func lineAt(src string, i int) string {
	i = min(i, len(src))
	start := strings.LastIndexByte(src[:i], '\n') + 1
	line, _, _ := strings.Cut(src[start:], "\n")
	return line
}

// secondColon: ": " where no key can be.
func (t *tree) secondColon(s *scouted, read int) {
	src := t.f.src
	i := s.back(read, ":")
	start := strings.LastIndexByte(src[:min(i, len(src))], '\n') + 1
	before := strings.TrimLeft(src[start:i], " -")
	switch {
	case strings.Contains(before, ": "), strings.Contains(before, `":`), strings.Contains(before, "{"), strings.Contains(before, "["):
		hint := `quote the value if the ": " belongs to it`
		if strings.Contains(before, "${{") {
			hint = `quote the whole value: "${{ ... }}"`
		}
		t.errorf(t.f.span(i, i+1), hint, `a second ": " in one plain value`)
	default:
		key := start + len(src[start:i]) - len(before)
		t.errorf(t.f.span(key, i), `is this line indented too far, or is a ":" missing on the line before?`, "a key cannot start here")
	}
}

// indentation: a line that fits none of those above it, or a list item among keys.
func (t *tree) indentation(s *scouted, read int) {
	src := t.f.src
	var indents []int
	items := map[int]bool{}
	found, fits, opens := -1, true, true // opens: the line before ends with ":", so that a list may follow unindented
	for off := 0; off < read; {
		text, _, _ := strings.Cut(src[off:], "\n")
		next := off + len(text) + 1
		body := strings.TrimLeft(text, " ")
		indent := len(text) - len(body)
		if body == "" || body == "\r" || body[0] == '#' || s.inside(off) {
			off = next
			continue
		}
		item := strings.HasPrefix(body, "- ") || body == "-"
		popped := false
		for len(indents) > 0 && indents[len(indents)-1] > indent {
			delete(items, indents[len(indents)-1])
			indents = indents[:len(indents)-1]
			popped = true
		}
		switch same := len(indents) > 0 && indents[len(indents)-1] == indent; {
		case popped && !same:
			found, fits = off+indent, false
		case same && items[indent] && !item, same && !items[indent] && item && !opens && !popped:
			found = off + indent
		case !same:
			indents = append(indents, indent)
			items[indent] = item
		}
		if found >= 0 {
			break
		}
		code, _, _ := strings.Cut(body, " #")
		opens = item || strings.HasSuffix(strings.TrimRight(code, " \t\r"), ":")
		// Keys behind "- " open a level of their own.
		for item {
			body = strings.TrimLeft(body[1:], " ")
			inner := len(strings.TrimRight(text, "\r")) - len(strings.TrimRight(body, "\r"))
			item = strings.HasPrefix(body, "- ")
			if body != "" && body != "\r" {
				indents = append(indents, inner)
				items[inner] = item
			}
		}
		off = next
	}
	switch {
	case found >= 0 && !fits:
		t.errorf(t.f.span(found, t.f.lineEnd(t.f.pos(found).Line)), "", "the indentation of this line fits none of the lines above it")
	case found >= 0:
		t.errorf(t.f.span(found, t.f.lineEnd(t.f.pos(found).Line)), "", `a list item and a key ("key: value") stand side by side`)
	default:
		// The last line read that has a text: it is the one that does not go on as the lines above began.
		off := s.token
		if s.lineToken >= 0 {
			off = s.lineToken
		}
		t.errorf(t.f.span(off, t.f.lineEnd(t.f.pos(off).Line)), `a line is "key: value" or "- item", indented like those beside it`, "this line does not go on what the lines above it began")
	}
}

// consumed is how many bytes the YAML library had read when it stopped: it is given one byte at a time.
func consumed(src string) (n int) {
	r := &byteReader{src: src}
	defer func() {
		if recover() != nil {
			n = r.i
		}
	}()
	dec := yaml.NewDecoder(r)
	for {
		var n yaml.Node
		if err := dec.Decode(&n); err != nil {
			return r.i
		}
	}
}

type byteReader struct {
	src string
	i   int
}

func (r *byteReader) Read(p []byte) (int, error) {
	if r.i == len(r.src) || len(p) == 0 {
		return 0, io.EOF
	}
	p[0] = r.src[r.i]
	r.i++
	return 1, nil
}

// scouted is what a look over a YAML text finds without parsing it.
type scouted struct {
	src       string
	open      []int // brackets that are not closed
	mismatch  int   // a bracket that closes nothing; -1 = none
	quote     int   // a quote that is not closed; -1 = none
	comma     int   // a token in a flow collection with no "," before it; -1 = none
	expr      int   // a "${{" in a flow collection that is not quoted; -1 = none
	after     int   // text that follows a closed quote or bracket on its line; -1 = none
	token     int   // where the last token starts
	lineToken int   // where the last line that is not empty starts, after its indentation
	starts    []int // starts of tokens that begin with one of & * !
	blocks    [][2]int
}

// inside reports whether the line that starts at off belongs to a block scalar, a quote or a flow collection that began before.
func (s *scouted) inside(off int) bool {
	lo, hi := 0, len(s.blocks)
	for lo < hi {
		if m := (lo + hi) / 2; s.blocks[m][1] <= off {
			lo = m + 1
		} else {
			hi = m
		}
	}
	return lo < len(s.blocks) && s.blocks[lo][0] < off
}

// last is where the last token that begins with c starts.
func (s *scouted) last(c byte) int {
	for _, v := range slices.Backward(s.starts) {
		if s.src[v] == c {
			return v
		}
	}
	return s.token
}

// back is the last of the characters in set at most a few before end.
func (s *scouted) back(end int, set string) int {
	end = min(end, len(s.src))
	if i := strings.LastIndexAny(s.src[max(0, end-12):end], set); i >= 0 {
		return max(0, end-12) + i
	}
	return s.token
}

// scout walks over src as a tolerant reader: where tokens start, which brackets and quotes are open at the end.
func scout(src string) *scouted {
	s := &scouted{src: src, mismatch: -1, quote: -1, comma: -1, expr: -1, after: -1, lineToken: -1}
	lineStart, fresh := 0, true // fresh: a token may start here
	closed := false             // a quote or bracket was closed on this line, in block context
	indent := 0
	flowFrom := 0
	colons := map[int]int{} // by depth: ":" in the flow entry that is read
	for i := 0; i < len(src); {
		c := src[i]
		flow := len(s.open) > 0
		switch {
		case c == '\n':
			i++
			lineStart, fresh, closed, indent = i, true, false, -1
			continue
		case c == ' ' || c == '\t' || c == '\r':
			i++
			if i < len(src) && src[i] == '#' {
				fresh = true
			}
			continue
		case c == '#' && (i == lineStart || src[i-1] == ' ' || src[i-1] == '\t'):
			for i < len(src) && src[i] != '\n' {
				i++
			}
			continue
		}
		if indent < 0 || i == lineStart {
			indent = i - lineStart
			if !flow {
				s.lineToken = i
			}
		}
		blankNext := i+1 >= len(src) || src[i+1] == ' ' || src[i+1] == '\n' || src[i+1] == '\t' || src[i+1] == '\r'
		switch {
		case (c == ':' || c == '?' || c == '-') && blankNext || flow && c == ':' && closed:
			if flow && c == ':' {
				if colons[len(s.open)]++; colons[len(s.open)] > 1 && s.comma < 0 {
					if s.comma = i; lineStart > s.open[len(s.open)-1] {
						s.comma = lineStart + indent
					}
				}
			}
			s.token = i
			fresh, closed = true, false
			i++
			continue
		case flow && c == ',':
			colons[len(s.open)] = 0
			fresh, closed = true, false
			i++
			continue
		case (c == ']' || c == '}') && (flow || fresh):
			s.token = i
			if !flow || (src[s.open[len(s.open)-1]] == '[') != (c == ']') {
				if s.mismatch < 0 {
					s.mismatch = i
				}
				return s
			}
			s.open = s.open[:len(s.open)-1]
			if len(s.open) == 0 {
				s.blocks = append(s.blocks, [2]int{flowFrom, i})
			}
			fresh, closed = false, true
			i++
			continue
		case closed && !flow:
			if s.after < 0 {
				s.after = i
			}
			s.token = i
			fresh, closed = false, false
			i++
			continue
		case flow && c == '$' && strings.HasPrefix(src[i:], "${{"):
			s.expr = i
			return s
		case flow && closed:
			if s.comma < 0 {
				s.comma = i
			}
			fresh, closed = true, false
			continue
		case (c == '[' || c == '{') && (fresh || flow):
			if !flow {
				flowFrom = i
			}
			s.token = i
			s.open = append(s.open, i)
			colons[len(s.open)] = 0
			fresh = true
			i++
			continue
		case (c == '"' || c == '\'') && fresh:
			s.token = i
			end := quoteEnd(src, i)
			if end < 0 {
				s.quote = i
				s.open = nil
				return s
			}
			if strings.IndexByte(src[i:end], '\n') >= 0 && !flow {
				s.blocks = append(s.blocks, [2]int{i, end})
				lineStart = strings.LastIndexByte(src[:end], '\n') + 1
			}
			i, fresh, closed = end, false, true
			continue
		case (c == '|' || c == '>') && fresh && !flow:
			s.token = i
			from := i
			for i < len(src) && src[i] != '\n' {
				i++
			}
			i = blockEnd(src, i, indent)
			s.blocks = append(s.blocks, [2]int{from, i})
			lineStart, fresh, closed, indent = i, true, false, -1
			continue
		case fresh:
			s.token = i
			if c == '&' || c == '*' || c == '!' {
				s.starts = append(s.starts, i)
				// What follows an anchor or a tag starts a token, too.
				for i < len(src) && src[i] != ' ' && src[i] != '\n' && src[i] != ',' {
					i++
				}
				continue
			}
			fresh = false
		}
		i++
	}
	return s
}

// quoteEnd is the offset behind the quoted scalar at i, or -1.
func quoteEnd(src string, i int) int {
	q := src[i]
	for i++; i < len(src); i++ {
		switch {
		case src[i] == '\\' && q == '"':
			i++
		case src[i] == q:
			if q == '\'' && i+1 < len(src) && src[i+1] == '\'' {
				i++
				continue
			}
			return i + 1
		}
	}
	return -1
}

// blockEnd is the offset of the first line after i that does not belong to a block scalar on a line of the given indentation.
func blockEnd(src string, i, indent int) int {
	for i < len(src) {
		i++ // the line break
		text, _, _ := strings.Cut(src[i:], "\n")
		if body := strings.TrimLeft(text, " "); strings.TrimSpace(body) != "" && len(text)-len(body) <= indent {
			return i
		}
		i += len(text)
	}
	return len(src)
}

// questioned is the last "?" at the end of a plain text inside [ ] or { }, on a line without quotes before it; -1 where there
// is none. The library takes it for the sign of a key.
func questioned(src string) int {
	// Only the nearest few are looked at: a line may be as long as the file.
	for i, tries := len(src)-2, 0; i > 0 && tries < 100; i-- {
		if src[i] != '?' || !strings.ContainsRune(",}]", next(src[i+1:])) {
			continue
		}
		tries++
		before := src[strings.LastIndexByte(src[:i], '\n')+1 : i]
		if strings.ContainsAny(before, "[{") && !strings.ContainsAny(before, "\"'#") && !strings.HasSuffix(before, " ") {
			return i
		}
	}
	return -1
}

// next is the first character of s that is no blank, a line break where there is none.
func next(s string) rune {
	s = strings.TrimLeft(s[:min(len(s), 100)], " ")
	if s == "" {
		return '\n'
	}
	return rune(s[0])
}
