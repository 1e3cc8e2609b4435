// Package config is what "grapnel serve" is told: by flags, else by the
// environment, else by a YAML file, else by defaults.
//
// # The model
//
// Every setting is one [setting] in one table: its name is that of the flag
// (nats-url), of the variable (GRAPNEL_NATS_URL) and of the file's key
// (nats_url), and one function reads its text, wherever that came from. The
// file has [section]s more that are no flags: plans, retention, event_types and
// formats. What holds in the end, and where each value was said, is
// [Serve.Effective]; what is different in a second reading is [Serve.Changes].
//
// Secrets are not on the command line and need not be in the file or the
// environment: a variable with _FILE after its name says which file holds the
// value. What is shown of a secret is what [setting].hide leaves.
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
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/fanout/catalogue"
	"github.com/grapnel-hooks/grapnel/sqlite/seal"
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
	OnMissing                          string         // fail, new or all: what becomes of streams that are marked as another database's
	Replicated                         bool           // another program copies the database's log
	ParkAfter                          int64          // pending deliveries of one endpoint; 0: any number
	LogFormat                          string         // auto, text or json
	LogLevel                           slog.Level
	OTLPEndpoint                       *url.URL            // of the collector of traces; nil: nothing is traced
	OTLPHeaders                        []deliver.Header    // of each request to it; secret
	TraceSample                        float64             // of the events without a sampled publisher, 0 to 1
	Plans                              map[string][]string // plan → features; nil: every org has every feature
	MaxPending                         int64               // deliveries of one organization; 0: any number
	MinFree                            int64               // bytes of the disk; -1: by its size, 0: any
	MaxStore                           int64               // bytes of the database; 0: any number
	Ballast                            int64               // bytes; 0: none
	KeepBytes                          int64               // of the database, beyond which what is finished goes; 0: any number
	KeepFinished                       time.Duration       // delivered and cancelled deliveries; 0: the daemon's default
	KeepDead                           time.Duration       // dead ones; 0: the daemon's default
	File                               string              // that it was read from, or ""

	said map[string]saying // by key; for Effective and Changes
}

// Error is a setting that cannot be used.
type Error struct {
	Where string // "--listen", "GRAPNEL_LISTEN", "grapnel.yaml:3", "grapnel.yaml:3: listen"
	Flag  bool   // it was said on the command line
	Err   error
}

func (e *Error) Error() string { return e.Where + ": " + e.Err.Error() }

func (e *Error) Unwrap() error { return e.Err }

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

// Load reads the configuration. The flags have been parsed; lookup looks a
// variable up, as os.LookupEnv does. The error is an *Error, or several joined.
func Load(f *pflag.FlagSet, lookup func(string) (string, bool)) (Serve, error) {
	env := func(name string) string { // an empty variable is none
		if v, ok := lookup(name); ok {
			return v
		}
		return ""
	}
	var c Serve
	var file file
	var errs []error
	name := env("GRAPNEL_CONFIG")
	if f.Changed("config") {
		name, _ = f.GetString("config")
	}
	if name != "" {
		var err error
		if file, err = readFile(name); err != nil {
			errs = append(errs, err)
		}
		c.File = name
	}
	c.EventTypes, c.Formats = file.eventTypes, file.formats
	c.Plans, c.KeepFinished, c.KeepDead, c.KeepBytes = file.plans, file.keepFinished, file.keepDead, file.keepBytes
	c.said = make(map[string]saying, len(settings)+len(sections))
	for _, s := range settings {
		said, err := s.find(f, env, file)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c.said[s.key()] = said
		if len(said.values) == 0 || said.values[0] == "" && s.initial == "" {
			continue
		}
		if err := s.set(&c, said.values); err != nil {
			errs = append(errs, &Error{Where: cmp.Or(said.place(), "default of --"+s.flag), Flag: said.source == Flag, Err: err})
		}
	}
	for _, s := range sections {
		c.said[s.key] = s.find(&c, file)
	}
	if err := c.secretsKeys(env); err != nil {
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		errs = append(errs, c.contradictions()...)
	}
	return c, errors.Join(errs...)
}

// find is what was said of the setting.
func (s setting) find(f *pflag.FlagSet, env func(string) string, file file) (saying, error) {
	if f.Changed(s.flag) {
		said := saying{source: Flag, where: "--" + s.flag}
		if s.many {
			said.values, _ = f.GetStringArray(s.flag)
		} else {
			said.values = []string{f.Lookup(s.flag).Value.String()}
		}
		return said, nil
	}
	name := s.env()
	v := env(name)
	if s.hide != nil {
		var err error
		if v, name, err = variableOrFile(env, name); err != nil {
			return saying{}, err
		}
	}
	if v != "" {
		said := saying{source: Variable, where: name}
		if !s.many {
			said.values = []string{v}
			return said, nil
		}
		for part := range strings.SplitSeq(v, ",") {
			said.values = append(said.values, strings.TrimSpace(part))
		}
		return said, nil
	}
	if e, ok := file.entries[s.key()]; ok {
		return saying{e.values, File, fmt.Sprintf("%s:%d", file.name, e.line), s.key()}, nil
	}
	if s.many {
		return saying{source: Default}, nil
	}
	return saying{values: []string{s.initial}, source: Default}, nil
}

// variableOrFile is a secret of the environment: the variable, or the text of the
// file that the variable with _FILE after its name names.
func variableOrFile(env func(string) string, name string) (value, where string, err error) {
	value = env(name)
	file := env(name + fileSuffix)
	switch {
	case file == "":
		return value, name, nil
	case value != "":
		return "", "", &Error{Where: name, Err: fmt.Errorf("gives what %s says is in a file; leave one out", name+fileSuffix)}
	}
	data, err := readLimited(file)
	value = strings.TrimSpace(string(data))
	if err == nil && value == "" {
		err = errors.New("is empty")
	}
	if err != nil {
		return "", "", &Error{Where: name + fileSuffix, Err: fmt.Errorf("%s: %w", file, err)}
	}
	return value, name + fileSuffix, nil
}

// fileSuffix is what the name of a variable ends with that names a file with the
// value of the variable without it.
const fileSuffix = "_FILE"

// secretsKeyVariable is no setting: keys on a command line would be seen by
// everybody who lists processes, and in the file by everybody who reads it.
const secretsKeyVariable = "GRAPNEL_SECRETS_KEY"

// secretsKeys reads the keys of the secrets from the environment.
func (c *Serve) secretsKeys(env func(string) string) (err error) {
	text := env(secretsKeyVariable)
	if text == "" {
		return nil
	}
	if c.SecretsKeys, err = seal.ParseKeys(text); err != nil {
		return &Error{Where: secretsKeyVariable, Err: err}
	}
	if where := c.said["secrets_key_file"].place(); where != "" {
		return &Error{Where: secretsKeyVariable, Err: fmt.Errorf("gives the key that %s says is in a file; leave one out", where)}
	}
	return nil
}

// contradictions are settings that cannot be had together.
func (c *Serve) contradictions() (errs []error) {
	said := func(flag string) string { return c.said[strings.ReplaceAll(flag, "-", "_")].place() }
	refuse := func(flag, format string, args ...any) {
		errs = append(errs, &Error{Where: said(flag), Flag: strings.HasPrefix(said(flag), "--"), Err: fmt.Errorf(format, args...)})
	}
	if c.NATSURL != "" {
		for _, flag := range []string{"nats-listen", "nats-sign-in", "nats-sync"} {
			if said(flag) != "" {
				refuse(flag, "is for the embedded NATS server, and %s uses another", said("nats-url"))
			}
		}
	} else {
		for _, flag := range []string{"nats-creds", "nats-tls-ca", "nats-tls-cert", "nats-tls-key"} {
			if said(flag) != "" {
				refuse(flag, "is for a NATS server elsewhere: say which with --nats-url")
			}
		}
	}
	if c.EgressProxy != nil && c.EgressProxy.User != nil && strings.HasPrefix(said("egress-proxy"), "--") {
		refuse("egress-proxy", "holds a user and password, which everybody sees who lists processes: give it by GRAPNEL_EGRESS_PROXY or in the file")
	}
	if flag, err := c.tracing(said); err != nil {
		refuse(flag, "%w", err)
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
