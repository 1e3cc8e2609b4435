package logging

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestRecentKeepsTheLastLines(t *testing.T) {
	for _, n := range []int{0, 1, KeptLines, KeptLines + 1, 2*KeptLines + 7} {
		var out bytes.Buffer
		r := NewRecent(&out)
		var want strings.Builder
		for i := range n {
			line := fmt.Sprintf("line %d\n", i)
			if _, err := r.Write([]byte(line)); err != nil {
				t.Fatal(err)
			}
			if i >= n-KeptLines {
				want.WriteString(line)
			}
		}
		if diff := cmp.Diff(want.String(), string(r.Lines())); diff != "" {
			t.Errorf("of %d lines (-want +got):\n%s", n, diff)
		}
		if got := strings.Count(out.String(), "\n"); got != n {
			t.Errorf("%d of %d lines were written", got, n)
		}
	}
}

// A line is what people read, and no longer than so much.
func TestRecentLines(t *testing.T) {
	var out bytes.Buffer
	r := NewRecent(&out)
	r.Write([]byte("\x1b[2m10:00\x1b[0m \x1b[92mINF\x1b[0m ready\n"))
	r.Write([]byte(strings.Repeat("x", 3*maxKeptLine) + "\n"))
	want := "10:00 INF ready\n" + strings.Repeat("x", maxKeptLine) + "…\n"
	if got := string(r.Lines()); got != want {
		t.Errorf("%d bytes: %.100q", len(got), got)
	}
	if none := (*Recent)(nil).Lines(); len(none) > 0 {
		t.Errorf("of none: %q", none)
	}
}

type failing struct{}

func (failing) Error() string { return "answer: whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw is wrong" }

// What looks like a secret is in no line, nor among those that are kept. (SEC-23)
func TestSEC23_Masked(t *testing.T) {
	token := "gk_" + strings.Repeat("Ab1_-", 8) + "xyz"
	for _, format := range []string{"json", "text"} {
		var out bytes.Buffer
		l, err := Open(&out, format, NewLevel(slog.LevelInfo))
		if err != nil {
			t.Fatal(err)
		}
		l.Info("hello", "authorization", "canary", "Set-Cookie", "canary", "X-Signature", []string{"canary"}, "api_token", "canary",
			"client_secret", errors.New("canary"), "error", failing{}, "text", "Bearer "+token, "password", map[string]string{"a": "canary"},
			"secret", struct{ A string }{"canary"}, slog.Group("headers", "cookie", "canary"),
			"token", "tok_01J9ZK8Q3M4N5P6R7S8T9V0W1X", "kept", "whsec_ and gk_ alone", "tokens", 7)
		l.With("proxy-authorization", "canary").Info("again")
		for where, text := range map[string]string{"the log": out.String(), "what is kept": string(l.Recent.Lines())} {
			for _, secret := range []string{"canary", "MfKQ9", "Ab1_-"} {
				if strings.Contains(text, secret) {
					t.Errorf("%s of %s holds %s: %s", format, where, secret, text)
				}
			}
			for _, kept := range []string{"tok_01J9ZK8Q3M4N5P6R7S8T9V0W1X", "whsec_ and gk_ alone", "7", "is wrong"} {
				if !strings.Contains(text, kept) {
					t.Errorf("%s of %s has lost %q: %s", format, where, kept, text)
				}
			}
		}
	}
}
