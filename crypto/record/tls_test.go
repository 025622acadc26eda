package record

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestAgainstTLS is each end of a TLS connection by crypto/tls in turn, and the other by a
// Writer and a Reader under that connection's own keys. Only a process that believes its
// CPU has no AES offers our cipher, so it is another one.
func TestAgainstTLS(t *testing.T) {
	const inside = "MESHCRYPT_TEST_WITHOUT_AES"
	if os.Getenv(inside) == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		again := exec.Command(self, "-test.run=^TestAgainstTLS$", "-test.v")
		again.Env = append(os.Environ(), inside+"=1", "GODEBUG=cpu.aes=off")
		if said, err := again.CombinedOutput(); err != nil || !strings.Contains(string(said), "two ends") {
			t.Errorf("%v\n%s", err, said)
		}
		return
	}
	for _, isClient := range []bool{true, false} {
		ours, theirs, keys := handshake(t, isClient)
		to, from := keys["CLIENT"], keys["SERVER"]
		if !isClient {
			to, from = from, to
		}
		w, r := NewWriter(ours, to, nil), NewReader(ours, from)
		long := bytes.Repeat([]byte("from us "), MaxContent/3)
		go func() {
			w.Write(long)
			w.Close()
		}()
		if got, err := io.ReadAll(theirs); err != nil || !bytes.Equal(got, long) {
			t.Fatalf("crypto/tls read %d of %d bytes of ours, %v", len(got), len(long), err)
		}
		go func() {
			theirs.Write(long)
			theirs.CloseWrite()
		}()
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, long) {
			t.Fatalf("we read %d of %d bytes of crypto/tls, %v", len(got), len(long), err)
		}
	}
	fmt.Println("two ends")
}

// handshake is one of TLS, and the keys that come of it: ours is what is below the end that
// is the client or not.
func handshake(t *testing.T, isClient bool) (ours net.Conn, theirs *tls.Conn, keys map[string]Key) {
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	near.SetDeadline(time.Now().Add(time.Minute))
	var log bytes.Buffer
	server := tls.Server(&apart{Conn: far, boundary: NewBoundary(far)}, &tls.Config{Certificates: []tls.Certificate{selfSigned(t)}, SessionTicketsDisabled: true})
	client := tls.Client(&apart{Conn: near, boundary: NewBoundary(near)}, &tls.Config{InsecureSkipVerify: true, KeyLogWriter: &log})
	ended := make(chan error, 1)
	go func() { ended <- server.Handshake() }()
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if suite := client.ConnectionState().CipherSuite; suite != tls.TLS_CHACHA20_POLY1305_SHA256 {
		t.Fatalf("they agreed on %s", tls.CipherSuiteName(suite))
	}
	if isClient {
		return near, server, secrets(t, &log)
	}
	return far, client, secrets(t, &log)
}

// apart is a connection that is read one record at a time.
type apart struct {
	net.Conn
	boundary *Boundary
}

func (a *apart) Read(b []byte) (int, error) { return a.boundary.Read(b) }

// secrets makes keys of the traffic secrets in a key log (RFC 8446 7.3).
func secrets(t *testing.T, log io.Reader) map[string]Key {
	keys := make(map[string]Key)
	for lines := bufio.NewScanner(log); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		who, is := strings.CutSuffix(fields[0], "_TRAFFIC_SECRET_0")
		if !is {
			continue
		}
		secret, err := hex.DecodeString(fields[2])
		if err != nil {
			t.Fatal(err)
		}
		keys[who] = newKey(append(expand(t, secret, "key", keySize), expand(t, secret, "iv", ivSize)...))
	}
	if len(keys) != 2 {
		t.Fatalf("secrets of %d directions", len(keys))
	}
	return keys
}

// expand is HKDF-Expand-Label without a context (RFC 8446 7.1).
func expand(t *testing.T, secret []byte, label string, length int) []byte {
	info := append([]byte{0, byte(length), byte(len("tls13 " + label))}, "tls13 "+label...)
	out, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), length)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func selfSigned(t *testing.T) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
