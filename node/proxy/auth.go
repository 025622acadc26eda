package proxy

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"net/http"
	"strings"
)

// ErrCredentials says what a credentials file must hold.
var ErrCredentials = errors.New("want one line user:password, each of 1 to 255 bytes")

// ParseCredentials reads user:password.
func ParseCredentials(text string) (*Credentials, error) {
	text = strings.TrimRight(text, "\r\n")
	user, password, ok := strings.Cut(text, ":")
	if !ok || strings.ContainsAny(text, "\r\n") || len(user) == 0 || len(user) > 255 || len(password) == 0 || len(password) > 255 {
		return nil, ErrCredentials
	}
	return &Credentials{user, password}, nil
}

// match takes as long for any answer.
func (c *Credentials) match(user, password string) bool {
	given, known := sha256.Sum256([]byte(user+":"+password)), sha256.Sum256([]byte(c.User+":"+c.Password))
	return subtle.ConstantTimeCompare(given[:], known[:]) == 1
}

// allows checks the header of an HTTP request.
func (s *Server) allows(r *http.Request) bool {
	if s.config.Credentials == nil {
		return true
	}
	as := http.Request{Header: http.Header{"Authorization": r.Header["Proxy-Authorization"]}}
	user, password, ok := as.BasicAuth()
	return ok && s.config.Credentials.match(user, password)
}
