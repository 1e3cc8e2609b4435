package stream

import (
	"strings"
	"testing"
	"time"
)

func TestServerFindings(t *testing.T) {
	o := Options{}.withDefaults()
	const roomy = 1 << 20
	cases := []struct {
		name             string
		version, cluster string
		maxPayload       int64
		replicas         int
		want             []string
	}{
		{"well", goodVersion, "", roomy, 1, nil},
		{"newer", "3.0.0", "", roomy, 1, nil},
		{"old", "2.12.6", "", roomy, 1, []string{"2.14.3"}},
		{"exactly enough", goodVersion, "", 264 << 10, 1, nil},
		{"small messages", goodVersion, "", 264<<10 - 1, 1, []string{"max_payload"}},
		{"not said", goodVersion, "", 0, 1, nil},
		{"one replica in a cluster", goodVersion, "c1", roomy, 1, []string{"cluster c1"}},
		{"three replicas", goodVersion, "c1", roomy, 3, nil},
		{"everything", "2.13.0", "c1", 1024, 1, []string{"2.13.0", "max_payload", "cluster c1"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o.Replicas = c.replicas
			found := serverFindings(o, o.MaxData, c.version, c.cluster, c.maxPayload)
			if len(found) != len(c.want) {
				t.Fatalf("found %v, want %v", found, c.want)
			}
			for i, f := range found {
				if !strings.Contains(f.String(), c.want[i]) || f.Hint != strings.Contains(c.want[i], "cluster") {
					t.Errorf("found %s, hint %v", f, f.Hint)
				}
			}
		})
	}
}

func TestClockFindings(t *testing.T) {
	asked := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	answered := asked.Add(2 * time.Second)
	cases := []struct {
		name string
		at   time.Time
		want string
	}{
		{"between", asked.Add(time.Second), ""},
		{"a little behind", asked.Add(-maxClockOff), ""},
		{"behind", asked.Add(-maxClockOff - time.Nanosecond), "5s behind"},
		{"a little ahead", answered.Add(maxClockOff), ""},
		{"ahead", answered.Add(maxClockOff + time.Nanosecond), "5s ahead of"},
		{"years behind", asked.AddDate(-1, 0, 0), "8760h0m0s behind"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			found := clockFindings(c.at, asked, answered)
			if (len(found) > 0) != (c.want != "") || len(found) > 0 && !strings.Contains(found[0].What, c.want) {
				t.Errorf("found %v, want %q", found, c.want)
			}
		})
	}
}
