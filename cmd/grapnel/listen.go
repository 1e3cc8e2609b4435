package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/config"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/spf13/cobra"
)

// Limits of the receiver.
const (
	listenMaxBody = 4 << 20
	forwardLimit  = 15 * time.Second // more than a delivery's default timeout
)

func (a *app) listenCommand() *cobra.Command {
	var (
		address, forward string
		format, file     string
		secrets          []string
		status, fails    int
	)
	c := &cobra.Command{
		Use:   "listen",
		Short: "Receive webhooks here: verify, print, forward",
		Long: `Receive webhooks on this machine, for people who build a receiver. Each request
is verified (Standard Webhooks, or as the endpoint's --format says) and printed;
when it is not authentic, the check that failed is named. With --forward-to it is
passed on, and the answer given back. --status and --fail-first let you see what
retries do.

The daemon must allow such an endpoint:
  grapnel serve --allow-http --allow-network 127.0.0.0/8`,
		Example: `  grapnel listen --secret @secret.txt --forward-to http://localhost:3000/webhooks --fail-first 2
  grapnel listen --format tenantx --secret @secret.txt`,
		Args: cobra.NoArgs,
	}
	f := c.Flags()
	f.StringVar(&address, "addr", "127.0.0.1:8481", "`address` to listen on")
	f.StringArrayVar(&secrets, "secret", nil, "the endpoint's `whsec_…`, or what its format signs with, or whpk_…; @file, or - for standard input (repeatable: while it is rotated)")
	f.StringVar(&format, "format", deliver.FormatStandard, "the endpoint's wire format `name`")
	f.StringVar(&file, "config", "", "the daemon's configuration `file`, for a format of its own")
	f.StringVar(&forward, "forward-to", "", "pass requests on to this `URL`")
	f.IntVar(&status, "status", http.StatusNoContent, "answer with this status")
	f.IntVar(&fails, "fail-first", 0, "answer the first N requests with 503")
	c.RunE = func(c *cobra.Command, _ []string) error {
		r := &listener{app: a, ink: a.ink(), status: status, fails: fails, now: time.Now}
		var err error
		if r.format, err = listenFormat(format, file); err != nil {
			return err
		}
		for _, s := range secrets {
			text, err := a.value(s)
			if err != nil {
				return fmt.Errorf("--secret: %w", err)
			}
			if err := r.trust(strings.TrimSpace(text)); err != nil {
				return &usageError{fmt.Errorf("--secret: %w", err)}
			}
		}
		if status < 200 || status > 599 {
			return &usageError{fmt.Errorf("--status %d: want 200 to 599", status)}
		}
		if forward != "" {
			u, err := url.Parse(forward)
			if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
				return &usageError{errors.New("--forward-to: want a URL, such as http://localhost:3000/webhooks")}
			}
			r.forward = u
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("--addr %s: %w", address, err)
		}
		return r.run(c.Context(), l)
	}
	return c
}

// listener is a server that verifies, prints and answers.
type listener struct {
	app     *app
	ink     ink
	format  deliver.Format // the zero one: Standard Webhooks
	secrets []sign.Secret
	keys    []sign.PublicKey // instead of secrets
	forward *url.URL         // nil: answer ourselves
	status  int
	now     func() time.Time

	mu    sync.Mutex // one request is printed at a time
	fails int        // how many more to refuse
	seen  int
}

// run receives until ctx ends.
func (r *listener) run(ctx context.Context, l net.Listener) error {
	say := func(format string, args ...any) { // beside the JSON, not in it
		if !r.app.json {
			r.app.printf(format, args...)
		}
	}
	say("Listening on http://%s\n", l.Addr())
	if !r.checks() {
		say("%s\n", r.ink.yellow("Without --secret, signatures are not checked."))
	}
	say("Stop with Ctrl-C.\n\n")
	s := &http.Server{
		Handler: r, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 60 * time.Second, MaxHeaderBytes: 16 << 10,
	}
	stopped := make(chan struct{})
	context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.Close()
	})
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	<-stopped
	say("Requests: %d\n", r.seen)
	return nil
}

// ServeHTTP implements http.Handler.
func (r *listener) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, listenMaxBody))
	if err != nil {
		http.Error(w, "body could not be read", http.StatusBadRequest)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	bad := r.verify(req, body)
	status, answer, note := r.answer(req, body, bad == nil)
	r.seen++
	if r.app.json {
		r.printJSON(req, body, bad, status)
	} else {
		r.print(req, body, r.verdict(bad), status, note)
	}
	w.WriteHeader(status)
	w.Write(answer) // the sender is gone if this fails
}

// listenFormat is the format of that name, built in or of the configuration file.
func listenFormat(name, file string) (deliver.Format, error) {
	var configured []deliver.Format
	if file != "" {
		var err error
		if configured, err = config.Formats(file); err != nil {
			return deliver.Format{}, fmt.Errorf("--config: %w", err)
		}
	}
	formats, err := deliver.NewFormats(configured)
	if err != nil {
		return deliver.Format{}, fmt.Errorf("--config: %w", err)
	}
	f, ok := formats.Get(name)
	if !ok {
		return f, &usageError{fmt.Errorf("--format %q: want one of %s; --config has others", name, strings.Join(formats.Names(), ", "))}
	}
	return f, nil
}

// trust lets requests be signed with that secret, or by the owner of that public
// key.
func (r *listener) trust(text string) error {
	if r.format.Scheme == sign.Ed25519 && strings.HasPrefix(text, "whpk_") {
		key, err := sign.ParsePublicKey(text)
		r.keys = append(r.keys, key)
		return err
	}
	secret, err := r.format.Scheme.ParseSecret(text)
	r.secrets = append(r.secrets, secret)
	return err
}

// checks reports whether requests are verified.
func (r *listener) checks() bool { return len(r.secrets)+len(r.keys) > 0 }

// verify returns nil for a request that is authentic.
func (r *listener) verify(req *http.Request, body []byte) error {
	if !r.checks() {
		return nil
	}
	v := r.format.Verifier()
	v.Secrets, v.Public = r.secrets, r.keys
	return v.Verify(req.Header, body, r.now())
}

// nameOf is what the request says that tells it from others: the event's id, else
// the delivery's, else the event's type.
func (r *listener) nameOf(req *http.Request) string {
	h := r.format.Headers
	return cmp.Or(req.Header.Get(cmp.Or(h.EventID, sign.HeaderID)), req.Header.Get(h.DeliveryID), req.Header.Get(h.Type))
}

// verdict is what verify found, in words.
func (r *listener) verdict(err error) string {
	var failed *sign.Error
	switch {
	case !r.checks():
		return r.ink.yellow("not checked")
	case err == nil:
		return r.ink.green("verified")
	case errors.As(err, &failed):
		return r.ink.red(fmt.Sprintf("NOT VERIFIED (%s): %s", failed.Check, reason(err)))
	}
	return r.ink.red("NOT VERIFIED: " + reason(err))
}

func reason(err error) string { return strings.TrimPrefix(err.Error(), "verify webhook: ") }

// answer decides what the sender gets, and says why when it is not --status.
func (r *listener) answer(req *http.Request, body []byte, authentic bool) (status int, answer []byte, note string) {
	switch {
	case !authentic:
		return http.StatusUnauthorized, nil, ""
	case r.fails > 0:
		r.fails--
		return http.StatusServiceUnavailable, nil, fmt.Sprintf("--fail-first, %d more", r.fails)
	case r.forward == nil:
		return r.status, nil, ""
	}
	ctx, cancel := context.WithTimeout(req.Context(), forwardLimit)
	defer cancel()
	began := r.now()
	status, answer, err := passOn(ctx, r.forward, req.Header, body)
	if err != nil {
		return http.StatusBadGateway, nil, "forwarding failed: " + err.Error()
	}
	return status, answer, fmt.Sprintf("from %s in %s", r.forward.Host, r.now().Sub(began).Round(time.Millisecond))
}

// passOn sends the request on as it came, so that its signature still holds.
func passOn(ctx context.Context, to *url.URL, h http.Header, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.String(), bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	for name, values := range h {
		if name != "Connection" && name != "Content-Length" && name != "Accept-Encoding" {
			req.Header[name] = values
		}
	}
	noRedirect := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := noRedirect.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err
		}
		return 0, nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, listenMaxBody))
	return resp.StatusCode, answer, err
}

// print writes one line for the request, and its body.
func (r *listener) print(req *http.Request, body []byte, verdict string, status int, note string) {
	code := r.ink.green(fmt.Sprint(status))
	if status >= 300 {
		code = r.ink.red(fmt.Sprint(status))
	}
	if note != "" {
		note = r.ink.faint(" (" + note + ")")
	}
	r.app.printf("%s %s %s  %s%s%s  → %s%s\n",
		r.ink.faint(r.now().Format("15:04:05")), req.Method, printable(req.URL.Path),
		r.ink.bold(printable(r.nameOf(req))), attemptOf(req), "  "+verdict, code, note)
	for line := range strings.Lines(printable(indented(body))) {
		r.app.printf("  %s\n", strings.TrimRight(line, "\r\n"))
	}
	r.app.printf("\n")
}

// printJSON writes the request as one line.
func (r *listener) printJSON(req *http.Request, body []byte, bad error, status int) {
	line := struct {
		Time     time.Time         `json:"time"`
		Method   string            `json:"method"`
		Path     string            `json:"path"`
		Headers  map[string]string `json:"headers"`
		Body     string            `json:"body"`
		Verified *bool             `json:"verified,omitempty"`
		Error    string            `json:"error,omitempty"`
		Status   int               `json:"status"`
	}{Time: r.now().UTC(), Method: req.Method, Path: req.URL.Path, Headers: map[string]string{}, Body: string(body), Status: status}
	for name, values := range req.Header {
		line.Headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	if r.checks() {
		ok := bad == nil
		line.Verified = &ok
	}
	if bad != nil {
		line.Error = reason(bad)
	}
	json.NewEncoder(r.app.out).Encode(line)
}

// attemptOf is the number that our own requests carry.
func attemptOf(req *http.Request) string {
	if n := req.Header.Get("Grapnel-Attempt"); n != "" {
		return "  attempt " + printable(n)
	}
	return ""
}
