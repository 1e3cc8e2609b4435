package doortest

import "github.com/grapnel-hooks/grapnel/cmd/internal/httpapi"

// access says who may use an operation. A path with {org} is that organization's
// and the operators'.
type access struct {
	scope    httpapi.Scope
	operator bool // operators only
	gated    bool // refused to organizations whose plan lacks outgoing webhooks
	tenant   bool // about the organization of the token, which an operator's has not
	entries  int  // of the audit, that one success writes
}

const (
	read   = httpapi.WebhooksRead
	manage = httpapi.WebhooksManage
	write  = httpapi.EventsWrite
	curs   = httpapi.CursorsRead
	move   = httpapi.CursorsManage
	admin  = httpapi.Admin
)

// accesses are all operations of the API.
var accesses = map[string]access{
	"POST /api/v1/orgs":         {scope: admin, operator: true, entries: 1},
	"GET /api/v1/orgs":          {scope: admin, operator: true},
	"GET /api/v1/orgs/{org}":    {scope: admin},
	"PATCH /api/v1/orgs/{org}":  {scope: admin, operator: true, entries: 1},
	"DELETE /api/v1/orgs/{org}": {scope: admin, operator: true, entries: 1},

	"POST /api/v1/orgs/{org}/endpoints":           {scope: manage, gated: true, entries: 1},
	"GET /api/v1/orgs/{org}/endpoints":            {scope: read, gated: true},
	"GET /api/v1/orgs/{org}/endpoints/{id}":       {scope: read, gated: true},
	"PATCH /api/v1/orgs/{org}/endpoints/{id}":     {scope: manage, gated: true, entries: 1},
	"DELETE /api/v1/orgs/{org}/endpoints/{id}":    {scope: manage, gated: true, entries: 1},
	"POST /api/v1/orgs/{org}/endpoints/{id}/test": {scope: manage, gated: true, entries: 1},

	"GET /api/v1/orgs/{org}/endpoints/{id}/secret":         {scope: manage, gated: true, entries: 1},
	"POST /api/v1/orgs/{org}/endpoints/{id}/rotate-secret": {scope: manage, gated: true, entries: 1},

	"POST /api/v1/orgs/{org}/filters/dry-run": {scope: read, gated: true},

	"POST /api/v1/orgs/{org}/events":             {scope: write}, // the stream itself says what was appended
	"GET /api/v1/orgs/{org}/events":              {scope: read, gated: true},
	"GET /api/v1/orgs/{org}/events/{id}":         {scope: read, gated: true},
	"POST /api/v1/orgs/{org}/events/{id}/replay": {scope: manage, gated: true, entries: 1},

	"POST /api/v1/orgs/{org}/events/{id}/expunge": {scope: admin}, // the example only counts

	"GET /api/v1/orgs/{org}/deliveries":              {scope: read, gated: true},
	"GET /api/v1/orgs/{org}/deliveries/{id}":         {scope: read, gated: true},
	"POST /api/v1/orgs/{org}/deliveries/{id}/retry":  {scope: manage, gated: true, entries: 1},
	"POST /api/v1/orgs/{org}/deliveries/{id}/cancel": {scope: manage, gated: true, entries: 1},

	"GET /api/v1/orgs/{org}/endpoints/{id}/stats": {scope: read, gated: true},
	"GET /api/v1/orgs/{org}/events/{id}/explain":  {scope: read, gated: true},

	"POST /api/v1/orgs/{org}/endpoints/{id}/replay": {scope: manage, gated: true, entries: 1},
	"GET /api/v1/orgs/{org}/replays":                {scope: read, gated: true},
	"GET /api/v1/orgs/{org}/replays/{id}":           {scope: read, gated: true},
	"POST /api/v1/orgs/{org}/replays/{id}/pause":    {scope: manage, gated: true, entries: 1},
	"POST /api/v1/orgs/{org}/replays/{id}/resume":   {scope: manage, gated: true}, // of one that runs: it changes nothing
	"POST /api/v1/orgs/{org}/replays/{id}/cancel":   {scope: manage, gated: true, entries: 1},

	"GET /api/v1/orgs/{org}/cursor":         {scope: curs},
	"POST /api/v1/orgs/{org}/cursor/claim":  {scope: move, operator: true}, // the example's is ours already
	"POST /api/v1/orgs/{org}/cursor/pause":  {scope: move, entries: 1},
	"POST /api/v1/orgs/{org}/cursor/reset":  {scope: move},             // the example only foresees
	"POST /api/v1/orgs/{org}/cursor/resume": {scope: move, entries: 1}, // comes after it, in the order of the paths
	"GET /api/v1/orgs/{org}/gaps":           {scope: curs},
	"GET /api/v1/orgs/{org}/rejected":       {scope: read},
	"GET /api/v1/cursors":                   {scope: curs, operator: true},
	"GET /api/v1/fsck":                      {scope: curs, operator: true},
	"GET /api/v1/fsck/structure":            {scope: curs, operator: true},
	"POST /api/v1/fsck/structure/repair":    {scope: move, operator: true}, // there is nothing to take out

	"POST /api/v1/orgs/{org}/tokens":        {scope: admin, entries: 1},
	"GET /api/v1/orgs/{org}/tokens":         {scope: admin},
	"DELETE /api/v1/orgs/{org}/tokens/{id}": {scope: admin, entries: 1},
	"POST /api/v1/tokens":                   {scope: admin, operator: true, entries: 1},
	"GET /api/v1/tokens":                    {scope: admin, operator: true},
	"DELETE /api/v1/tokens/{id}":            {scope: admin, operator: true, entries: 1},
	"GET /api/v1/orgs/{org}/audit":          {scope: admin},
	"GET /api/v1/audit":                     {scope: admin, operator: true},

	"GET /api/v1/keys":         {scope: admin, operator: true},
	"POST /api/v1/keys/rotate": {scope: admin, operator: true, entries: 1},
	"GET /api/v1/hold":         {scope: admin, operator: true},
	"POST /api/v1/hold/resume": {scope: admin, operator: true},
	"GET /api/v1/log-level":    {scope: admin, operator: true},
	"PUT /api/v1/log-level":    {scope: admin, operator: true, entries: 1},

	"GET /api/v1/config":         {scope: admin, operator: true},
	"GET /api/v1/doctor":         {scope: admin, operator: true},
	"POST /api/v1/config/reload": {scope: admin, operator: true, entries: 1},

	"POST /api/v1/event-types":          {scope: admin, operator: true, entries: 1},
	"GET /api/v1/event-types":           {scope: read},
	"POST /api/v1/event-types/import":   {scope: admin, operator: true, entries: 1},
	"GET /api/v1/event-types/export":    {scope: read},
	"GET /api/v1/event-types/{type}":    {scope: read},
	"PUT /api/v1/event-types/{type}":    {scope: admin, operator: true, entries: 1},
	"DELETE /api/v1/event-types/{type}": {scope: admin, operator: true, entries: 1},

	// The paths of the earlier platforms.
	"POST /api/v1/portal/webhooks/subscribe":          {scope: manage, gated: true, tenant: true, entries: 1},
	"POST /api/v1/portal/webhooks/{id}/rotate-secret": {scope: manage, gated: true, tenant: true, entries: 1},
	"POST /api/v1/integrations/events/{id}/replay":    {scope: manage, gated: true, tenant: true, entries: 1},
	"GET /api/v1/integrations/webhooks":               {scope: read, gated: true, tenant: true},
	"GET /api/v1/integrations/events":                 {scope: read, gated: true, tenant: true},
	"POST /api/admin/webhooks":                        {scope: manage, gated: true, tenant: true, entries: 1},
	"GET /api/admin/webhooks":                         {scope: read, gated: true, tenant: true},
	"GET /api/admin/webhooks/{id}":                    {scope: read, gated: true, tenant: true},
	"PUT /api/admin/webhooks/{id}":                    {scope: manage, gated: true, tenant: true, entries: 1},
	"PATCH /api/admin/webhooks/{id}":                  {scope: manage, gated: true, tenant: true, entries: 1},
	"DELETE /api/admin/webhooks/{id}":                 {scope: manage, gated: true, tenant: true, entries: 1},
}
