package deliver

import (
	"errors"
	"testing"
	"testing/synctest"

	"github.com/grapnel-hooks/grapnel/deliver/sign"
)

// An endpoint that cannot be prepared any more is sent nothing, also not as it was
// before: its deliveries wait in the books, and come when it can.
func TestEndpointThatCannotBePreparedWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 0)
		r.endpoint(1)
		r.endpoint(2)
		r.run()
		r.lanes.Offer(r.books.add(1, 1))
		synctest.Wait()
		r.wantOnce(1, 1, 1)
		gone := Endpoint{
			Row: 1, ID: "ep_1", Org: "acme", URL: "http://127.0.0.1:1/", Secrets: []Secret{{Secret: sign.NewSecret()}},
			Retry: DefaultPolicy, Concurrency: 1, Options: Options{Format: "gone"},
		}
		if err := r.lanes.Set(gone); !errors.Is(err, ErrFormat) {
			t.Fatalf("error %v", err)
		}
		r.lanes.Offer(r.books.add(1, 2, 3))
		r.lanes.Offer(r.books.add(2, 4))
		synctest.Wait()
		r.wantOnce(2, 4, 4)
		if n := r.times(1); n[2]+n[3] != 0 {
			t.Errorf("%v was sent", n)
		}
		r.endpoint(1)
		synctest.Wait()
		r.wantOnce(1, 1, 3)
		r.end()
	})
}
