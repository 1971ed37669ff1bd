package docker

import (
	"errors"
	"strings"
)

// splitCommand splits a text into words as docker-py does with Python's shlex.split: POSIX quoting, no comments, no
// expansion. (The Go libraries for this drop everything after a "#".)
func splitCommand(s string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case ' ', '\t', '\r', '\n':
			if inWord {
				words, inWord = append(words, word.String()), false
				word.Reset()
			}
		case '\'':
			inWord = true
			end := strings.IndexByte(s[i+1:], '\'')
			if end < 0 {
				return nil, errors.New("a quotation is not closed")
			}
			word.WriteString(s[i+1 : i+1+end])
			i += end + 1
		case '"':
			inWord = true
			closed := false
			for i++; i < len(s) && !closed; i++ {
				switch {
				case s[i] == '"':
					closed = true
					i--
				case s[i] == '\\' && i+1 < len(s) && (s[i+1] == '"' || s[i+1] == '\\'):
					i++
					word.WriteByte(s[i])
				default:
					word.WriteByte(s[i])
				}
			}
			if !closed {
				return nil, errors.New("a quotation is not closed")
			}
		case '\\':
			if i+1 == len(s) {
				return nil, errors.New("nothing follows the last backslash")
			}
			i++
			inWord = true
			word.WriteByte(s[i])
		case 0:
			return nil, errors.New("a NUL byte cannot stand here")
		default:
			inWord = true
			word.WriteByte(c)
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
