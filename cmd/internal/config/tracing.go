package config

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// collectorHeaders reads name=value, percent-encoded where a value needs a comma, as
// OpenTelemetry writes them (Environment Variable Specification,
// OTEL_EXPORTER_OTLP_HEADERS). No error repeats a value.
func collectorHeaders(c *Serve, values []string) error {
	var headers []deliver.Header
	for i, text := range values {
		name, value, found := strings.Cut(text, "=")
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !found || err != nil {
			return fmt.Errorf("header %d: want name=value, percent-encoded", i+1)
		}
		headers = append(headers, deliver.Header{Name: strings.TrimSpace(name), Value: deliver.NewHeaderValue(value)})
	}
	headers, err := deliver.CheckHeaders(headers)
	if err != nil {
		return err
	}
	c.OTLPHeaders = headers
	return nil
}

// ratio reads a part of all, from 0 to 1.
func ratio(field func(*Serve) *float64) func(*Serve, []string) error {
	return func(c *Serve, v []string) error {
		n, err := strconv.ParseFloat(v[0], 64)
		if err != nil || !(n >= 0 && n <= 1) {
			return fmt.Errorf("%q: want a number from 0 to 1", v[0])
		}
		*field(c) = n
		return nil
	}
}

// hideAll is for settings that are secret as a whole.
func hideAll(string) string { return hidden }

// tracing says what is wrong with the settings of traces, by the setting.
func (c *Serve) tracing(said func(flag string) string) (flag string, err error) {
	switch {
	case strings.HasPrefix(said("otlp-headers"), "--"):
		return "otlp-headers", errors.New("everybody sees it who lists processes: give it by GRAPNEL_OTLP_HEADERS, GRAPNEL_OTLP_HEADERS_FILE or in the file")
	case len(c.OTLPHeaders) > 0 && c.OTLPEndpoint == nil:
		return "otlp-headers", errors.New("is for a collector: say which with --otlp-endpoint")
	case said("trace-sample") != "" && c.OTLPEndpoint == nil:
		return "trace-sample", errors.New("is for a collector: say which with --otlp-endpoint")
	}
	return "", nil
}
