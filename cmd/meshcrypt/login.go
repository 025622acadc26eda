package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"strings"

	"github.com/spf13/pflag"

	"github.com/meshcrypt/meshcrypt/crypto/pki"
	"github.com/meshcrypt/meshcrypt/node"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// loginFlags are what a client proves who it is with: one of three.
type loginFlags struct {
	passwordFile, sharedKeyFile string
	cert, key                   string

	certificate *tls.Certificate // of cert and key, once read
}

func (f *loginFlags) add(flags *pflag.FlagSet) {
	flags.StringVar(&f.passwordFile, "password-file", "", "file that holds the password; - is stdin (default: ask)")
	flags.StringVar(&f.sharedKeyFile, "psk-file", "", "file that holds a pre-shared key; - is stdin")
	flags.StringVar(&f.cert, "cert", "", "certificate to log in with, PEM; what is between it and its CA behind it")
	flags.StringVar(&f.key, "key", "", "private key of --cert, PEM")
}

// method is what the flags say, else the profile, else a password.
func (f *loginFlags) method(profile client.Profile) (string, error) {
	var given []string
	for _, way := range []struct {
		method string
		asked  bool
	}{
		{protocol.MethodPassword, f.passwordFile != ""}, {protocol.MethodSharedKey, f.sharedKeyFile != ""},
		{protocol.MethodCertificate, f.cert != "" || f.key != ""},
	} {
		if way.asked {
			given = append(given, way.method)
		}
	}
	switch {
	case len(given) > 1:
		return "", usage("give one of --password-file, --psk-file, --cert", "a client logs in in one way, not by %s", strings.Join(given, " and "))
	case len(given) == 1 && given[0] == protocol.MethodCertificate && (f.cert == "" || f.key == ""):
		return "", usage("--cert FILE --key FILE", "a certificate needs its key, and a key its certificate")
	case len(given) == 1:
		return given[0], nil
	case profile.Method == protocol.MethodSharedKey:
		return "", usage("--psk-file FILE", "this profile's user logs in by a pre-shared key")
	case profile.Method == protocol.MethodCertificate:
		return "", usage("--cert FILE --key FILE", "this profile's user logs in by a certificate")
	}
	return protocol.MethodPassword, nil
}

// user is whom the certificate names, where nobody says otherwise.
func (f *loginFlags) user(method string, profile client.Profile) (string, error) {
	if method != protocol.MethodCertificate {
		return "", nil
	}
	cert, err := f.readCertificate()
	if err != nil {
		return "", err
	}
	name, err := pki.ClientName(cert.Leaf, profile.Cluster)
	if err != nil {
		return "", usage("--user NAME", "%v", err)
	}
	return name, nil
}

// login makes the proof that a session is opened with.
func (f *loginFlags) login(ctx context.Context, a *app, method, user string, profile client.Profile) (func(client.Binding) (client.Login, error), error) {
	switch method {
	case protocol.MethodSharedKey:
		secret, err := secretSource{a, ctx, "--psk-file", f.sharedKeyFile}.read("pre-shared key")
		if err != nil {
			return nil, err
		}
		return node.SharedKeyLogin(profile.Cluster, user, secret)
	case protocol.MethodCertificate:
		cert, err := f.readCertificate()
		if err != nil {
			return nil, err
		}
		return node.CertificateLogin(user, *cert)
	}
	return node.PasswordLogin(profile.Cluster, user, secretSource{a, ctx, "--password-file", f.passwordFile}.password(user)), nil
}

// readCertificate reads --cert and --key once, and sees that they belong together.
func (f *loginFlags) readCertificate() (*tls.Certificate, error) {
	if f.certificate != nil {
		return f.certificate, nil
	}
	chain, err := readFile(f.cert, MaxCertificateFile)
	if err != nil {
		return nil, usage("name a readable file with --cert", "--cert: %v", err)
	}
	key, err := readFile(f.key, MaxCertificateFile)
	if err != nil {
		return nil, usage("name a readable file with --key", "--key: %v", err)
	}
	defer clear(key)
	if bytes.Contains(key, []byte("ENCRYPTED")) {
		return nil, usage("openssl pkey -in "+f.key+" -out FILE removes the passphrase", "--key %s is locked by a passphrase", f.key)
	}
	cert, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, usage("--cert FILE --key FILE, both PEM, of one pair", "%s and %s: %v", f.cert, f.key, err)
	}
	f.certificate = &cert
	return f.certificate, nil
}

// readCertificates reads every certificate of a PEM file, DER.
func readCertificates(path string) (list [][]byte, err error) {
	text, err := readFile(path, MaxCertificateFile)
	if err != nil {
		return nil, usage("name a readable file", "%v", err)
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, usage("see what it is: openssl x509 -in "+path+" -text", "%s: %v", path, err)
		}
		list = append(list, block.Bytes)
	}
	if len(list) == 0 {
		return nil, usage("openssl x509 -inform DER -in "+path+" makes PEM of DER", "%s holds no certificate in PEM", path)
	}
	return list, nil
}
