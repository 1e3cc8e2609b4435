package deliver_test

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/delivertest"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"pgregory.net/rapid"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func TestSEC14_RotateSecrets(t *testing.T) {
	a, b, c, fresh := sign.NewSecret(), sign.NewSecret(), sign.NewSecret(), sign.NewSecret()
	secret := func(s sign.Secret, row int64, end time.Duration) deliver.Secret {
		k := deliver.Secret{Secret: s, Row: row, CreatedAt: noon.Add(-time.Hour)}
		if end != 0 {
			k.ExpiresAt = noon.Add(end)
		}
		return k
	}
	first := deliver.Secret{Secret: fresh, CreatedAt: noon}
	five := []deliver.Secret{secret(a, 9, 0), secret(b, 8, 2*time.Hour), secret(b, 7, time.Hour), secret(c, 6, 3*time.Hour), secret(c, 5, 3*time.Hour)}
	for _, tc := range []struct {
		name    string
		now     []deliver.Secret
		overlap time.Duration
		want    []deliver.Secret
		err     string
	}{
		{"the old one ends after the overlap", []deliver.Secret{secret(a, 1, 0)}, 24 * time.Hour, []deliver.Secret{first, secret(a, 1, 24*time.Hour)}, ""},
		{"at once after a leak", []deliver.Secret{secret(a, 2, 0), secret(b, 1, time.Hour)}, 0, []deliver.Secret{first}, ""},
		{"an earlier end stays", []deliver.Secret{secret(a, 2, 0), secret(b, 1, time.Hour)}, 2 * time.Hour, []deliver.Secret{first, secret(a, 2, 2*time.Hour), secret(b, 1, time.Hour)}, ""},
		{"a later end comes nearer", []deliver.Secret{secret(a, 2, 0), secret(b, 1, 5*time.Hour)}, time.Hour, []deliver.Secret{first, secret(a, 2, time.Hour), secret(b, 1, time.Hour)}, ""},
		{"what has ended is gone", []deliver.Secret{secret(a, 2, 0), secret(b, 1, -1)}, time.Hour, []deliver.Secret{first, secret(a, 2, time.Hour)}, ""},
		{"what ends now is gone", []deliver.Secret{secret(a, 2, 0), {Secret: b, ExpiresAt: noon}}, time.Hour, []deliver.Secret{first, secret(a, 2, time.Hour)}, ""},
		{"the same again", []deliver.Secret{secret(fresh, 2, 0), secret(b, 1, time.Hour)}, time.Hour, []deliver.Secret{first, secret(b, 1, time.Hour)}, ""},
		{"back to the one before", []deliver.Secret{secret(a, 2, 0), secret(fresh, 1, time.Hour)}, time.Hour, []deliver.Secret{first, secret(a, 2, time.Hour)}, ""},
		{"the longest overlap", []deliver.Secret{secret(a, 1, 0)}, 7 * 24 * time.Hour, []deliver.Secret{first, secret(a, 1, 7*24*time.Hour)}, ""},
		{"too long", []deliver.Secret{secret(a, 1, 0)}, 7*24*time.Hour + 1, nil, "want 0 to 168h"},
		{"negative", []deliver.Secret{secret(a, 1, 0)}, -1, nil, "want 0 to 168h"},
		{"a sixth", five, time.Hour, nil, "5 secrets sign already, and the first of them ends at 2026-11-21T13:00:00Z"},
		{"a sixth after a leak", five, 0, []deliver.Secret{first}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := slices.Clone(tc.now)
			got, err := deliver.RotateSecrets(tc.now, fresh, noon, tc.overlap)
			if tc.err != "" {
				if err == nil || !strings.Contains(err.Error(), tc.err) {
					t.Errorf("error %v, want %q", err, tc.err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("secrets (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, tc.now); diff != "" {
				t.Errorf("the argument was changed:\n%s", diff)
			}
		})
	}
	if _, err := deliver.RotateSecrets(nil, sign.Secret{}, noon, 0); !errors.Is(err, sign.ErrSecret) {
		t.Errorf("the zero secret: %v", err)
	}
}

// Whatever rotations come when, at each moment exactly those secrets sign that a
// list of (secret, from, until) says.
func TestRotationsAgainstAModel(t *testing.T) {
	pool := make([]sign.Secret, 8)
	for i := range pool {
		pool[i] = sign.NewSecret()
	}
	rapid.Check(t, func(t *rapid.T) {
		now := noon
		secrets := []deliver.Secret{{Secret: pool[0], CreatedAt: now}}
		until := map[int]time.Time{0: {}} // those of the pool that sign, zero: without end
		order := []int{0}                 // newest first
		live := func(at time.Time) (is []int) {
			for _, i := range order {
				if end, ok := until[i]; ok && (end.IsZero() || at.Before(end)) {
					is = append(is, i)
				}
			}
			return is
		}
		for range rapid.IntRange(1, 20).Draw(t, "rotations") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(30*time.Hour)).Draw(t, "wait")))
			overlap := time.Duration(rapid.SampledFrom([]int64{0, 1, int64(time.Hour), int64(24 * time.Hour), int64(7 * 24 * time.Hour)}).Draw(t, "overlap"))
			fresh := rapid.IntRange(0, len(pool)-1).Draw(t, "secret")
			others := slices.DeleteFunc(live(now), func(i int) bool { return i == fresh })
			next, err := deliver.RotateSecrets(secrets, pool[fresh], now, overlap)
			if full := overlap > 0 && len(others) >= deliver.MaxSecrets; full != errors.As(err, new(*deliver.SecretsError)) {
				t.Fatalf("%d others sign, overlap %v: error %v", len(others), overlap, err)
			}
			if err == nil {
				secrets = next
				for i := range until {
					if !slices.Contains(others, i) {
						delete(until, i)
					} else if end := now.Add(overlap); until[i].IsZero() || end.Before(until[i]) {
						until[i] = end
					}
				}
				until[fresh] = time.Time{}
				order = append([]int{fresh}, slices.DeleteFunc(order, func(i int) bool { return i == fresh })...)
			}
			for _, at := range []time.Time{now, now.Add(overlap - 1), now.Add(overlap), now.Add(time.Hour), now.Add(8 * 24 * time.Hour)} {
				if at.Before(now) {
					continue
				}
				var got []int
				for _, s := range secrets {
					if s.Live(at) {
						got = append(got, slices.IndexFunc(pool, func(p sign.Secret) bool { return p.Equal(s.Secret) }))
					}
				}
				if diff := cmp.Diff(live(at), got); diff != "" {
					t.Fatalf("signing at %v (-model +got):\n%s", at.Sub(now), diff)
				}
			}
			if !secrets[0].ExpiresAt.IsZero() {
				t.Fatal("the newest secret ends")
			}
		}
	})
}

// An older secret signs until its end and not at it, while the same exchange is
// used again and again.
func TestSEC14_SigningEndsAtTheBoundary(t *testing.T) {
	fresh, old, older := sign.NewSecret(), sign.NewSecret(), sign.NewSecret()
	r := delivertest.NewReceiver()
	to, err := deliver.NewTarget(deliver.Endpoint{ID: "ep_1", URL: r.Start(t), Secrets: []deliver.Secret{
		{Secret: fresh}, {Secret: old, ExpiresAt: noon.Add(time.Hour)}, {Secret: older, ExpiresAt: noon.Add(time.Minute)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s := newSender(t, loopback())
	p := payload(1, `{"n":1}`)
	for i, tc := range []struct {
		after time.Duration
		by    []sign.Secret
	}{
		{0, []sign.Secret{fresh, old, older}},
		{time.Minute - 1, []sign.Secret{fresh, old, older}},
		{time.Minute, []sign.Secret{fresh, old}},
		{time.Hour - 1, []sign.Secret{fresh, old}},
		{time.Hour, []sign.Secret{fresh}},
		{time.Hour + 1, []sign.Secret{fresh}},
	} {
		at := noon.Add(tc.after)
		if o := s.Send(t.Context(), to, p, deliver.Key{Event: 1, Endpoint: 7}, i+1, at); o.Class != deliver.OK {
			t.Fatalf("outcome %+v", o)
		}
		got := r.Requests()[i].Header.Get(sign.HeaderSignature)
		if want := sign.Sign(tc.by, p.ID.String(), at, p.Body); got != want {
			t.Errorf("after %v: %d signatures, want %d", tc.after, strings.Count(got, "v1,"), len(tc.by))
		}
	}
}
