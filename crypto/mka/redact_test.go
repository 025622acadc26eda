package mka

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

// TestSecretsAreNotPrinted (I1): no verb shows key material, by value, by
// pointer or inside another struct's exported field.
func TestSecretsAreNotPrinted(t *testing.T) {
	s := newScene(t)
	agentKeys, clientKeys := s.established()
	type holder struct{ Held any }
	secrets := map[string]any{
		"share": s.share, "prekey": *s.secret, "prekey pointer": s.secret, "keys": agentKeys,
		"keys pointer": &clientKeys, "key": agentKeys.In, "agent": *s.agent, "agent pointer": s.agent,
		"client": *s.client, "client pointer": s.client, "held": holder{s.share}, "held agent": holder{*s.agent},
		"shares": []Share{s.share},
	}
	for name, v := range secrets {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "%d", "%q"} {
			got := strings.ToLower(fmt.Sprintf(verb, v))
			if !strings.Contains(got, "redacted") {
				t.Errorf("%s %s: %s", name, verb, got)
			}
			for what, bytes := range map[string][]byte{
				"share": s.share[:], "rekey secret": s.agent.current.secret[:], "seed": s.session.Seed(),
			} {
				if leaks(got, bytes) {
					t.Errorf("%s %s shows the %s: %s", name, verb, what, got)
				}
			}
		}
	}
}

// leaks looks for four bytes of a secret in the ways fmt writes bytes.
func leaks(text string, secret []byte) bool {
	b := secret[:4]
	decimal := strings.Trim(fmt.Sprint(b), "[]")
	return strings.Contains(text, hex.EncodeToString(b)) || strings.Contains(text, decimal) ||
		strings.Contains(text, strings.ReplaceAll(decimal, " ", ", "))
}
