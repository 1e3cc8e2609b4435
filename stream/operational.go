package stream

import (
	"slices"
	"strings"
)

// OperationalPrefix begins the types of operational events: those by which the
// daemon tells an organization, in its own stream, of its endpoints and
// deliveries. Nobody else appends such events, and the pattern * does not match
// them: who wants everything that a platform tells must not be told of its
// webhooks.
const OperationalPrefix = "webhook."

// The types of operational events.
const (
	EndpointFailing       = "webhook.endpoint.failing"
	EndpointRecovered     = "webhook.endpoint.recovered"
	EndpointDisabled      = "webhook.endpoint.disabled"
	EndpointEnabled       = "webhook.endpoint.enabled"
	EndpointSecretRotated = "webhook.endpoint.secret_rotated"
	DeliveryDead          = "webhook.delivery.dead"
	CursorGap             = "webhook.cursor.gap"
)

// OperationalTypes are all types of operational events, in alphabetical order.
var OperationalTypes = []string{
	CursorGap, DeliveryDead, EndpointDisabled, EndpointEnabled, EndpointFailing, EndpointRecovered, EndpointSecretRotated,
}

// OperationalSource is the source of operational events.
const OperationalSource = "grapnel"

// Operational reports whether events of the type, or of a pattern's stem, are
// operational.
func Operational(typ string) bool { return strings.HasPrefix(typ, OperationalPrefix) }

// KnownOperational reports whether the type is one of [OperationalTypes].
func KnownOperational(typ string) bool {
	_, found := slices.BinarySearch(OperationalTypes, typ)
	return found
}

// operationalSubjects are the subjects below the filters on which operational
// events lie: what the wildcards of a filter match is the type.
func operationalSubjects(filters []string) (subjects []string) {
	first := strings.TrimSuffix(OperationalPrefix, ".")
	for _, f := range filters {
		words := strings.Split(f, ".")
		i := slices.IndexFunc(words, func(w string) bool { return w == "*" || w == ">" })
		if i < 0 {
			continue
		}
		rest := words[i+1:]
		if words[i] == ">" {
			rest = []string{">"}
		} else if !slices.Contains(rest, "*") && !slices.Contains(rest, ">") {
			continue // the type is one word
		}
		subjects = append(subjects, strings.Join(slices.Concat(words[:i], []string{first}, rest), "."))
	}
	return subjects
}
