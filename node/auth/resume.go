package auth

import "github.com/meshcrypt/meshcrypt/crypto/identity"

const resumeContext = "mka1 login resume"

// SignResume proves that the client holds the key the session was last opened
// or resumed with. The hello names the key that takes its place.
func SignResume(sessionKey identity.Key, b Binding, session [16]byte) []byte {
	return sessionKey.Sign(resumeContext, b.resumeMessage(session))
}

// VerifyResume returns the principal that owns the session, or ErrDenied.
// registered and user are the session's in the registry; the zero key stands
// for a session that is unknown or over, and costs the same.
func VerifyResume(registered identity.PublicKey, b Binding, session [16]byte, user string, signature []byte) (Principal, error) {
	if !verify(registered, resumeContext, b.resumeMessage(session), signature) {
		return Principal{}, ErrDenied
	}
	return Principal{User: user, Method: MethodSession}, nil
}

func (b Binding) resumeMessage(session [16]byte) []byte {
	return labelled("", b.Exporter[:], b.Hello[:], session[:])
}
