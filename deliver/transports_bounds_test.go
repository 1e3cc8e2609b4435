package deliver

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTransportsAreBounded(t *testing.T) {
	ca, err := os.ReadFile("../testdata/credentials/authority.pem")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		s := NewSender(SenderOptions{MaxIdleConns: 4096})
		defer s.Close()
		ts := s.transports
		identity := func(n int) *Target {
			c := &Credentials{TLS: Identity{CA: string(ca) + strings.Repeat("\n", n)}}
			return &Target{credentials: c, identity: c.TLS.fingerprint()}
		}
		kept := identity(0)
		first, err := ts.of(kept)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 * identities {
			time.Sleep(time.Millisecond)
			if _, err := ts.of(identity(i + 1)); err != nil {
				t.Fatal(err)
			}
			if again, _ := ts.of(kept); again != first {
				t.Fatalf("after %d others the one in use was dropped", i+1)
			}
		}
		if len(ts.known) != identities {
			t.Errorf("%d identities are kept, want %d", len(ts.known), identities)
		}
		if all := ts.open.Load().MaxIdleConns + identities*first.MaxIdleConns; all > 4096 {
			t.Errorf("%d idle connections in all", all)
		}
		time.Sleep(identityIdle + time.Second)
		if _, err := ts.of(identity(10_000)); err != nil || len(ts.known) != 1 {
			t.Errorf("%d identities are kept after a minute of silence, %v", len(ts.known), err)
		}
		if _, err := ts.of(&Target{credentials: &Credentials{TLS: Identity{CA: "none"}}, identity: [32]byte{1}}); err == nil {
			t.Error("an authority that cannot be read makes a transport")
		}
	})
}

func TestTokensAreBounded(t *testing.T) {
	ts := newTokens(context.Background(), nil, "", nil)
	for i := range 2 * maxTokens {
		ts.state(&Target{id: fmt.Sprint(i)}).ends = time.Now().Add(time.Hour)
	}
	if len(ts.known) > maxTokens {
		t.Errorf("%d tokens are kept, want at most %d", len(ts.known), maxTokens)
	}
	for _, s := range ts.known {
		s.ends = time.Now()
	}
	if ts.state(&Target{id: "one more"}); len(ts.known) != 1 {
		t.Errorf("%d tokens are kept that have ended", len(ts.known)-1)
	}
}
