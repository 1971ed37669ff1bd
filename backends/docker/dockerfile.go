package docker

import (
	"bytes"
	"regexp"
	"strings"

	"github.com/distribution/reference"

	"github.com/latent-engine/latent-engine/engine/spec"
)

// marks are the labels that everything carries that a build makes on its way. The base image's own labels must not make an
// instance of it.
func marks(engine, instance string) string {
	return "LABEL " + spec.LabelEngine + "=" + engine + " " + spec.LabelInstance + "= " + labelBuild + "=" + instance
}

// labelStages puts a LABEL after every FROM of a Dockerfile, and counts them.
//
// The engine's own builder commits an image for every step. If the connection breaks (we were killed, say), it kills the step
// under way and keeps the images, nameless and without any label of ours: the labels of the API's call come with the very last
// step. With a LABEL as each stage's first step, every later image and every step's container has it, and List finds them.
// What triggers (ONBUILD) of a base image make comes before it and has none.
func labelStages(dockerfile []byte, label string) (out []byte, stages int) {
	b := make([]byte, 0, len(dockerfile)+256)
	escape := byte('\\')
	directives, within, from := true, false, false
	for rest := dockerfile; len(rest) > 0; {
		line := rest
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			line = rest[:i+1]
		}
		rest = rest[len(line):]
		b = append(b, line...)
		text := bytes.TrimRight(line, "\r\n")
		if !within {
			text = bytes.TrimPrefix(text, []byte("\ufeff"))
		}
		trimmed := bytes.TrimSpace(text)
		if directives {
			if m := directive.FindSubmatch(trimmed); m != nil {
				if strings.EqualFold(string(m[1]), "escape") && string(m[2]) == "`" {
					escape = '`'
				}
				continue
			}
			directives = false
		}
		if len(trimmed) == 0 || trimmed[0] == '#' {
			continue
		}
		if !within {
			word, _, _ := bytes.Cut(bytes.ReplaceAll(trimmed, []byte("\t"), []byte(" ")), []byte(" "))
			from = strings.EqualFold(string(word), "FROM")
			if from {
				stages++
			}
		}
		within = continues(text, escape)
		if from && !within {
			if line[len(line)-1] != '\n' {
				b = append(b, '\n')
			}
			b = append(append(b, label...), '\n')
		}
	}
	return b, stages
}

var directive = regexp.MustCompile(`^#\s*([a-zA-Z][a-zA-Z0-9]*)\s*=\s*(.+?)\s*$`)

// continues reports whether a line goes on in the next: it ends in one escape character.
func continues(text []byte, escape byte) bool {
	text = bytes.TrimRight(text, " \t")
	n := len(text)
	return n > 0 && text[n-1] == escape && (n == 1 || text[n-2] != escape)
}

var (
	fromLine  = regexp.MustCompile(`(?im)^[ \t]*FROM[ \t]+(?:--\S+[ \t]+)*(\S+)`)
	onlyInKit = regexp.MustCompile(`(?im)^[ \t]*(?:RUN[ \t]+--(?:mount|network|security)\b|(?:COPY|ADD)[ \t]+.*--(?:link|checksum|parents|exclude)\b|(?:RUN|COPY|ADD)[ \t]+.*<<-?["']?[A-Za-z_])|^#[ \t]*syntax[ \t]*=`)
)

// baseNames are the images that a Dockerfile starts from, as far as they stand there in full.
func baseNames(dockerfile []byte) []reference.Named {
	var out []reference.Named
	for _, m := range fromLine.FindAllSubmatch(dockerfile, 100) {
		if n, err := reference.ParseNormalizedNamed(string(m[1])); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// needsBuildKit reports whether a Dockerfile has what the engine's own builder cannot do. It is asked only after a build
// failed: the builder's word comes first.
func needsBuildKit(dockerfile []byte) bool { return onlyInKit.Match(dockerfile) }
