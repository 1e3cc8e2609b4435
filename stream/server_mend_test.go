package stream_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/grapnel-hooks/grapnel/stream"
)

// A stream that is updated when the server dies is there again, with what is in
// it (REL-01). The server itself leaves it out: each of these states is one
// between two of its steps.
func TestUpdateCutInTwo(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(t *testing.T, meta, sum string, old []byte)
		lost bool
	}{
		{name: "before the checksum is replaced", harm: func(t *testing.T, _, sum string, old []byte) {
			write(t, sum, old, time.Now().Add(-time.Minute))
		}},
		{name: "before there is a checksum", harm: func(t *testing.T, _, sum string, _ []byte) {
			if err := os.Remove(sum); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "damaged since, which nothing may hide", lost: true, harm: func(t *testing.T, meta, sum string, _ []byte) {
			text, err := os.ReadFile(meta)
			if err != nil {
				t.Fatal(err)
			}
			write(t, meta, bytes.Replace(text, []byte(`"limits"`), []byte(`"limitz"`), 1), time.Now().Add(-time.Minute))
		}},
		{name: "torn, which nothing may hide", lost: true, harm: func(t *testing.T, meta, _ string, _ []byte) {
			text, err := os.ReadFile(meta)
			if err != nil {
				t.Fatal(err)
			}
			write(t, meta, text[:len(text)/2], time.Now().Add(time.Minute))
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, name := t.TempDir(), "EVENTS_acme"
			files := filepath.Join(dir, "jetstream", "$G", "streams", name)
			meta, sum := filepath.Join(files, "meta.inf"), filepath.Join(files, "meta.sum")
			var old []byte
			life := func(f func(b *stream.Client)) {
				server, err := stream.StartServer(t.Context(), stream.ServerOptions{Dir: dir, Listen: "off", MinFree: 1})
				if err != nil {
					t.Fatal(err)
				}
				defer server.Close()
				b, err := stream.Connect(t.Context(), stream.Options{Server: server, Installation: "ours"})
				if err != nil {
					t.Fatal(err)
				}
				defer b.Close()
				f(b)
			}
			life(func(b *stream.Client) {
				if _, err := b.Create(t.Context(), stream.OrgStream{Org: "acme"}); err != nil {
					t.Fatal(err)
				}
				old = read(t, sum)
				if _, err := b.Append(t.Context(), "acme", event("x")); err != nil {
					t.Fatal(err)
				}
				if _, err := b.Create(t.Context(), stream.OrgStream{Org: "acme", Subjects: []string{"webhook.>"}}); err != nil {
					t.Fatal(err)
				}
				if bytes.Equal(old, read(t, sum)) {
					t.Fatal("the stream was not updated")
				}
			})
			c.harm(t, meta, sum, old)
			life(func(b *stream.Client) {
				switch st, err := b.State(t.Context(), name); {
				case c.lost && err == nil:
					t.Errorf("the stream is taken, though what says what it is is damaged")
				case !c.lost && err != nil:
					t.Errorf("the stream is lost: %v", err)
				case !c.lost && st.Last != 1:
					t.Errorf("the stream ends with %d, want 1", st.Last)
				}
			})
		})
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// write writes a file as it was written then.
func write(t *testing.T, file string, text []byte, at time.Time) {
	t.Helper()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, at, at); err != nil {
		t.Fatal(err)
	}
}
