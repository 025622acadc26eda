package port

import "crypto/tls"

// Who dials another node says in its hello that it knows beats (node/loop), where the
// protocol behind has no words for that: by the server's name. Builds that do not know
// the word ignore it, and a node's certificate is judged without it.
const beatsName = "beats"

// SayBeats is a configuration to dial by that says so.
func SayBeats(config *tls.Config) *tls.Config {
	config = config.Clone()
	config.ServerName = beatsName
	return config
}

// HearsBeats reports whether who dialled said so.
func HearsBeats(conn *tls.Conn) bool { return conn.ConnectionState().ServerName == beatsName }
