//go:build meshcrypt_insecure

package node

import (
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
	"github.com/meshcrypt/meshcrypt/crypto/esp/oracle"
)

// This file is in test builds only. It gives away what production never does:
// nonces to the oracle of a test run (I2), keys to a decrypting capture, and
// the wall clock, the load and a client's rest to whoever sets the environment.
const (
	envOracle = "MESHCRYPT_NONCE_ORACLE" // file shared by all processes of a run
	envKeys   = "MESHCRYPT_KEYLOG"       // file of "SPI key||salt suite" lines
	envClock  = "MESHCRYPT_CLOCK_OFFSET" // a duration added to the wall clock, or @ and a file that holds one
	envPark   = "MESHCRYPT_PARK_AFTER"   // a duration: the rest after which a client parks
	envAlone  = "MESHCRYPT_OWN_LOAD"     // set: other work on the host is no load
)

func wallClock() func() time.Time {
	if file, moves := strings.CutPrefix(os.Getenv(envClock), "@"); moves {
		return func() time.Time {
			said, _ := os.ReadFile(file) // without it the clock is right
			offset, _ := time.ParseDuration(strings.TrimSpace(string(said)))
			return time.Now().Add(offset)
		}
	}
	offset, err := time.ParseDuration(os.Getenv(envClock))
	if err != nil {
		return time.Now
	}
	return func() time.Time { return time.Now().Add(offset) }
}

func measuresAlone() bool { return os.Getenv(envAlone) != "" }

func parksAfter() time.Duration {
	after, _ := time.ParseDuration(os.Getenv(envPark)) // without it the client's own
	return after
}

func openLedger() (esp.Ledger, error) {
	path := os.Getenv(envOracle)
	if path == "" {
		return nil, nil
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("nonce oracle: %w", err)
	}
	return oracle.NewRecorder(f, func(err error) { panic("nonce oracle: " + err.Error()) }), nil
}

// keyLog writes each SA's key for a capture to be decrypted with.
func keyLog() func(spi uint32, key esp.Key) {
	path := os.Getenv(envKeys)
	if path == "" {
		return nil
	}
	return func(spi uint32, key esp.Key) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			panic("key log: " + err.Error())
		}
		defer f.Close()
		fmt.Fprintf(f, "0x%08x 0x%s %v\n", spi, hex.EncodeToString(key.Reveal()), key.Suite())
	}
}
