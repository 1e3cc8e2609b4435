package httpapi

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/grapnel-hooks/grapnel/deliver"
)

// Rotation says how an endpoint's secret is replaced.
type Rotation struct {
	Secret  string        // as the endpoint's format wants it; "": make one
	Overlap time.Duration // how long the older ones go on to sign; 0 to deliver.MaxOverlap
}

// Key is a key with which secrets are encrypted in the database.
type Key struct {
	ID        string
	CreatedAt time.Time // zero: not known
	Rows      int64     // encrypted with it
	Seals     bool      // what is encrypted from now on is encrypted with it
}

// Secrets is the part of a Service that shows and replaces secrets.
type Secrets interface {
	// Secret is the endpoint with its secrets, to be shown. An entry of the audit
	// says so.
	Secret(ctx context.Context, org, id string) (deliver.Endpoint, error)
	// RotateSecret gives the endpoint a new secret and returns the endpoint with
	// those that sign now, the new one first. It wraps ErrState when too many
	// would sign.
	RotateSecret(ctx context.Context, org, id string, r Rotation) (deliver.Endpoint, error)
	// Keys lists the keys of the installation, the one that seals first.
	Keys(ctx context.Context) ([]Key, error)
	// RotateKey makes a new key and encrypts everything again with it, which
	// takes seconds. It wraps ErrState when the keys are not in a file of the
	// daemon's, or when it is being done already.
	RotateKey(ctx context.Context) (Key, error)
}

// SecretBody is the answer that shows an endpoint's secret.
type SecretBody struct {
	Secret    string           `json:"secret" example:"whsec_bm90LWEtc2VjcmV0LWJ1dC1hbi1leGFtcGxlLW9mLW9uZQ==" doc:"Signs every request to the endpoint"`
	PublicKey string           `json:"public_key,omitempty" example:"whpk_bm90LWEta2V5LWJ1dC1hbi1leGFtcGxlLW9mLTE=" doc:"Of a format that signs by ed25519: what receivers verify with"`
	CreatedAt time.Time        `json:"created_at"`
	Previous  []PreviousSecret `json:"previous" nullable:"false" doc:"Older secrets that still sign, newest first; their texts are not shown"`
}

// PreviousSecret is a secret that has been replaced and still signs.
type PreviousSecret struct {
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at" doc:"From then on it does not sign"`
}

// SecretRotate is the body of POST …/rotate-secret.
type SecretRotate struct {
	Secret  string    `json:"secret,omitempty" maxLength:"128" doc:"whsec_ and base64 of 24 to 64 bytes, or what another format signs with: 16 to 128 printable characters, or whsk_; made when left out"`
	Overlap *Duration `json:"overlap,omitempty" nullable:"false" example:"24h" doc:"How long the older secrets go on to sign, 0s to 168h; 24h when left out; 0s after a leak"`
}

// KeyBody is a key of the secrets, without the key itself.
type KeyBody struct {
	ID        string     `json:"id" example:"3f9c0d5b7a1e2846"`
	CreatedAt *time.Time `json:"created_at" doc:"null: not known"`
	Rows      int64      `json:"rows" example:"240" doc:"Of the database, encrypted with it; at 0 only older backups need it"`
	Seals     bool       `json:"seals" example:"true" doc:"It encrypts what is written from now on"`
}

type secretRotate struct {
	EndpointPath
	Write[SecretRotate]
}

func (a *api) secrets() {
	const tag, one = "endpoints", base + "/orgs/{org}/endpoints/{id}"
	manage := access{scope: WebhooksManage, gated: true}
	handle(a, route{id: "get-endpoint-secret", method: http.MethodGet, path: one + "/secret", tag: tag, access: manage,
		summary: "Show the secret of an endpoint; the audit notes who asked"},
		func(ctx context.Context, in *EndpointPath) (*answer[SecretBody], error) {
			e, err := a.svc.Secret(ctx, in.Org, in.ID)
			if err != nil {
				return nil, err
			}
			return &answer[SecretBody]{secretBody(e)}, nil
		})
	body := new(huma.RequestBody)
	handleNew(a, route{id: "rotate-endpoint-secret", method: http.MethodPost, path: one + "/rotate-secret", status: http.StatusCreated, tag: tag, access: manage,
		summary:  "Replace the secret of an endpoint; the older ones sign too until the overlap ends",
		describe: func(op *huma.Operation) { op.RequestBody = body }},
		func(ctx context.Context, in *secretRotate) (deliver.Endpoint, error) {
			return a.rotateSecret(ctx, in.EndpointPath, in.Body)
		}, secretBody)
	body.Required = false // it may be left out, which huma does not know of a body that is also read raw

	operators := access{scope: Admin, operator: true}
	handle(a, route{id: "list-keys", method: http.MethodGet, path: base + "/keys", tag: "installation", access: operators,
		summary: "List the keys that encrypt secrets in the database, the one in use first"},
		func(ctx context.Context, _ *struct{}) (*answer[List[KeyBody]], error) {
			keys, err := a.svc.Keys(ctx)
			if err != nil {
				return nil, err
			}
			return &answer[List[KeyBody]]{List[KeyBody]{Data: shaped(keys, keyBody)}}, nil
		})
	handle(a, route{id: "rotate-key", method: http.MethodPost, path: base + "/keys/rotate", tag: "installation", access: operators,
		summary: "Replace the key that encrypts secrets in the database, and encrypt them again"},
		func(ctx context.Context, _ *struct{}) (*answer[KeyBody], error) {
			k, err := a.svc.RotateKey(ctx)
			if err != nil {
				return nil, err
			}
			return &answer[KeyBody]{keyBody(k)}, nil
		})
}

func (a *api) rotateSecret(ctx context.Context, at EndpointPath, b SecretRotate) (deliver.Endpoint, error) {
	r := Rotation{Secret: b.Secret, Overlap: deliver.DefaultOverlap}
	if b.Overlap != nil {
		r.Overlap = time.Duration(*b.Overlap)
	}
	if r.Overlap < 0 || r.Overlap > deliver.MaxOverlap {
		return deliver.Endpoint{}, &Invalid{Field: "overlap", Detail: "must be from 0s to " + Duration(deliver.MaxOverlap).String()}
	}
	return a.svc.RotateSecret(ctx, at.Org, at.ID, r)
}

func secretBody(e deliver.Endpoint) SecretBody {
	b := SecretBody{Previous: []PreviousSecret{}}
	for i, k := range e.Secrets {
		if i == 0 {
			b.Secret, b.PublicKey, b.CreatedAt = k.Reveal(), k.Public().String(), utc(k.CreatedAt)
			continue
		}
		b.Previous = append(b.Previous, PreviousSecret{CreatedAt: utc(k.CreatedAt), ExpiresAt: utc(k.ExpiresAt)})
	}
	return b
}

func keyBody(k Key) KeyBody {
	return KeyBody{ID: k.ID, CreatedAt: optional(k.CreatedAt), Rows: k.Rows, Seals: k.Seals}
}

// hiddenValue stands for the value of a header in answers, and in a request for
// the value that the header has.
const hiddenValue = "[redacted]"

// headersOf are the headers of a request's body.
func headersOf(b map[string]string) []deliver.Header {
	headers := make([]deliver.Header, 0, len(b))
	for name, value := range b {
		h := deliver.Header{Name: name}
		if value != hiddenValue {
			h.Value = deliver.NewHeaderValue(value)
		}
		headers = append(headers, h)
	}
	return headers
}

// hiddenHeaders are headers in an answer: their names.
func hiddenHeaders(headers []deliver.Header) map[string]string {
	b := make(map[string]string, len(headers))
	for _, h := range headers {
		b[h.Name] = hiddenValue
	}
	return b
}
