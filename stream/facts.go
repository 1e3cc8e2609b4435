package stream

import (
	"context"
	"encoding/json"
	"time"
)

// Facts are what a broker says of itself, for people.
type Facts struct {
	Embedded  bool
	Why       error // it cannot be used; nil: it can
	Address   string
	Version   string
	Cluster   string // "": it is alone
	RoundTrip time.Duration

	Streams, MaxStreams int   // of the account; 0 or less: no limit
	Store, MaxStore     int64 // bytes of the account's files; 0 or less: no limit

	// Sync is when the server flushes what it has acknowledged: "always", or after
	// an interval such as "2m0s". "" when it does not say: only its system account is
	// told.
	Sync string
}

// Facts asks the broker. It takes at most some seconds, and writes nothing.
func (c *Client) Facts(ctx context.Context) Facts {
	f := Facts{Embedded: c.options.Server != nil, Why: c.Err(), Address: c.address(), Version: c.nc.ConnectedServerVersion(), Cluster: c.nc.ConnectedClusterName()}
	if f.Why != nil {
		return f
	}
	var account struct {
		Store   int64 `json:"storage"`
		Streams int   `json:"streams"`
		Limits  struct {
			MaxStore   int64 `json:"max_storage"`
			MaxStreams int   `json:"max_streams"`
		} `json:"limits"`
	}
	began := time.Now()
	if f.Why = c.api(ctx, "INFO", nil, &account); f.Why != nil {
		return f
	}
	f.RoundTrip = time.Since(began)
	f.Streams, f.MaxStreams, f.Store, f.MaxStore = account.Streams, account.Limits.MaxStreams, account.Store, account.Limits.MaxStore
	if !f.Embedded {
		f.Sync = c.syncOf(ctx)
	}
	return f
}

// syncOf asks the connected server's system account for its settings. Other
// accounts get no answer.
func (c *Client) syncOf(ctx context.Context) string {
	ctx, cancel := c.bounded(ctx, time.Second)
	defer cancel()
	m, err := c.nc.RequestWithContext(ctx, "$SYS.REQ.SERVER."+c.nc.ConnectedServerId()+".JSZ", nil)
	if err != nil {
		return ""
	}
	return syncText(m.Data)
}

func syncText(answer []byte) string {
	var jsz struct {
		Data struct {
			Config *struct {
				Always   bool          `json:"sync_always"`
				Interval time.Duration `json:"sync_interval"`
			} `json:"config"`
		} `json:"data"`
	}
	switch err := json.Unmarshal(answer, &jsz); {
	case err != nil || jsz.Data.Config == nil:
		return ""
	case jsz.Data.Config.Always:
		return "always"
	case jsz.Data.Config.Interval > 0:
		return jsz.Data.Config.Interval.String()
	}
	return ""
}
