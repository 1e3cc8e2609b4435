package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/telemetry"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/stream"
)

// setting is one thing that can be configured.
type setting struct {
	flag    string
	usage   string
	see     string // the page of docs/ that says more
	want    string // what values it takes, and their limits, for the table of the documentation
	initial string // its default, as text
	absent  string // what holds while it has no value, for the table of the documentation
	many    bool   // flag repeatable, variable with commas, a list in the file
	boolean bool
	hide    func(string) string // of a setting that holds a secret: what of its value may be shown; such a one may be in a file that its variable names (fileSuffix)
	reload  bool                // it can change while the daemon runs
	set     func(c *Serve, values []string) error
}

func (s setting) env() string { return "GRAPNEL_" + strings.ToUpper(s.key()) }
func (s setting) key() string { return strings.ReplaceAll(s.flag, "-", "_") }

// settings are all of them, in the order of the help.
//
// Whoever adds one says whether a reload can change it: then the daemon's apply
// does so, and a test there shows that it has an effect.
var settings = []setting{
	{flag: "data", usage: "the `directory` of the database, the embedded streams and the socket", want: "directory", initial: "./grapnel-data",
		set: text(func(c *Serve) *string { return &c.Data }, notEmpty)},
	{flag: "listen", usage: "`address` of the HTTP API, /docs, /healthz, /readyz and /metrics, or off", want: "host:port, or off", initial: "127.0.0.1:8480",
		set: text(func(c *Serve) *string { return &c.Listen }, addressOrOff)},
	{flag: "admin-listen", usage: "`address` of /healthz, /readyz and /metrics, which are then no longer on --listen; without TLS", want: "host:port", absent: "they are on `--listen`",
		set: text(func(c *Serve) *string { return &c.Admin }, address)},
	{flag: "rate-limit", see: "operating.md#rates", usage: "how many `requests` a second one token may make, twice that in a burst, and 20 times that to append; 0 for no limit", want: "0 to 1000000", initial: "50", reload: true,
		set: number(func(c *Serve) *int { return &c.RateLimit }, "a number of requests", 0, 1_000_000)},
	{flag: "trusted-proxy", usage: "the `CIDR` of proxies whose X-Forwarded-For names the client (repeatable)", want: "CIDR", many: true, reload: true,
		set: networks(func(c *Serve) *[]netip.Prefix { return &c.TrustedProxies })},
	{flag: "tls-cert", see: "operating.md#publishers-on-other-machines", usage: "PEM `file` of the certificate that clients of the HTTP API and publishers get; read again when it changes", want: "file", absent: "no TLS",
		set: text(func(c *Serve) *string { return &c.TLSCert }, readable)},
	{flag: "tls-key", usage: "PEM `file` of the key of --tls-cert", want: "file",
		set: text(func(c *Serve) *string { return &c.TLSKey }, readable)},
	{flag: "nats-url", usage: "`URL` of a NATS server with JetStream; without it one is embedded", want: "URL", absent: "a server is embedded", hide: hideUser,
		set: text(func(c *Serve) *string { return &c.NATSURL }, nil)},
	{flag: "nats-creds", usage: "`file` of NATS user credentials", want: "file",
		set: text(func(c *Serve) *string { return &c.NATSCreds }, readable)},
	{flag: "nats-tls-ca", usage: "PEM `file` of the authorities that the NATS server's certificate is checked against", want: "file", absent: "the machine's authorities",
		set: text(func(c *Serve) *string { return &c.NATSTLSCA }, readable)},
	{flag: "nats-tls-cert", usage: "PEM `file` of the client's certificate for NATS", want: "file",
		set: text(func(c *Serve) *string { return &c.NATSTLSCert }, readable)},
	{flag: "nats-tls-key", usage: "PEM `file` of the key of --nats-tls-cert", want: "file",
		set: text(func(c *Serve) *string { return &c.NATSTLSKey }, readable)},
	{flag: "nats-listen", see: "publishing.md#signing-in", usage: "`address` where publishers reach the embedded NATS server, or off; they sign in unless it is loopback", want: "host:port, or off", initial: "127.0.0.1:4222",
		set: text(func(c *Serve) *string { return &c.NATSListen }, addressOrOff)},
	{flag: "nats-sign-in", usage: "let publishers sign in on loopback, too", initial: "false", boolean: true,
		set: truth(func(c *Serve) *bool { return &c.NATSSignIn })},
	{flag: "nats-sync", usage: "when the embedded server flushes an append: always, or after a `duration` that a power cut may lose", want: "always, or 1ms to 10m", initial: "always",
		set: func(c *Serve, v []string) (err error) {
			c.NATSSync, err = syncInterval(v[0])
			return err
		}},
	{flag: "subject-prefix", usage: "the first `word` of event subjects, and in capitals of stream names", want: "word", initial: "events",
		set: text(func(c *Serve) *string { return &c.SubjectPrefix }, func(v string) error { return stream.Names{Prefix: v}.Check() })},
	{flag: "max-event-size", usage: "the most `bytes` that an event's data may have", want: "1024 to 1000000 bytes", initial: "262144", reload: true,
		set: number(func(c *Serve) *int { return &c.MaxEventSize }, "a number of bytes", 1<<10, 1_000_000)},
	{flag: "strict", see: "event-types.md#strict", usage: "reject events that the catalogue of event types does not allow", initial: "false", boolean: true, reload: true,
		set: truth(func(c *Serve) *bool { return &c.Strict })},
	{flag: "max-in-flight-per-org", see: "delivery.md#lanes-why-a-slow-receiver-is-only-its-own-problem", usage: "how many `requests` to one organization's endpoints may be in flight; 0 for a quarter of all", want: "0 to 100000", initial: "0", reload: true,
		set: number(func(c *Serve) *int { return &c.MaxPerOrg }, "a number of requests", 0, 100_000)},
	{flag: "allow-http", usage: "let endpoints have http URLs, too", initial: "false", boolean: true, reload: true,
		set: truth(func(c *Serve) *bool { return &c.AllowHTTP })},
	{flag: "allow-network", usage: "let endpoints have addresses in this `CIDR`, though it is not public (repeatable)", want: "CIDR", absent: "public addresses only", many: true, reload: true,
		set: networks(func(c *Serve) *[]netip.Prefix { return &c.AllowNetworks })},
	{flag: "allow-port", usage: "let endpoints have this `port` beside 443, 8080 and 8443, and 80 with --allow-http (repeatable)", want: "1 to 65535", many: true, reload: true,
		set: func(c *Serve, v []string) error {
			c.AllowPorts = nil
			for _, s := range v {
				n, err := strconv.ParseUint(s, 10, 16)
				if err != nil || n == 0 {
					return fmt.Errorf("%q: want a port from 1 to 65535", s)
				}
				c.AllowPorts = append(c.AllowPorts, uint16(n))
			}
			return nil
		}},
	{flag: "egress-proxy", see: "operating.md#egress-proxy", usage: "`URL` of the proxy by which receivers are reached, http or https; user and password in the environment or the file only. It must filter where endpoints lead", want: "http or https URL", absent: "receivers are reached directly", hide: hideUser,
		set: func(c *Serve, v []string) (err error) {
			c.EgressProxy, err = deliver.CheckProxy(v[0])
			return err
		}},
	{flag: "nat64-prefix", usage: "the `CIDR` by which this network reaches IPv4 addresses from IPv6 ones, such as 64:ff9b::/96: what is behind it is judged by its IPv4 address (repeatable)", want: "IPv6 CIDR of 32, 40, 48, 56, 64 or 96 bits", many: true, reload: true,
		set: func(c *Serve, v []string) error {
			if err := networks(func(c *Serve) *[]netip.Prefix { return &c.NAT64 })(c, v); err != nil {
				return err
			}
			for _, p := range c.NAT64 {
				if err := deliver.CheckNAT64(p); err != nil {
					return fmt.Errorf("%q: %w", p, err)
				}
			}
			return nil
		}},
	{flag: "secrets-key-file", see: "operating.md#the-key-of-the-secrets", usage: "the `file` of the key that encrypts secrets in the database; made if it is not there (default secrets.key in the data directory)", want: "file", absent: "`secrets.key` in the data directory",
		set: text(func(c *Serve) *string { return &c.SecretsKeyFile }, nil)},
	{flag: "park-after", see: "delivery.md#endpoints-that-are-behind", usage: "how many `deliveries` of one endpoint may be pending; beyond, it keeps a place in the stream instead and catches up from there; 0 for any number", want: "0 to 100000000", initial: "100000", reload: true,
		set: number(func(c *Serve) *int64 { return &c.ParkAfter }, "a number of deliveries", 0, 100_000_000)},
	{flag: "on-missing-cursor", see: "operating.md#streams-of-another-database", usage: "where to begin in a stream that another database has read and this one has not: fail (nowhere, until somebody claims it), new (at its end) or all (at its beginning)", want: "fail, new or all", initial: "fail",
		set: text(func(c *Serve) *string { return &c.OnMissing }, oneOf("fail", "new", "all"))},
	{flag: "replicated-by", see: "backup.md#continuously", usage: "who copies the database's log away, and decides when it is folded into the database: none or litestream (docs/backup.md)", want: "none or litestream", initial: "none",
		set: func(c *Serve, v []string) error {
			c.Replicated = v[0] != "none"
			return oneOf("none", "litestream")(v[0])
		}},
	{flag: "max-pending-per-org", see: "operating.md#room", usage: "how many `deliveries` of one organization may be pending; beyond, its events wait in the stream; 0 for any number", want: "0 to 1000000000", initial: "5000000", reload: true,
		set: number(func(c *Serve) *int64 { return &c.MaxPending }, "a number of deliveries", 0, 1_000_000_000)},
	{flag: "min-free", see: "operating.md#room", usage: "how much of the disk has to be free, or fan-out waits: a `size` such as 2GiB, auto (2GiB, or a tenth of a smaller disk) or off", want: "a size, auto or off", initial: "auto", reload: true,
		set: func(c *Serve, v []string) (err error) {
			if v[0] == "auto" {
				c.MinFree = -1
				return nil
			}
			c.MinFree, err = sizeOrOff(v[0])
			return err
		}},
	{flag: "store-max-bytes", usage: "how large the database may be, or fan-out waits: a `size` such as 50GiB, or off", want: "a size, or off", initial: "off", reload: true,
		set: func(c *Serve, v []string) (err error) {
			c.MaxStore, err = sizeOrOff(v[0])
			return err
		}},
	{flag: "ballast", usage: "`size` of a file that can be given up when the disk is full (grapnel store release-ballast), or off", want: "a size, or off", initial: "128MiB", reload: true,
		set: func(c *Serve, v []string) (err error) {
			c.Ballast, err = sizeOrOff(v[0])
			return err
		}},
	{flag: "log-format", usage: "auto (text on a terminal, JSON elsewhere), text or json", want: "auto, text or json", initial: "auto",
		set: text(func(c *Serve) *string { return &c.LogFormat }, oneOf("auto", "text", "json"))},
	{flag: "log-level", usage: "debug, info, warn or error", want: "debug, info, warn or error", initial: "info", reload: true,
		set: func(c *Serve, v []string) error {
			if err := oneOf("debug", "info", "warn", "error")(v[0]); err != nil {
				return err
			}
			return c.LogLevel.UnmarshalText([]byte(v[0]))
		}},
	{flag: "otlp-endpoint", see: "tracing.md", usage: "`URL` of the OpenTelemetry collector that gets traces (OTLP over HTTP), such as http://127.0.0.1:4318", want: "http or https URL", absent: "nothing is traced",
		set: func(c *Serve, v []string) (err error) {
			c.OTLPEndpoint, err = telemetry.CheckEndpoint(v[0])
			return err
		}},
	{flag: "otlp-headers", usage: "`name=value` of the headers that the collector wants; secret, in the environment or the file only", want: "name=value", many: true, hide: hideAll,
		set: collectorHeaders},
	{flag: "trace-sample", usage: "what `part` of the events is traced whose publisher does not trace them", want: "0 to 1", initial: "0.1",
		set: ratio(func(c *Serve) *float64 { return &c.TraceSample })},
}

// text is a setting that is kept as it is.
func text(field func(*Serve) *string, check func(string) error) func(*Serve, []string) error {
	return func(c *Serve, v []string) error {
		if check != nil {
			if err := check(v[0]); err != nil {
				return err
			}
		}
		*field(c) = v[0]
		return nil
	}
}

// truth is a setting that is on or off.
func truth(field func(*Serve) *bool) func(*Serve, []string) error {
	return func(c *Serve, v []string) (err error) {
		if *field(c), err = strconv.ParseBool(v[0]); err != nil {
			return fmt.Errorf("%q: want true or false", v[0])
		}
		return nil
	}
}

// number is a setting from least to most; kind says of what.
func number[N int | int64](field func(*Serve) *N, kind string, least, most int64) func(*Serve, []string) error {
	return func(c *Serve, v []string) error {
		n, err := strconv.ParseInt(v[0], 10, 64)
		if err != nil || n < least || n > most {
			return fmt.Errorf("%q: want %s from %d to %d", v[0], kind, least, most)
		}
		*field(c) = N(n)
		return nil
	}
}

// networks is a setting of several networks.
func networks(field func(*Serve) *[]netip.Prefix) func(*Serve, []string) error {
	return func(c *Serve, v []string) error {
		all := make([]netip.Prefix, len(v))
		for i, s := range v {
			var err error
			if all[i], err = network(s); err != nil {
				return err
			}
		}
		*field(c) = all
		return nil
	}
}

func notEmpty(s string) error {
	if strings.TrimSpace(s) == "" {
		return errors.New("is empty")
	}
	return nil
}

func oneOf(names ...string) func(string) error {
	return func(s string) error {
		for _, n := range names {
			if s == n {
				return nil
			}
		}
		return fmt.Errorf("%q: want one of %s", s, strings.Join(names, ", "))
	}
}

func addressOrOff(s string) error {
	if _, _, err := net.SplitHostPort(s); err != nil && s != "off" {
		return fmt.Errorf("%q: want host:port, such as 127.0.0.1:8480, or off", s)
	}
	if s == "off" {
		return nil
	}
	return address(s)
}

func address(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return fmt.Errorf("%q: want host:port, such as 127.0.0.1:8481", s)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return fmt.Errorf("%q: the port must be a number from 0 to 65535", s)
	} else if host == "" && n == 0 {
		return fmt.Errorf("%q: name a host", s)
	}
	return nil
}

// readable finds a wrong path at the start, not when the broker is dialled.
func readable(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	return f.Close()
}

func syncInterval(s string) (time.Duration, error) {
	if s == "always" {
		return 0, nil
	}
	d, err := Duration(s)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q: want always, or a duration such as 2s", s)
	case d < time.Millisecond || d > 10*time.Minute:
		return 0, fmt.Errorf("%q: want always, or 1ms to 10m", s)
	}
	return d, nil
}

func network(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		if a, err := netip.ParseAddr(s); err == nil {
			return p, fmt.Errorf("%q: want a network in CIDR form, such as %s/%d", s, s, a.BitLen())
		}
		return p, fmt.Errorf("%q: want a network in CIDR form, such as 10.0.0.0/8", s)
	}
	return p.Masked(), nil
}

// Duration is time.ParseDuration that knows days (30d) and nothing negative.
func Duration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q: want a duration, such as 12h or 30d", s)
	}
	return d, nil
}
