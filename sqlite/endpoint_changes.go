package sqlite

import (
	"slices"
	"strings"

	"github.com/grapnel-hooks/grapnel/deliver"
)

// endpointChanges are the settings that differ, by their names in the API. Of
// headers and of a URL's query it has no values.
func endpointChanges(before, after deliver.Endpoint) Changes {
	c := Changes{}
	if before.URL != after.URL {
		c["url"] = [2]any{withoutQuery(before.URL), withoutQuery(after.URL)}
	}
	changed(c, "description", before.Description, after.Description)
	changed(c, "workspace_id", before.Workspace, after.Workspace)
	changed(c, "timeout_ms", before.Timeout.Milliseconds(), after.Timeout.Milliseconds())
	changed(c, "retry.initial", before.Retry.Initial.String(), after.Retry.Initial.String())
	changed(c, "retry.multiplier", before.Retry.Multiplier, after.Retry.Multiplier)
	changed(c, "retry.max_interval", before.Retry.MaxInterval.String(), after.Retry.MaxInterval.String())
	changed(c, "retry.attempts", before.Retry.Attempts, after.Retry.Attempts)
	changed(c, "concurrency", before.Concurrency, after.Concurrency)
	optionChanges(c, before.Options, after.Options)
	if !slices.Equal(before.EventTypes, after.EventTypes) {
		c["event_types"] = [2]any{before.EventTypes, after.EventTypes}
	}
	if !slices.EqualFunc(before.Headers, after.Headers, func(a, b deliver.Header) bool { return a.Name == b.Name && a.Value.Equal(b.Value) }) {
		c["headers"] = [2]any{headerNames(before.Headers), headerNames(after.Headers)}
	}
	credentialsChanges(c, before.Credentials, after.Credentials)
	return c
}

func optionChanges(c Changes, before, after deliver.Options) {
	changed(c, "format", before.Format, after.Format)
	changed(c, "filter", before.Filter, after.Filter)
	changed(c, "rate_limit", before.RateLimit, after.RateLimit)
	changed(c, "ordered", before.Ordered, after.Ordered)
	changed(c, "ordered_by", before.OrderedBy, after.OrderedBy)
	changed(c, "disable_after", before.DisableAfter.String(), after.DisableAfter.String())
	changed(c, "paused", before.Paused, after.Paused)
	changed(c, "traceparent", before.TraceParent, after.TraceParent)
	if was, is := jsonText(before.Redact), jsonText(after.Redact); was != is {
		c["redact"] = [2]any{before.Redact, after.Redact}
	}
}

// made are the settings of something new: there is nothing before.
func (c Changes) made() Changes {
	for name, v := range c {
		c[name] = [2]any{nil, v[1]}
	}
	return c
}

func withoutQuery(url string) string {
	if base, _, found := strings.Cut(url, "?"); found {
		return base + "?…"
	}
	return url
}

func headerNames(headers []deliver.Header) []string {
	names := make([]string, len(headers))
	for i, h := range headers {
		names[i] = h.Name
	}
	return names
}
