package deliver

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestOptionsCheck(t *testing.T) {
	for name, tt := range map[string]struct {
		options Options
		field   string // "": accepted
	}{
		"none":                      {Options{}, ""},
		"all":                       {Options{Format: "x", Filter: "true", RateLimit: 0.01, OrderedBy: "/data/a~1b~0c", DisableAfter: time.Hour, Redact: []Redaction{{Path: "/data", Replace: json.RawMessage("null")}, {Path: "/data/*/x"}}}, ""},
		"never disabled":            {Options{DisableAfter: NeverDisable}, ""},
		"rate: negative":            {Options{RateLimit: -1}, "rate_limit"},
		"rate: too small":           {Options{RateLimit: 0.001}, "rate_limit"},
		"rate: too large":           {Options{RateLimit: 10_001}, "rate_limit"},
		"filter: too long":          {Options{Filter: string(make([]byte, MaxFilter+1))}, "filter"},
		"ordered twice":             {Options{Ordered: true, OrderedBy: "/data/a"}, "ordered_by"},
		"ordered by no pointer":     {Options{OrderedBy: "data.a"}, "ordered_by"},
		"ordered by a wrong escape": {Options{OrderedBy: "/data/~2"}, "ordered_by"},
		"ordered by a half escape":  {Options{OrderedBy: "/data/~"}, "ordered_by"},
		"pointer too long":          {Options{OrderedBy: "/" + string(make([]byte, MaxPointer))}, "ordered_by"},
		"disabled too soon":         {Options{DisableAfter: time.Minute}, "disable_after"},
		"no trace context":          {Options{TraceParent: TraceParentOff}, ""},
		"a trace context by hand":   {Options{TraceParent: "00-1"}, "traceparent"},
		"disabled too late":         {Options{DisableAfter: 31 * 24 * time.Hour}, "disable_after"},
		"redact outside of data":    {Options{Redact: []Redaction{{Path: "/data/a"}, {Path: "/type"}}}, "redact[1]"},
		"redact a neighbour":        {Options{Redact: []Redaction{{Path: "/database"}}}, "redact[0]"},
		"redact without a path":     {Options{Redact: []Redaction{{}}}, "redact[0]"},
		"redact by no JSON":         {Options{Redact: []Redaction{{Path: "/data/a", Replace: json.RawMessage("x")}}}, "redact[0]"},
		"redact by too much":        {Options{Redact: slices.Repeat([]Redaction{{Path: "/data/a", Replace: json.RawMessage(`"` + strings.Repeat("x", MaxReplace-2) + `"`)}}, 16)}, "redact"},
		"redact for too many types": {Options{Redact: []Redaction{{Path: "/data/a", Types: slices.Repeat([]string{strings.Repeat("x", 128)}, 128)}}}, "redact"},
		"too many redactions":       {Options{Redact: make([]Redaction, MaxRedactions+1)}, "redact"},
	} {
		t.Run(name, func(t *testing.T) {
			err := tt.options.Check()
			var bad *OptionError
			switch {
			case tt.field == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tt.field != "" && (!errors.As(err, &bad) || bad.Field != tt.field):
				t.Errorf("got %v, want an error of %s", err, tt.field)
			}
		})
	}
}
