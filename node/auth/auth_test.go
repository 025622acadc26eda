package auth

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
)

func cheap() Cost { return Cost{Memory: 8, Passes: 1, Threads: 1} }

func clusterOf(seed string) identity.ClusterID {
	digest := sha256.Sum256([]byte(seed))
	return identity.ClusterID(digest[:16])
}

func bindingOf(seed string) Binding {
	return Binding{Exporter: sha256.Sum256([]byte("exporter " + seed)), Hello: sha256.Sum256([]byte("hello " + seed))}
}

func keyOf(t testing.TB, seed string) identity.Key {
	t.Helper()
	digest := sha256.Sum256([]byte(seed))
	key, err := identity.KeyFromSeed(digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func loginKey(t testing.TB, password, cluster, user string) identity.Key {
	t.Helper()
	key, err := DeriveKey([]byte(password), clusterOf(cluster), user, cheap())
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func TestDeriveKeyGolden(t *testing.T) {
	for _, c := range []struct {
		cost Cost
		want string
	}{
		{cheap(), "48604db80b452cada043f1dc0b13a6ed3de12562a94fb2e45e03ada1c51be0b2"},
		{DefaultCost(), "4e53950eb2a35c4de487fb469f1ba172e4c2376356724cd13082e89138061fd0"},
	} {
		key, err := DeriveKey([]byte("correct horse"), clusterOf("golden"), "alice", c.cost)
		if err != nil {
			t.Fatal(err)
		}
		public := key.Public()
		if got := hex.EncodeToString(public[:]); got != c.want {
			t.Errorf("%+v: got %s, want %s", c.cost, got, c.want)
		}
	}
}

func TestDeriveKeyDepends(t *testing.T) {
	base := loginKey(t, "secret", "a", "alice").Public()
	if loginKey(t, "secret", "a", "alice").Public() != base {
		t.Error("the same input gives another key")
	}
	if loginKey(t, "Secret", "a", "alice").Public() == base ||
		loginKey(t, "secret", "b", "alice").Public() == base ||
		loginKey(t, "secret", "a", "alicf").Public() == base {
		t.Error("password, mesh or user does not count")
	}
}

func TestDeriveKeyRefuses(t *testing.T) {
	derive := func(password []byte, user string, cost Cost) error {
		_, err := DeriveKey(password, clusterOf("a"), user, cost)
		return err
	}
	secret := []byte("secret")
	wantError(t, "no user", derive(secret, "", cheap()), ErrUser)
	wantError(t, "no password", derive(nil, "alice", cheap()), ErrPassword)
	wantError(t, "password over the limit (I10)", derive(make([]byte, MaxPassword+1), "alice", cheap()), ErrPassword)
	wantError(t, "password at the limit", derive(make([]byte, MaxPassword), "alice", cheap()), nil)
	for what, cost := range map[string]Cost{
		"zero": {}, "no passes": {Memory: 8, Threads: 1}, "no threads": {Memory: 8, Passes: 1},
		"too little memory":           {Memory: 15, Passes: 1, Threads: 2},
		"memory over the limit (I10)": {Memory: MaxMemory + 1, Passes: 1, Threads: 1},
		"passes over the limit (I10)": {Memory: 8, Passes: MaxPasses + 1, Threads: 1},
	} {
		wantError(t, what, derive(secret, "alice", cost), ErrCost)
	}
	wantError(t, "passes at the limit", derive(secret, "alice", Cost{Memory: 8, Passes: MaxPasses, Threads: 1}), nil)
}

func TestPasswordLogin(t *testing.T) {
	key, b := loginKey(t, "secret", "a", "alice"), bindingOf("1")
	signature := SignPassword(key, b, "alice")
	got, err := VerifyPassword(key.Public(), b, "alice", signature)
	if err != nil || got != (Principal{User: "alice", Method: MethodPassword}) {
		t.Fatalf("got %+v, %v", got, err)
	}
	otherHello, otherExporter := b, b
	otherHello.Hello[31] ^= 1
	otherExporter.Exporter[0] ^= 1
	for what, try := range map[string]func() (Principal, error){
		"wrong password": func() (Principal, error) {
			return VerifyPassword(key.Public(), b, "alice", SignPassword(loginKey(t, "Secret", "a", "alice"), b, "alice"))
		},
		"other connection": func() (Principal, error) { return VerifyPassword(key.Public(), otherExporter, "alice", signature) },
		"other hello":      func() (Principal, error) { return VerifyPassword(key.Public(), otherHello, "alice", signature) },
		"other user":       func() (Principal, error) { return VerifyPassword(key.Public(), b, "alicf", signature) },
		"unknown user":     func() (Principal, error) { return VerifyPassword(identity.PublicKey{}, b, "alice", signature) },
		"no signature":     func() (Principal, error) { return VerifyPassword(key.Public(), b, "alice", nil) },
		"malformed user": func() (Principal, error) {
			return VerifyPassword(key.Public(), b, "a/b", SignPassword(key, b, "a/b"))
		},
		"a hello's or resume's signature": func() (Principal, error) {
			return VerifyPassword(key.Public(), b, "alice", key.Sign(resumeContext, b.passwordMessage("alice")))
		},
	} {
		got, err := try()
		wantError(t, what, err, ErrDenied)
		if got != (Principal{}) {
			t.Errorf("%s: principal %+v", what, got)
		}
	}
}

func TestProofsEveryBit(t *testing.T) {
	key, b := keyOf(t, "a"), bindingOf("1")
	password, resume := SignPassword(key, b, "alice"), SignResume(key, b, [16]byte{1})
	for bit := range ed25519.SignatureSize * 8 {
		for _, signature := range [][]byte{password, resume} {
			signature[bit/8] ^= 1 << (bit % 8)
		}
		_, err := VerifyPassword(key.Public(), b, "alice", password)
		wantError(t, "password", err, ErrDenied)
		_, err = VerifyResume(key.Public(), b, [16]byte{1}, "alice", resume)
		wantError(t, "resume", err, ErrDenied)
		for _, signature := range [][]byte{password, resume} {
			signature[bit/8] ^= 1 << (bit % 8)
		}
	}
}

func TestProofGolden(t *testing.T) {
	key, b := keyOf(t, "golden"), bindingOf("golden")
	for _, c := range []struct {
		got  []byte
		want string
	}{
		{SignPassword(key, b, "alice"), "d5eaf6ac463c1fc4ff2824e6e8fb74a51066c9a7f3e2ab284243c5b4cb4d82b9" +
			"40f33d2a35e10851c81714988bb03a89cf76ad48db41324614f78981ae317807"},
		{SignResume(key, b, [16]byte{1, 2, 3}), "6b3e948c4d9ec01e342f508e3eb76961ecf43df5f296e95b096af181b414b546" +
			"153ab79a663dfb70095939c1cf3788da498628a103b698aa7f9fe710a3d4f301"},
	} {
		if got := hex.EncodeToString(c.got); got != c.want {
			t.Errorf("got %s\nwant %s", got, c.want)
		}
	}
}

// The zero key is a point of order 4: signatures that hold under it can be
// found by trying, so a client without a password must not be let in by one.
func TestZeroKeyForgery(t *testing.T) {
	zero, b := identity.PublicKey{}, bindingOf("1")
	forged := make([]byte, ed25519.SignatureSize)
	found := false
	for user := byte('a'); user <= 'z' && !found; user++ {
		for _, r := range lowOrderPoints() {
			copy(forged, r[:])
			if zero.Verify(passwordContext, b.passwordMessage(string(user)), forged) {
				found = true
				_, err := VerifyPassword(zero, b, string(user), forged)
				wantError(t, "forged under the zero key", err, ErrDenied)
			}
		}
	}
	if !found {
		t.Fatal("no forgery found: the test proves nothing")
	}
}

// lowOrderPoints are the encodings of the points of order 1, 2 and 4.
func lowOrderPoints() [][32]byte {
	one, minusOne, fourth, fourthOdd := [32]byte{1}, [32]byte{}, [32]byte{}, [32]byte{}
	for i := range minusOne {
		minusOne[i] = 0xff
	}
	minusOne[0], minusOne[31], fourthOdd[31] = 0xec, 0x7f, 0x80
	return [][32]byte{one, minusOne, fourth, fourthOdd}
}

// The dummy's private half is public (RFC 8032), so it must open nothing.
func TestDummyKeyOpensNothing(t *testing.T) {
	seed, err := hex.DecodeString("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")
	if err != nil {
		t.Fatal(err)
	}
	key, err := identity.KeyFromSeed(seed)
	if err != nil || key.Public() != dummyKey() {
		t.Fatalf("dummy key is not that of the RFC: %v", err)
	}
	b := bindingOf("1")
	for what, registered := range map[string]identity.PublicKey{"unknown user": {}, "registered dummy": dummyKey()} {
		_, err := VerifyPassword(registered, b, "alice", SignPassword(key, b, "alice"))
		wantError(t, what, err, ErrDenied)
		_, err = VerifyResume(registered, b, [16]byte{1}, "alice", SignResume(key, b, [16]byte{1}))
		wantError(t, what, err, ErrDenied)
	}
}

func TestResume(t *testing.T) {
	key, b, session := keyOf(t, "session"), bindingOf("1"), [16]byte{1, 2, 3}
	signature := SignResume(key, b, session)
	got, err := VerifyResume(key.Public(), b, session, "alice", signature)
	if err != nil || got != (Principal{User: "alice", Method: MethodSession}) {
		t.Fatalf("got %+v, %v", got, err)
	}
	for what, try := range map[string]func() (Principal, error){
		"other session": func() (Principal, error) { return VerifyResume(key.Public(), b, [16]byte{9}, "alice", signature) },
		"other connection": func() (Principal, error) {
			return VerifyResume(key.Public(), bindingOf("2"), session, "alice", signature)
		},
		"other key":       func() (Principal, error) { return VerifyResume(keyOf(t, "x").Public(), b, session, "alice", signature) },
		"unknown session": func() (Principal, error) { return VerifyResume(identity.PublicKey{}, b, session, "alice", signature) },
		"password's label": func() (Principal, error) {
			return VerifyResume(key.Public(), b, session, "alice", key.Sign(passwordContext, b.resumeMessage(session)))
		},
	} {
		_, err := try()
		wantError(t, what, err, ErrDenied)
	}
}

func TestIdentityHash(t *testing.T) {
	alice := Principal{User: "alice", Method: MethodPassword}
	resumed := Principal{User: "alice", Method: MethodSession}
	hash := alice.IdentityHash(clusterOf("a"))
	if resumed.IdentityHash(clusterOf("a")) != hash {
		t.Error("who resumes is somebody else")
	}
	if alice.IdentityHash(clusterOf("b")) == hash || (Principal{User: "bob"}).IdentityHash(clusterOf("a")) == hash {
		t.Error("mesh or user does not count")
	}
}

func TestCheckUser(t *testing.T) {
	for _, good := range []string{"a", "7", "alice", "Alice.B_c-d@example.com", strings.Repeat("x", MaxUser)} {
		wantError(t, good, CheckUser(good), nil)
	}
	for _, bad := range []string{
		"", strings.Repeat("x", MaxUser+1), "-rf", ".", "..", "@a", "_a", "a b", "a/b", "a\\b", "a\n", "a\x00",
		"ä", "a\u202eb", "a,b", "a:b", "a'b", "%61",
	} {
		wantError(t, bad, CheckUser(bad), ErrUser)
	}
}

func FuzzCheckUser(f *testing.F) {
	grammar := regexp.MustCompile(`\A[A-Za-z0-9][A-Za-z0-9._@-]{0,63}\z`)
	f.Add("alice@example.com")
	f.Add("-x")
	f.Add("")
	f.Fuzz(func(t *testing.T, name string) {
		if (CheckUser(name) == nil) != grammar.MatchString(name) {
			t.Errorf("%q: %v", name, CheckUser(name))
		}
	})
}

// I11: no signature, user or key from outside makes a verification panic.
func FuzzVerifyPassword(f *testing.F) {
	key, b := keyOf(f, "a"), bindingOf("1")
	public, signature := key.Public(), SignPassword(key, b, "alice")
	f.Add(public[:], "alice", signature)
	f.Add([]byte{}, "", []byte{})
	f.Fuzz(func(t *testing.T, registered []byte, user string, given []byte) {
		var stored identity.PublicKey
		copy(stored[:], registered)
		_, err := VerifyPassword(stored, b, user, given)
		if stored == public && err == nil && (user != "alice" || !bytes.Equal(given, signature)) {
			t.Errorf("accepted %q with %x", user, given)
		}
	})
}
