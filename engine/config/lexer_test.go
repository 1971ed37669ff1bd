package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// lexed writes what lex found: literals as they are, expressions in «», problems behind "!".
func lexed(text string) string {
	var b strings.Builder
	pieces, problems := lex(text)
	for _, p := range pieces {
		if p.expr {
			b.WriteString("«" + p.text + "»")
		} else {
			b.WriteString(p.text)
		}
	}
	runes := []rune(text)
	for _, p := range problems {
		b.WriteString("!" + string(runes[p.from:p.to]) + ":" + p.message)
	}
	return b.String()
}

func TestLex(t *testing.T) {
	const open, empty = `!${{:unterminated "${{"`, ":the expression is empty"
	for _, c := range []struct{ name, text, want string }{
		{"no expression", "a ${VAR} $HOME {{x}} }} $${ b", "a ${VAR} $HOME {{x}} }} $${ b"},
		{"empty text", "", ""},
		{"sole", "${{ props.a }}", "«props.a»"},
		{"no blanks", "${{a}}", "«a»"},
		{"between text", "x-${{ a }}-y", "x-«a»-y"},
		{"two", "${{ a }}${{ b }}", "«a»«b»"},
		{"literal", "$${{ a }}", "${{ a }}"},
		{"literal then expression", "$${{ a }} ${{ b }}", "${{ a }} «b»"},
		{"dollar before literal", "$$${{ a }}", "$${{ a }}"},
		{"braces in a string", `${{ '}}' + "}}" }}`, `«'}}' + "}}"»`},
		{"other quote in a string", `${{ "it's" + 'a "b"' }}`, `«"it's" + 'a "b"'»`},
		{"escaped quote", `${{ 'it\'s }}' }}`, `«'it\'s }}'»`},
		{"escaped backslash", `${{ '\\' }}`, `«'\\'»`},
		{"raw string", `${{ r'\' + "}}" }}`, `«r'\' + "}}"»`},
		{"raw string, upper case", `${{ R"\" }}`, `«R"\"»`},
		{"bytes", `${{ b'}}' }}`, `«b'}}'»`},
		{"raw bytes", `${{ br'\' + bR"\" + rb'\' }}`, `«br'\' + bR"\" + rb'\'»`},
		{"no raw string", `${{ bar'\'' }}`, `«bar'\''»`},
		{"long string", `${{ '''a'b''c}}''' }}`, `«'''a'b''c}}'''»`},
		{"long double string", `${{ """a"b""c}}""" }}`, `«"""a"b""c}}"""»`},
		{"empty strings", `${{ '' + "" }}`, `«'' + ""»`},
		{"raw long string", `${{ r'''\''' }}`, `«r'''\'''»`},
		{"map", `${{ {'a': 1} }}`, `«{'a': 1}»`},
		{"nested maps, no blank", `${{ {'a': {'b': 1}}}}`, `«{'a': {'b': 1}}»`},
		{"nested maps", `${{ {'a': {'b': 1}} }}z`, `«{'a': {'b': 1}}»z`},
		{"map index", `${{ {'a': {}}['a'] }}`, `«{'a': {}}['a']»`},
		{"message", `${{ T{a: 1} }}`, `«T{a: 1}»`},
		{"comment", "${{ a // it's }}\n + b }}", "«a // it's }}\n + b»"},
		{"slashes in a string", `${{ 'http://x' }}`, `«'http://x'»`},
		{"division", `${{ a / b }}`, `«a / b»`},
		{"lines", "${{\n a\n + b\n}}", "«a\n + b»"},
		{"wide characters", "é${{ 'ü' }}ß", "é«'ü'»ß"},
		{"text after", "${{ a }}}}", "«a»}}"},
		{"unterminated", "a ${{ b", "a " + open},
		{"unterminated at the end", "${{", open},
		{"unterminated, one brace", "${{ a }", open},
		{"unterminated string", "${{ 'a }}", open},
		{"unterminated string, escaped", `${{ 'a\' }}`, open},
		{"unterminated long string", `${{ '''a' }}`, open},
		{"unterminated map", "${{ {'a': 1 }}", open},
		{"comment over the end", "${{ a // }}", open},
		{"second opens", "${{ a ${{ b }}", open},
		{"empty", "${{}}", "!${{}}" + empty},
		{"blank", "${{  \n }}", "!${{  \n }}" + empty},
		{"empty and more", "${{ }} ${{ a }} ${{", " «a» !${{ }}" + empty + open},
		{"string ends with its line", "${{ 'a\n }}", "«'a»"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, lexed(c.text)); d != "" {
				t.Errorf("%q: -want +got:\n%s", c.text, d)
			}
		})
	}
}
