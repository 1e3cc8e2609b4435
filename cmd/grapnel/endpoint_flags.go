package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/spf13/pflag"
)

// endpointFlags are an endpoint's settings that "endpoint add" and "endpoint set"
// share. Only what was said is sent: defaults are the daemon's, and what is left
// out of a change stays.
type endpointFlags struct {
	said                              func(flag string) bool
	types                             []string
	workspace, description            string
	timeout, retryInitial, retryLimit time.Duration
	multiplier                        float64
	attempts, concurrency             int
	headers                           []string
	credentialFlags
	optionFlags
}

// define adds the flags. Their help shows the defaults of a new endpoint when
// there is one.
func (e *endpointFlags) define(f *pflag.FlagSet, fresh bool) {
	e.said = f.Changed
	var timeout time.Duration
	var concurrency int
	var retry deliver.Policy
	byDefault, inPlace := "", "; takes the place of all there are, '' drops them, the value [redacted] keeps what a header has"
	if fresh {
		timeout, concurrency, retry = deliver.DefaultTimeout, deliver.DefaultConcurrency, deliver.DefaultPolicy
		byDefault, inPlace = "; default '*'", ""
	}
	f.StringArrayVar(&e.types, "type", nil, "event `type`: exact, a prefix such as 'invoice.*', or '*' (repeatable"+byDefault+")")
	f.StringVar(&e.workspace, "workspace", "", "only this workspace's events; '' for an org-wide endpoint")
	f.StringVar(&e.description, "description", "", "`text` for people")
	f.StringArrayVar(&e.headers, "header", nil, "`'Name: value'` that each request has; @file or - for lines of them, which keeps values out of ps (repeatable"+inPlace+")")
	f.DurationVar(&e.timeout, "timeout", timeout, "of an attempt, everything included: 1s to 30s")
	f.IntVar(&e.concurrency, "concurrency", concurrency, "attempts at the same time: 1 to 256")
	f.DurationVar(&e.retryInitial, "retry-initial", retry.Initial, "delay after the first failure")
	f.Float64Var(&e.multiplier, "retry-multiplier", retry.Multiplier, "each further delay is this many times the one before")
	f.DurationVar(&e.retryLimit, "retry-max-interval", retry.MaxInterval, "longest delay")
	e.credentialFlags.define(f, fresh)
	e.optionFlags.define(f, fresh)
	f.IntVar(&e.attempts, "retry-attempts", retry.Attempts, "attempts in all, the first included")
}

// timeoutMS is the --timeout, nil when it was not said; so are the next two.
func (e *endpointFlags) timeoutMS() *int {
	if !e.said("timeout") {
		return nil
	}
	ms := int(e.timeout / time.Millisecond)
	return &ms
}

func (e *endpointFlags) parallel() *int {
	if !e.said("concurrency") {
		return nil
	}
	return &e.concurrency
}

func (e *endpointFlags) retry() *httpapi.Retry {
	var r httpapi.Retry
	if e.said("retry-initial") {
		r.Initial = (*httpapi.Duration)(&e.retryInitial)
	}
	if e.said("retry-multiplier") {
		r.Multiplier = &e.multiplier
	}
	if e.said("retry-max-interval") {
		r.MaxInterval = (*httpapi.Duration)(&e.retryLimit)
	}
	if e.said("retry-attempts") {
		r.Attempts = &e.attempts
	}
	if r == (httpapi.Retry{}) {
		return nil
	}
	return &r
}

// clearable is a text that ” clears, when the flag was given.
func (e *endpointFlags) clearable(flag, text string) httpapi.Clearable {
	return httpapi.Clearable{Given: e.said(flag), Text: text}
}

// readHeaders are the headers that the flags name, by name. Errors do not hold values.
func (e *endpointFlags) readHeaders(value func(string) (string, error)) (map[string]string, error) {
	headers := map[string]string{}
	for _, given := range e.headers {
		lines, err := value(given)
		if err != nil {
			return nil, fmt.Errorf("--header: %w", err)
		}
		for line := range strings.Lines(lines) {
			if line = strings.TrimSpace(line); line == "" {
				continue
			}
			name, text, ok := strings.Cut(line, ":")
			if name = strings.TrimSpace(name); !ok || name == "" {
				return nil, &usageError{errors.New("--header: want 'Name: value'")}
			}
			if _, twice := headers[name]; twice {
				return nil, &usageError{fmt.Errorf("--header: %s is there twice", name)}
			}
			headers[name] = strings.TrimSpace(text)
		}
	}
	return headers, nil
}
