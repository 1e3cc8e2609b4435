// Package config is what "grapnel serve" is told: by flags, else by the
// environment, else by a YAML file, else by defaults.
//
// # The model
//
// Every setting is one [setting] in one table: its name is that of the flag
// (nats-url), of the variable (GRAPNEL_NATS_URL) and of the file's key
// (nats_url), and one function reads its text, wherever that came from. The
// file has keys more that are no flags: plans, retention, event_types and formats.
//
// What is wrong is an [Error] that says where: the flag, the variable, or the
// line of the file. A name that is not known is an error too, with the name
// that was probably meant.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
	"github.com/grapnel-hooks/grapnel/sqlite/seal"
	"github.com/grapnel-hooks/grapnel/stream"
	"github.com/spf13/pflag"
)

// Serve is the configuration of the daemon.
type Serve struct {
	Data   string // the directory of everything
	Listen string // host:port of the HTTP API, or "off"
	Admin  string // host:port of health and metrics, or "": Listen's

	TLSCert, TLSKey string // PEM files for those who connect to us, or ""

	NATSURL                            string           // "": embedded
	NATSCreds                          string           // file, or ""
	NATSTLSCA, NATSTLSCert, NATSTLSKey string           // PEM files, or ""
	NATSListen                         string           // of the embedded server: host:port, or "off"
	NATSSignIn                         bool             // of the embedded server: publishers sign in on loopback, too
	NATSSync                           time.Duration    // of the embedded server; 0: always
	SubjectPrefix                      string           // of subjects and streams
	MaxEventSize                       int              // bytes of an event's data
	Strict                             bool             // events must keep to the catalogue
	EventTypes                         []catalogue.Type // to be put into it at the start; each is sound by itself
	Formats                            []deliver.Format // beside the built-in ones; each is sound
	RateLimit                          int              // requests a second with one token; 0: no limit
	TrustedProxies                     []netip.Prefix   // whose X-Forwarded-For is believed
	AllowHTTP                          bool
	AllowNetworks                      []netip.Prefix
	AllowPorts                         []uint16       // of endpoints' URLs, beside 443, 8080 and 8443
	MaxPerOrg                          int            // requests in flight of one organization; 0: a quarter of all
	EgressProxy                        *url.URL       // by which receivers are reached; nil: none
	NAT64                              []netip.Prefix // by which this network reaches IPv4 addresses
	SecretsKeyFile                     string         // "": secrets.key in Data
	SecretsKeys                        []seal.Key     // instead of a file; from the environment only
	ParkAfter                          int64          // pending deliveries of one endpoint; 0: any number
	LogFormat                          string         // auto, text or json
	LogLevel                           slog.Level
	Plans                              map[string][]string // plan → features; nil: every org has every feature
	KeepFinished                       time.Duration       // delivered and cancelled deliveries; 0: the daemon's default
	KeepDead                           time.Duration       // dead ones; 0: the daemon's default
	File                               string              // that it was read from, or ""
}

// Error is a setting that cannot be used.
type Error struct {
	Where string // "--listen", "GRAPNEL_LISTEN", "grapnel.yaml:3", "grapnel.yaml:3: listen"
	Flag  bool   // it was said on the command line
	Err   error
}

func (e *Error) Error() string { return e.Where + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

// setting is one thing that can be configured.
type setting struct {
	flag    string
	usage   string
	initial string // its default, as text
	many    bool   // flag repeatable, variable with commas, a list in the file
	boolean bool
	set     func(c *Serve, values []string) error
}

func (s setting) env() string { return "GRAPNEL_" + strings.ToUpper(s.key()) }
func (s setting) key() string { return strings.ReplaceAll(s.flag, "-", "_") }

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

// settings are all of them, in the order of the help.
var settings = []setting{
	{flag: "data", usage: "the `directory` of the database, the embedded streams and the socket", initial: "./grapnel-data",
		set: text(func(c *Serve) *string { return &c.Data }, notEmpty)},
	{flag: "listen", usage: "`address` of the HTTP API, /docs, /healthz, /readyz and /metrics, or off", initial: "127.0.0.1:8480",
		set: text(func(c *Serve) *string { return &c.Listen }, addressOrOff)},
	{flag: "admin-listen", usage: "`address` of /healthz, /readyz and /metrics, which are then no longer on --listen; without TLS",
		set: text(func(c *Serve) *string { return &c.Admin }, address)},
	{flag: "rate-limit", usage: "how many `requests` a second one token may make, twice that in a burst, and 20 times that to append; 0 for no limit", initial: "50",
		set: func(c *Serve, v []string) (err error) {
			if c.RateLimit, err = strconv.Atoi(v[0]); err != nil || c.RateLimit < 0 || c.RateLimit > 1_000_000 {
				return fmt.Errorf("%q: want a number of requests from 0 to 1000000", v[0])
			}
			return nil
		}},
	{flag: "trusted-proxy", usage: "the `CIDR` of proxies whose X-Forwarded-For names the client (repeatable)", many: true,
		set: networks(func(c *Serve) *[]netip.Prefix { return &c.TrustedProxies })},
	{flag: "tls-cert", usage: "PEM `file` of the certificate that clients of the HTTP API and publishers get; read again when it changes",
		set: text(func(c *Serve) *string { return &c.TLSCert }, readable)},
	{flag: "tls-key", usage: "PEM `file` of the key of --tls-cert",
		set: text(func(c *Serve) *string { return &c.TLSKey }, readable)},
	{flag: "nats-url", usage: "`URL` of a NATS server with JetStream; without it one is embedded",
		set: text(func(c *Serve) *string { return &c.NATSURL }, nil)},
	{flag: "nats-creds", usage: "`file` of NATS user credentials",
		set: text(func(c *Serve) *string { return &c.NATSCreds }, readable)},
	{flag: "nats-tls-ca", usage: "PEM `file` of the authorities that the NATS server's certificate is checked against",
		set: text(func(c *Serve) *string { return &c.NATSTLSCA }, readable)},
	{flag: "nats-tls-cert", usage: "PEM `file` of the client's certificate for NATS",
		set: text(func(c *Serve) *string { return &c.NATSTLSCert }, readable)},
	{flag: "nats-tls-key", usage: "PEM `file` of the key of --nats-tls-cert",
		set: text(func(c *Serve) *string { return &c.NATSTLSKey }, readable)},
	{flag: "nats-listen", usage: "`address` where publishers reach the embedded NATS server, or off; they sign in unless it is loopback", initial: "127.0.0.1:4222",
		set: text(func(c *Serve) *string { return &c.NATSListen }, addressOrOff)},
	{flag: "nats-sign-in", usage: "let publishers sign in on loopback, too", initial: "false", boolean: true,
		set: func(c *Serve, v []string) (err error) {
			if c.NATSSignIn, err = strconv.ParseBool(v[0]); err != nil {
				return fmt.Errorf("%q: want true or false", v[0])
			}
			return nil
		}},
	{flag: "nats-sync", usage: "when the embedded server flushes an append: always, or after a `duration` that a power cut may lose", initial: "always",
		set: func(c *Serve, v []string) (err error) {
			c.NATSSync, err = syncInterval(v[0])
			return err
		}},
	{flag: "subject-prefix", usage: "the first `word` of event subjects, and in capitals of stream names", initial: "events",
		set: text(func(c *Serve) *string { return &c.SubjectPrefix }, func(v string) error { return stream.Names{Prefix: v}.Check() })},
	{flag: "max-event-size", usage: "the most `bytes` that an event's data may have", initial: "262144",
		set: func(c *Serve, v []string) (err error) {
			if c.MaxEventSize, err = strconv.Atoi(v[0]); err != nil || c.MaxEventSize < 1<<10 || c.MaxEventSize > 1_000_000 {
				return fmt.Errorf("%q: want a number of bytes from 1024 to 1000000", v[0])
			}
			return nil
		}},
	{flag: "strict", usage: "reject events that the catalogue of event types does not allow", initial: "false", boolean: true,
		set: func(c *Serve, v []string) (err error) {
			if c.Strict, err = strconv.ParseBool(v[0]); err != nil {
				return fmt.Errorf("%q: want true or false", v[0])
			}
			return nil
		}},
	{flag: "max-in-flight-per-org", usage: "how many `requests` to one organization's endpoints may be in flight; 0 for a quarter of all", initial: "0",
		set: func(c *Serve, v []string) (err error) {
			if c.MaxPerOrg, err = strconv.Atoi(v[0]); err != nil || c.MaxPerOrg < 0 || c.MaxPerOrg > 100_000 {
				return fmt.Errorf("%q: want a number of requests from 1 to 100000, or 0", v[0])
			}
			return nil
		}},
	{flag: "allow-http", usage: "let endpoints have http URLs, too", initial: "false", boolean: true,
		set: func(c *Serve, v []string) (err error) {
			if c.AllowHTTP, err = strconv.ParseBool(v[0]); err != nil {
				return fmt.Errorf("%q: want true or false", v[0])
			}
			return nil
		}},
	{flag: "allow-network", usage: "let endpoints have addresses in this `CIDR`, though it is not public (repeatable)", many: true,
		set: networks(func(c *Serve) *[]netip.Prefix { return &c.AllowNetworks })},
	{flag: "allow-port", usage: "let endpoints have this `port` beside 443, 8080 and 8443, and 80 with --allow-http (repeatable)", many: true,
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
	{flag: "egress-proxy", usage: "`URL` of the proxy by which receivers are reached, http or https; user and password in the environment or the file only. It must filter where endpoints lead",
		set: func(c *Serve, v []string) (err error) {
			c.EgressProxy, err = deliver.CheckProxy(v[0])
			return err
		}},
	{flag: "nat64-prefix", usage: "the `CIDR` by which this network reaches IPv4 addresses from IPv6 ones, such as 64:ff9b::/96: what is behind it is judged by its IPv4 address (repeatable)", many: true,
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
	{flag: "secrets-key-file", usage: "the `file` of the key that encrypts secrets in the database; made if it is not there (default secrets.key in the data directory)",
		set: text(func(c *Serve) *string { return &c.SecretsKeyFile }, nil)},
	{flag: "park-after", usage: "how many `deliveries` of one endpoint may be pending; beyond, it keeps a place in the stream instead and catches up from there; 0 for any number", initial: "100000",
		set: func(c *Serve, v []string) (err error) {
			if c.ParkAfter, err = strconv.ParseInt(v[0], 10, 64); err != nil || c.ParkAfter < 0 || c.ParkAfter > 100_000_000 {
				return fmt.Errorf("%q: want a number of deliveries from 0 to 100000000", v[0])
			}
			return nil
		}},
	{flag: "log-format", usage: "auto (text on a terminal, JSON elsewhere), text or json", initial: "auto",
		set: text(func(c *Serve) *string { return &c.LogFormat }, oneOf("auto", "text", "json"))},
	{flag: "log-level", usage: "debug, info, warn or error", initial: "info",
		set: func(c *Serve, v []string) error {
			if err := oneOf("debug", "info", "warn", "error")(v[0]); err != nil {
				return err
			}
			return c.LogLevel.UnmarshalText([]byte(v[0]))
		}},
}

// Flags defines the flags of all settings, and --config.
func Flags(f *pflag.FlagSet) {
	for _, s := range settings {
		usage := s.usage + " (" + s.env() + ")"
		switch {
		case s.many:
			f.StringArray(s.flag, nil, usage)
		case s.boolean:
			f.Bool(s.flag, s.initial == "true", usage)
		default:
			f.String(s.flag, s.initial, usage)
		}
	}
	f.String("config", "", "YAML `file` with any of these, and more (GRAPNEL_CONFIG)")
}

// Load reads the configuration. The flags have been parsed; env looks a
// variable up, as os.LookupEnv does. The error is an *Error, or several joined.
func Load(f *pflag.FlagSet, env func(string) (string, bool)) (Serve, error) {
	var c Serve
	var file file
	name := ""
	if v, ok := env("GRAPNEL_CONFIG"); ok {
		name = v
	}
	if f.Changed("config") {
		name, _ = f.GetString("config")
	}
	if name != "" {
		var err error
		if file, err = readFile(name); err != nil {
			return c, err
		}
		c.File = name
	}
	c.EventTypes, c.Formats = file.eventTypes, file.formats
	c.Plans, c.KeepFinished, c.KeepDead = file.plans, file.keepFinished, file.keepDead
	said := map[string]string{} // flag → where it was said
	var errs []error
	for _, s := range settings {
		values, where, flag := s.find(f, env, file)
		if where != "" {
			said[s.flag] = where
		}
		if len(values) == 0 || values[0] == "" && s.initial == "" {
			continue
		}
		if err := s.set(&c, values); err != nil {
			errs = append(errs, &Error{Where: cmp.Or(where, "default of --"+s.flag), Flag: flag, Err: err})
		}
	}
	if err := c.secretsKeys(env, said); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		errs = append(errs, c.contradictions(said)...)
	}
	return c, errors.Join(errs...)
}

// find is what was said of the setting, and where; "" for the default.
func (s setting) find(f *pflag.FlagSet, env func(string) (string, bool), file file) (values []string, where string, flag bool) {
	if f.Changed(s.flag) {
		if s.many {
			values, _ = f.GetStringArray(s.flag)
		} else {
			values = []string{f.Lookup(s.flag).Value.String()}
		}
		return values, "--" + s.flag, true
	}
	if v, ok := env(s.env()); ok && v != "" {
		if s.many {
			for part := range strings.SplitSeq(v, ",") {
				values = append(values, strings.TrimSpace(part))
			}
			return values, s.env(), false
		}
		return []string{v}, s.env(), false
	}
	if e, ok := file.entries[s.key()]; ok {
		return e.values, fmt.Sprintf("%s:%d: %s", file.name, e.line, s.key()), false
	}
	return []string{s.initial}, "", false
}

// secretsKeyVariable is no setting: keys on a command line would be seen by
// everybody who lists processes, and in the file by everybody who reads it.
const secretsKeyVariable = "GRAPNEL_SECRETS_KEY"

// secretsKeys reads the keys of the secrets from the environment.
func (c *Serve) secretsKeys(env func(string) (string, bool), said map[string]string) (err error) {
	text, _ := env(secretsKeyVariable)
	if text == "" {
		return nil
	}
	if c.SecretsKeys, err = seal.ParseKeys(text); err != nil {
		return &Error{Where: secretsKeyVariable, Err: err}
	}
	if where := said["secrets-key-file"]; where != "" {
		return &Error{Where: secretsKeyVariable, Err: fmt.Errorf("gives the key that %s says is in a file; leave one out", where)}
	}
	return nil
}

// contradictions are settings that cannot be had together.
func (c *Serve) contradictions(said map[string]string) (errs []error) {
	refuse := func(flag, format string, args ...any) {
		errs = append(errs, &Error{Where: said[flag], Flag: strings.HasPrefix(said[flag], "--"), Err: fmt.Errorf(format, args...)})
	}
	if c.NATSURL != "" {
		for _, flag := range []string{"nats-listen", "nats-sign-in", "nats-sync"} {
			if said[flag] != "" {
				refuse(flag, "is for the embedded NATS server, and %s uses another", said["nats-url"])
			}
		}
	} else {
		for _, flag := range []string{"nats-creds", "nats-tls-ca", "nats-tls-cert", "nats-tls-key"} {
			if said[flag] != "" {
				refuse(flag, "is for a NATS server elsewhere: say which with --nats-url")
			}
		}
	}
	if c.EgressProxy != nil && c.EgressProxy.User != nil && strings.HasPrefix(said["egress-proxy"], "--") {
		refuse("egress-proxy", "holds a user and password, which everybody sees who lists processes: give it by GRAPNEL_EGRESS_PROXY or in the file")
	}
	switch {
	case c.NATSTLSCert != "" && c.NATSTLSKey == "":
		refuse("nats-tls-cert", "needs the certificate's key: --nats-tls-key")
	case c.NATSTLSKey != "" && c.NATSTLSCert == "":
		refuse("nats-tls-key", "needs the key's certificate: --nats-tls-cert")
	}
	switch {
	case c.TLSCert != "" && c.TLSKey == "":
		refuse("tls-cert", "needs the certificate's key: --tls-key")
	case c.TLSKey != "" && c.TLSCert == "":
		refuse("tls-key", "needs the key's certificate: --tls-cert")
	}
	return errs
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
