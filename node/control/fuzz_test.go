package control

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"
)

// FuzzHandler: whatever another member sends to an operation, the answer is a
// result or an error with a code, and only what may be looked at is done for him.
func FuzzHandler(f *testing.F) {
	f.Add("status", []byte(`{}`))
	f.Add("sessions/kick", []byte(`{"id":"","reason":"\u0000"}`))
	f.Add("token/create", []byte(`{"roles":["voter"],"uses":-1,"ttl_ns":9223372036854775807}`))
	f.Add("nothing", []byte(`[`))
	done := 0
	operations := map[string]Operation{
		OpStatus:      {Look: true, Do: Handle(func(*http.Request, Nothing) (Status, error) { return Status{}, nil })},
		OpSessions:    {Look: true, Do: Handle(func(_ *http.Request, in SessionsRequest) (SessionsRequest, error) { return in, nil })},
		OpKick:        {Do: Handle(func(*http.Request, KickRequest) (Nothing, error) { done++; return Nothing{}, nil })},
		OpTokenCreate: {Do: Handle(func(*http.Request, TokenRequest) (Nothing, error) { done++; return Nothing{}, nil })},
		OpClientPut:   {Do: Handle(func(*http.Request, ClientRequest) (Nothing, error) { done++; return Nothing{}, nil })},
	}
	handler := Handler(operations, func(*http.Request) Caller { return CallerNode })
	f.Fuzz(func(t *testing.T, name string, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/v1/", bytes.NewReader(body))
		r.URL.Path = "/v1/" + name
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		if done > 0 {
			t.Fatalf("a member that may only look did %q", name)
		}
		var answer envelope
		if json.Unmarshal(w.Body.Bytes(), &answer) == nil && answer.Error != nil && answer.Error.Code == 0 {
			t.Errorf("%q: an error without a code", name)
		}
	})
}
