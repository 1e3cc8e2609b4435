package httpapi_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve answers on a socket until stop is called, which waits for its end.
func serve(t *testing.T, h http.Handler) (path string, c *http.Client, stop func() error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "grapnel")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path = filepath.Join(dir, "grapnel.sock")
	l, err := httpapi.ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- httpapi.Serve(ctx, l, h, slog.New(slog.DiscardHandler)) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	return path, &http.Client{Transport: transport}, func() error {
		cancel()
		err := <-ended
		transport.CloseIdleConnections()
		return err
	}
}

func TestSocketIsItsOwnersAlone(t *testing.T) {
	path, c, stop := serve(t, operator(httpapitest.New()))
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("mode is %o, want 600", got)
	}
	resp, err := c.Get("http://grapnel/api/v1/orgs")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 200 {
		t.Errorf("status %d", resp.StatusCode)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// A daemon that was killed leaves its socket behind.
func TestOldSocketIsReplaced(t *testing.T) {
	dir, err := os.MkdirTemp("", "grapnel")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "grapnel.sock")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	l, err := httpapi.ListenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

func TestSocketPathTooLong(t *testing.T) {
	_, err := httpapi.ListenSocket("/" + strings.Repeat("x", 120) + "/grapnel.sock")
	if err == nil || !strings.Contains(err.Error(), "shorter path") {
		t.Errorf("got %v", err)
	}
}

func TestStopWaitsForRequestsInFlight(t *testing.T) {
	s := httpapitest.New()
	s.Inflight = make(chan struct{})
	entered := make(chan struct{})
	h := operator(s)
	_, c, stop := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		h.ServeHTTP(w, r)
	}))
	got := make(chan string, 1)
	go func() {
		resp, err := c.Get("http://grapnel/api/v1/fsck")
		if err != nil {
			got <- err.Error()
			return
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		got <- strings.TrimSpace(string(b))
	}()
	<-entered
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	close(s.Inflight)
	if g := <-got; g != `{"proven":true,"orgs":[]}` {
		t.Errorf("the request in flight got %s", g)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestHeadersHaveALimit(t *testing.T) {
	_, c, stop := serve(t, operator(httpapitest.New()))
	for _, size := range []int{8 << 10, 40 << 10} {
		r, err := http.NewRequest("GET", "http://grapnel/api/v1/orgs", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Padding", strings.Repeat("x", size))
		resp, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		want := 200
		if size > 16<<10 {
			want = http.StatusRequestHeaderFieldsTooLarge
		}
		if resp.StatusCode != want {
			t.Errorf("%d bytes of headers: status %d, want %d", size, resp.StatusCode, want)
		}
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
