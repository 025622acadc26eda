package arbiter

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node/port"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// TestStrangersAskBriefly: who announces more than MaxAskFrame is hung up on at once,
// before anything of it is kept; the longest honest login is shorter (I10).
func TestStrangersAskBriefly(t *testing.T) {
	f := newFixture(t).serve()
	for _, alpn := range []string{port.ALPNClient, port.ALPNJoin} {
		for size, over := range map[uint32]bool{protocol.MaxAskFrame: false, protocol.MaxAskFrame + 1: true} {
			conn, err := f.dial(alpn, nil)
			f.ok(err)
			_, err = conn.Write(binary.BigEndian.AppendUint32(nil, size))
			f.ok(err)
			f.ok(conn.SetReadDeadline(time.Now().Add(HelloWithin / 5)))
			_, err = conn.Read(make([]byte, 1))
			if ended := !errors.Is(err, os.ErrDeadlineExceeded); ended != over {
				t.Errorf("%s, %d bytes announced: %v", alpn, size, err)
			}
		}
	}
	chain := make([][]byte, pki.MaxClientChain)
	for i := range chain {
		chain[i] = make([]byte, pki.MaxClientCertificate)
	}
	longest, err := json.Marshal(&protocol.Client{Auth: &protocol.Auth{
		Method: protocol.MethodCertificate, User: "ann", Chain: chain, Proof: make([]byte, 8192/8),
	}})
	if err != nil || len(longest) > protocol.MaxAskFrame*3/4 {
		t.Errorf("a login of %d bytes (%v): too near the limit", len(longest), err)
	}
}
