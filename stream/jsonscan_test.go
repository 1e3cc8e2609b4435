package stream

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func checkSound(t *testing.T, b []byte) {
	t.Helper()
	want := json.Valid(b) && utf8.Valid(b) && !tooDeep(b, MaxDepth)
	if got := soundJSON(b); got != want {
		t.Errorf("%q: sound %v, want %v", b, got, want)
	}
}

// Every text of up to three of these pieces is judged as encoding/json judges it.
func TestSoundJSON(t *testing.T) {
	pieces := []string{`{`, `}`, `[`, `]`, `:`, `,`, `"a"`, `"`, `\`, `\u00e9`, `\u00g9`, `\u00`, `\x`, "\xc3\xa9", "\xc3", "\x00", "\n", " ", "\v",
		`0`, `1`, `-`, `+`, `.`, `e`, `E`, `true`, `tru`, `false`, `null`, `nul`, `{"a":1`, `,"b":[`}
	var build func(prefix string, n int)
	build = func(prefix string, n int) {
		checkSound(t, []byte(prefix))
		checkSound(t, []byte(`"`+prefix+`"`))
		if n == 0 {
			return
		}
		for _, p := range pieces {
			build(prefix+p, n-1)
		}
	}
	build("", 3)
	for n := MaxDepth - 1; n <= MaxDepth+1; n++ {
		for _, s := range []string{
			strings.Repeat("[", n) + strings.Repeat("]", n),
			strings.Repeat(`{"a":`, n) + "1" + strings.Repeat("}", n),
			strings.Repeat(`[{"a":`, n/2) + "[]" + strings.Repeat("}]", n/2),
			strings.Repeat("[", n) + strings.Repeat("]", n-1) + "}",
		} {
			checkSound(t, []byte(s))
		}
	}
}

func FuzzSoundJSON(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2.5e+3,true,false,null,"\"\\\/\b\f\n\r\t\u00e9é"],"b":{}}`, `[[],{}]`, ` "x" `, `-0`, `01`, `1.`, `1e`, `"\ud800"`, "\"\xff\"", `[1,]`, `{"a":1,}`, `{"a"}`, `{1:1}`} {
		f.Add([]byte(s))
	}
	f.Add(benchMessage(600).Data)
	f.Fuzz(func(t *testing.T, b []byte) { checkSound(t, b) })
}
