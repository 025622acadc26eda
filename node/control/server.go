package control

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
)

// Handler serves operations at POST /v1/<name>. from tells who calls.
func Handler(operations map[string]Operation, from func(*http.Request) Caller) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, ok := strings.CutPrefix(r.URL.Path, "/v1/")
		operation, known := operations[name]
		caller := from(r)
		switch {
		case r.Method != http.MethodPost || !ok || !known:
			answer(w, nil, Errorf(CodeUsage, "meshcrypt version", "no operation %q in this version", name))
		case caller == CallerNode && !operation.Look:
			answer(w, nil, Errorf(CodeDenied, "run it on a voter: meshcrypt members shows them",
				"%s is for voters, and this node is none", name))
		default:
			body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBody))
			if err != nil {
				answer(w, nil, Errorf(CodeUsage, "", "reading the request: %v", err))
				return
			}
			result, err := operation.Do(r, caller, body)
			answer(w, result, err)
		}
	})
}

func answer(w http.ResponseWriter, result any, err error) {
	var out envelope
	if err == nil {
		out.Result, err = json.Marshal(result)
	}
	if err != nil && !errors.As(err, &out.Error) {
		out.Error = &Error{Code: CodeFailed, Cause: err.Error()}
	}
	w.Header().Set("Content-Type", "application/json")
	// The connection's own failure has nobody left to tell.
	_ = json.NewEncoder(w).Encode(out)
}
