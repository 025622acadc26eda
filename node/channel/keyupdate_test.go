package channel

import (
	"bufio"
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"net"
	"strings"
	"testing"
)

// updater says KeyUpdates as a client of TLS 1.3 that asks for one each time (RFC 8446, 4.6.3).
type updater struct {
	t      *testing.T
	to     net.Conn
	secret []byte // of its traffic
	number uint64 // of the next record under it
}

func (u *updater) expand(label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{0, byte(n), byte(len(label))}, label...)
	key, err := hkdf.Expand(sha256.New, u.secret, string(append(info, 0)), n)
	ok(u.t, err)
	return key
}

// record says a record of one message.
func (u *updater) record(kind byte, message []byte) {
	block, err := aes.NewCipher(u.expand("key", 16))
	ok(u.t, err)
	sealer, err := cipher.NewGCM(block)
	ok(u.t, err)
	nonce := u.expand("iv", 12)
	for i, b := range binary.BigEndian.AppendUint64(nil, u.number) {
		nonce[4+i] ^= b
	}
	inner := append(bytes.Clone(message), kind)
	head := binary.BigEndian.AppendUint16([]byte{23, 3, 3}, uint16(len(inner)+sealer.Overhead()))
	_, err = u.to.Write(sealer.Seal(bytes.Clone(head), nonce, inner, head))
	ok(u.t, err)
	u.number++
}

// update asks for another key of the other end's.
func (u *updater) update() {
	const handshake, keyUpdate, requested = 22, 24, 1
	u.record(handshake, []byte{keyUpdate, 0, 0, 1, requested})
	u.secret, u.number = u.expand("traffic upd", len(u.secret)), 0
}

// TestNoAnswerIsKept: a client that does not leave TLS, and asks for a new key with each
// word, has the server make answers that nobody may hear. They take no memory.
func TestNoAnswerIsKept(t *testing.T) {
	near, far := line(t)
	var log bytes.Buffer
	c, s := shakenWith(t, near, Below(far), &tls.Config{InsecureSkipVerify: true, KeyLogWriter: &log})
	if c.ConnectionState().CipherSuite != tls.TLS_AES_128_GCM_SHA256 {
		t.Skip("this host has no AES of its own, and so another suite is agreed")
	}
	b, server := s.NetConn().(*below), Server(s, nil)
	ok(t, server.Leave())
	u := &updater{t: t, to: near, secret: trafficSecret(t, &log)}
	const words, each = 200, 10
	for range words {
		for range each {
			u.update()
		}
		u.record(23, []byte("w"))
		hears(t, server, "w")
	}
	if len(b.kept) > 0 {
		t.Errorf("%d bytes are kept after %d words", len(b.kept), words)
	}
}

// trafficSecret is the client's, from a key log.
func trafficSecret(t *testing.T, log *bytes.Buffer) []byte {
	t.Helper()
	for lines := bufio.NewScanner(log); lines.Scan(); {
		if words := strings.Fields(lines.Text()); words[0] == "CLIENT_TRAFFIC_SECRET_0" {
			secret, err := hex.DecodeString(words[2])
			ok(t, err)
			return secret
		}
	}
	t.Fatal("no secret was logged")
	return nil
}
