//go:build !meshcrypt_insecure

package node

import (
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// wallClock is the clock that certificates are judged by.
func wallClock() func() time.Time { return time.Now }

// keyLog hands out traffic keys in test builds only; there is none here.
func keyLog() func(spi uint32, key esp.Key) { return nil }

// measuresAlone is true in test builds that share a machine; never here.
func measuresAlone() bool { return false }

// parksAfter is another rest for clients in test builds; none here.
func parksAfter() time.Duration { return 0 }

// openLedger is where test builds record every nonce; there is none here.
func openLedger() (esp.Ledger, error) { return nil, nil }
