package tun_test

import (
	"testing"

	"github.com/meshcrypt/meshcrypt/node/tun"
)

func FuzzVnetHeader(f *testing.F) {
	f.Add([]byte{1, 4, 54, 0, 0xa4, 5, 34, 0, 16, 0})
	f.Add(make([]byte, tun.HeaderLen))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < tun.HeaderLen {
			return
		}
		var again [tun.HeaderLen]byte
		tun.Decode(b).Encode(again[:])
		if string(again[:]) != string(b[:tun.HeaderLen]) {
			t.Errorf("%x became %x", b[:tun.HeaderLen], again)
		}
	})
}
