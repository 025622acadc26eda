package client

import (
	"golang.org/x/sys/cpu"

	"github.com/meshcrypt/meshcrypt/crypto/esp"
)

// PreferredSuites is every suite, best first for this host: AES only where the CPU
// has instructions for it, since elsewhere it is several times slower.
func PreferredSuites() []esp.Suite {
	return preferred(cpu.X86.HasAES && cpu.X86.HasPCLMULQDQ || cpu.ARM64.HasAES && cpu.ARM64.HasPMULL)
}

func preferred(hardwareAES bool) []esp.Suite {
	if hardwareAES {
		return []esp.Suite{esp.AES256GCM, esp.AES128GCM, esp.ChaCha20Poly1305}
	}
	return []esp.Suite{esp.ChaCha20Poly1305, esp.AES256GCM, esp.AES128GCM}
}
