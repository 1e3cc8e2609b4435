package suggest

import "testing"

func TestNearest(t *testing.T) {
	names := []string{"nats_url", "nats_creds", "nats_listen", "listen", "log_level", "plans", "retention"}
	for _, c := range []struct{ name, want string }{
		{"nats_ulr", "nats_url"},      // neighbours exchanged
		{"nats_lisen", "nats_listen"}, // left out
		{"plan", "plans"},
		{"rentention", "retention"},
		{"log-level", "log_level"},
		{"listen", "listen"},
		{"x", ""},
		{"", ""},
		{"database", ""},
	} {
		if got := Nearest(c.name, names); got != c.want {
			t.Errorf("Nearest(%q) = %q, want %q", c.name, got, c.want)
		}
	}
}
