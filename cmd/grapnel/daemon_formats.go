package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"
	"github.com/grapnel-hooks/grapnel/cmd/internal/suggest"
	"github.com/grapnel-hooks/grapnel/deliver"
	"github.com/grapnel-hooks/grapnel/deliver/sign"
	"github.com/grapnel-hooks/grapnel/fanout"
	"github.com/grapnel-hooks/grapnel/fanout/filter"
)

// newSecret, given as the secret of a change, has one made. No secret is that
// short.
const newSecret = "new"

// secretFor is the signing secret that was asked for, for an endpoint in that
// format; one is made when none was given.
func (d *daemon) secretFor(format, given string) (sign.Secret, error) {
	scheme := d.formats.Scheme(format)
	if scheme == "" {
		return sign.Secret{}, d.noFormat(format)
	}
	if given == "" || given == newSecret {
		return scheme.NewSecret(), nil
	}
	secret, err := scheme.ParseSecret(given)
	if err != nil {
		return secret, &httpapi.Invalid{Field: "secret", Detail: err.Error()}
	}
	return secret, nil
}

// checkFormat checks that requests can be made in the endpoint's format, with its
// secret and its headers.
func (d *daemon) checkFormat(ep *deliver.Endpoint) error {
	if d.formats.Scheme(ep.Format) == "" {
		return d.noFormat(ep.Format)
	}
	return answered(d.formats.CheckEndpoint(ep))
}

func (d *daemon) noFormat(name string) error {
	detail := fmt.Sprintf("there is no format %.100q: ", name)
	if near := suggest.Nearest(name, d.formats.Names()); near != "" {
		detail += "did you mean " + near + "?"
	} else {
		detail += "there are " + strings.Join(d.formats.Names(), ", ")
	}
	return &httpapi.Invalid{Field: "format", Detail: detail}
}

// checkRedactions checks the event types that redactions are for; their paths are
// checked with the options.
func checkRedactions(list []deliver.Redaction) error {
	for i, r := range list {
		for j, p := range r.Types {
			if err := fanout.CheckPattern(p); err != nil {
				return &httpapi.Invalid{Field: fmt.Sprintf("redact[%d].types[%d]", i, j), Detail: err.Error()}
			}
		}
	}
	return nil
}

// unusable says that an endpoint gets nothing until somebody mends it.
func (d *daemon) unusable(ep *deliver.Endpoint, err error) {
	if errors.Is(err, deliver.ErrFormat) {
		d.log.Error("endpoint is held: nothing can be sent in its format, and its deliveries wait; configure the format again, or give the endpoint another",
			"org", ep.Org, "endpoint", ep.ID, "format", ep.Format, "error", err)
		return
	}
	d.log.Error("endpoint cannot be used", "org", ep.Org, "endpoint", ep.ID, "error", err)
}

// Held says why an endpoint gets nothing until somebody mends it.
func (d *daemon) Held(ep deliver.Endpoint) string {
	if _, err := d.formats.Target(ep); errors.Is(err, deliver.ErrFormat) {
		return "nothing can be sent in its format: configure " + ep.Format + " again, or give the endpoint another"
	}
	if err := filter.Hold(ep.Filter).Err(); err != nil {
		return "its filter cannot be read any more, change it: " + err.Error()
	}
	return ""
}
