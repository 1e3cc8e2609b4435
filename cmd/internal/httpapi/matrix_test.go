package httpapi_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/doortest"
	"github.com/grapnel-hooks/grapnel/cmd/internal/httpapi/httpapitest"
)

// inMemory is the API over a Service in memory.
func inMemory() *doortest.API {
	s := httpapitest.New()
	s.NoPlan = map[string]bool{"trial": true}
	h := public(s)
	return &doortest.API{
		Service: s, Receiver: "https://hooks.example/in",
		Do: func(r *http.Request) (*http.Response, error) {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Result(), nil
		},
	}
}

func TestMatrix(t *testing.T) { doortest.Matrix(t, inMemory()) }

func TestContract(t *testing.T) { doortest.Contract(t, inMemory()) }
