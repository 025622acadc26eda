package node

import (
	"strings"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/node/slots"
)

// TestBesiegedSaysWhatGoesOn: how many, from how many, since when.
func TestBesiegedSaysWhatGoesOn(t *testing.T) {
	since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for words, r := range map[string]slots.Report{
		"77 connections from one source refused since 03:04:05": {Refused: 77, Sources: 1},
		"77 connections from 5 sources refused":                 {Refused: 77, Sources: 5},
		"from more than 8192 sources refused":                   {Refused: 9000, Sources: 8192, Many: true},
	} {
		if got := besieged(r, since); !strings.Contains(got, words) {
			t.Errorf("%q lacks %q", got, words)
		}
	}
}
