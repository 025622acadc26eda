package client

import (
	"os"
	"testing"
)

// TestProfileOfOlderBuild: the profiles that e45f7b0 printed are read, and printed
// again are the same.
func TestProfileOfOlderBuild(t *testing.T) {
	for name, method := range map[string]string{"ann": "", "site": "psk"} {
		raw, err := os.ReadFile("testdata/e45f7b0/" + name + ".toml")
		if err != nil {
			t.Fatal(err)
		}
		p, err := ParseProfile(raw)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Gateways) != 2 || p.Method != method || p.Text() != string(raw) {
			t.Errorf("%s: %+v\n%s", name, p, p.Text())
		}
	}
}
