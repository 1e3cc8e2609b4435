package httpapi

import "net/http"

// Refuse answers with a problem, for handlers that stand beside the API.
func Refuse(w http.ResponseWriter, status int, detail string) {
	writeProblem(w, newProblem(status, detail))
}

// debug serves what an operator may ask the process about itself. It takes as long
// as a recording does.
func (a *api) debug(h http.Handler) {
	a.mux.HandleFunc("/debug/", func(w http.ResponseWriter, r *http.Request) {
		unhurried(w)
		h.ServeHTTP(w, r)
	})
}
