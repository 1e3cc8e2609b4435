package filter_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/grapnel-hooks/grapnel/fanout/filter"
)

const dataSize = 256 << 10

// filled is an object with room for what is repeated, as large as data may be.
func filled(head, again, tail string) string {
	n := (dataSize - len(head) - len(tail)) / len(again)
	return head + strings.Repeat(again, n) + tail
}

// worst are filters, and data of 256 KiB on which they take long.
var worst = map[string]struct{ filter, data string }{
	"small members":   {manyPaths("data.%c%d == 1"), filled(`{`, `"a":1,`, `"b":1}`)},
	"empty names":     {manyPaths("data.%c%d == 1"), filled(`{`, `"":1,`, `"b":1}`)},
	"small elements":  {`data.exists(i, i == 2)`, filled(`[`, `1,`, `1]`)},
	"nested elements": {`data.exists(i, i.exists(j, j.exists(k, k == 2)))`, filled(`[`, `[[1]],`, `1]`)},
	"small objects":   {`data.exists(i, i.a == 2)`, filled(`[`, `{"a":1},`, `{}]`)},
	"skipped strings": {`data.x == 2`, filled(`{"y":[`, `"",`, `""]}`)},
	"skipped arrays":  {`data.x == 2`, filled(`{"y":[`, `[],`, `""]}`)},
	"skipped escapes": {`data.x == 2`, filled(`{"y":"`, `\\`, `"}`)},
	"escaped names":   {manyPaths("data.%c%d == 1"), filled(`{`, `"\u0061":1,`, `"b":1}`)},
	"near names":      {manyPaths("data.%c%02d == 1"), filled(`{`, `"a99":1,`, `"b":1}`)},
	"all at once":     {strings.Join(strings.SplitAfter(manyPaths("data.%c%d == 1"), "||")[:48], "") + `data.z` + `||data.x.matches("(a|ab|b)*c")`, filled(`{"x":"`+strings.Repeat("ab", 900)+`",`, `"\u0061":1,`, `"b":1}`)},
	"one string":      {`data.x.contains("b")`, filled(`{"x":"`, `a`, `"}`)},
	"escaped string":  {`data.x.contains("b") || data.x.contains("c")`, filled(`{"x":"`, `\n`, `"}`)},
	"unicode string":  {`data.x.contains("b") || data.x.contains("c")`, filled(`{"x":"`, `\u00fc`, `"}`)},
	"contains":        {strings.Repeat(`data.x.contains("aaaaaaaab")||`, 49) + `data.x`, filled(`{"x":"`, `a`, `"}`)},
	"long contains":   {`data.x.contains("` + strings.Repeat("a", 100) + `b")`, filled(`{"x":"`, `a`, `"}`)},
	"patterns":        {strings.Repeat(`data.exists(i, i.matches("(a|ab)*c"))||`, 40) + `data.x`, filled(`[`, `"abababab",`, `1]`)},
	"one pattern":     {`data.x.matches("(x+x+)+y")`, filled(`{"z":[`, `1,`, `1],"x":"`+strings.Repeat("x", 2000)+`"}`)},
	"long pattern":    {`data.x.matches("` + strings.Repeat("(a|b)?", 40) + `c")`, filled(`{"z":[`, `1,`, `1],"x":"`+strings.Repeat("ab", 400)+`"}`)},
	"many values":     {strings.Repeat(`data.exists(i, i > 5)||`, 49) + `data.x`, filled(`[`, `1,`, `1]`)},
	"many constants":  {`data.exists(i, i in [` + strings.Repeat("9,", 900) + `9])`, filled(`[`, `1,`, `1]`)},
	"many strings":    {`data.exists(i, i in [` + strings.Repeat("'abcdefgh',", 150) + `'i'])`, filled(`[`, `"abcdefgi",`, `1]`)},
	"long number":     {strings.Repeat(`data.x > 111||`, 49) + `data.x`, filled(`{"x":1`, `1`, `}`)},
	"long names":      {`data.` + strings.Repeat("a", 1900) + ` == 1`, filled(`{`, `"`+strings.Repeat("a", 1899)+`b":1,`, `"b":1}`)},
}

// manyPaths is a filter of 50 tests, each of another path.
func manyPaths(test string) string {
	var b strings.Builder
	for i := range filter.MaxTests {
		if i > 0 {
			b.WriteString("||")
		}
		fmt.Fprintf(&b, test, 'a'+i%5, i)
	}
	return b.String()
}

// BenchmarkWorst has to stay below 1 ms (SEC-30).
func BenchmarkWorst(b *testing.B) {
	for name, c := range worst {
		f := mustCompile(b, c.filter)
		ev := of(c.data)
		b.Run(strings.ReplaceAll(name, " ", "-"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				f.Match(ev)
			}
		})
	}
}

// BenchmarkMatch is an ordinary filter and event.
func BenchmarkMatch(b *testing.B) {
	g := filter.NewGroup([]*filter.Filter{mustCompile(b, `data.amount >= 1000 && data.currency in ["EUR", "CHF"]`)})
	ev := invoice(b)
	ev.Data = bytes.Clone(ev.Data)
	b.ReportAllocs()
	for b.Loop() {
		r := g.Read(ev)
		r.Match(0)
		r.Close()
	}
}

// BenchmarkThousand is a thousand different filters at one event.
func BenchmarkThousand(b *testing.B) {
	var all []*filter.Filter
	for i := range 1000 {
		all = append(all, mustCompile(b, fmt.Sprintf(`data.amount >= %d && data.customer.country == "C%d"`, i, i)))
	}
	g := filter.NewGroup(all)
	ev := invoice(b)
	b.ReportAllocs()
	for b.Loop() {
		r := g.Read(ev)
		for i := range all {
			r.Match(i)
		}
		r.Close()
	}
}

func BenchmarkCompile(b *testing.B) {
	for b.Loop() {
		mustCompile(b, `data.amount >= 1000 && data.currency in ["EUR", "CHF"]`)
	}
}
