package node

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"sync"

	"github.com/meshcrypt/meshcrypt/crypto/identity"
	"github.com/meshcrypt/meshcrypt/node/auth"
	"github.com/meshcrypt/meshcrypt/node/client"
	"github.com/meshcrypt/meshcrypt/node/protocol"
)

// PasswordLogin asks for the password when it is first needed, makes a key of it
// and proves that; the password itself goes nowhere, and is not asked for again.
func PasswordLogin(cluster identity.ClusterID, user string, password func() ([]byte, error)) func(client.Binding) (client.Login, error) {
	derive := sync.OnceValues(func() (identity.Key, error) {
		secret, err := password()
		if err != nil {
			return identity.Key{}, err
		}
		defer clear(secret)
		return auth.DeriveKey(secret, cluster, user, auth.DefaultCost())
	})
	return func(b client.Binding) (client.Login, error) {
		key, err := derive()
		if err != nil {
			return client.Login{}, err
		}
		return client.Login{Auth: protocol.Auth{
			Method: protocol.MethodPassword, User: user, Proof: auth.SignPassword(key, b, user),
		}}, nil
	}
}

// SharedKeyLogin proves a pre-shared key and has the mesh prove that it knows it too.
func SharedKeyLogin(cluster identity.ClusterID, user string, secret []byte) (func(client.Binding) (client.Login, error), error) {
	key, err := auth.DeriveSharedKey(secret, cluster, user, auth.DefaultCost())
	clear(secret)
	if err != nil {
		return nil, err
	}
	return func(b client.Binding) (client.Login, error) {
		return client.Login{
			Auth:    protocol.Auth{Method: protocol.MethodSharedKey, User: user, Proof: key.Prove(b, user)},
			Confirm: func(proof []byte) error { return key.Confirm(b, user, proof) },
		}, nil
	}, nil
}

// CertificateLogin signs with a certificate's key.
func CertificateLogin(user string, cert tls.Certificate) (func(client.Binding) (client.Login, error), error) {
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("%T cannot sign", cert.PrivateKey)
	}
	return func(b client.Binding) (client.Login, error) {
		proof, err := auth.SignCertificate(rand.Reader, key, b, user, cert.Certificate[0])
		if err != nil {
			return client.Login{}, err
		}
		return client.Login{Auth: protocol.Auth{
			Method: protocol.MethodCertificate, User: user, Chain: cert.Certificate, Proof: proof,
		}}, nil
	}, nil
}
