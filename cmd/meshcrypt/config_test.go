package main

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/meshcrypt/meshcrypt/node/control"
)

// resolved parses a command line as run does and gives a flag's final value.
func resolved(t *testing.T, flag string, args ...string) (string, error) {
	t.Helper()
	a := &app{}
	root := a.root()
	cmd, rest, err := root.Find(args)
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return "", err
	}
	if err := a.start(cmd); err != nil {
		return "", err
	}
	return value(cmd, flag), nil
}

func value(cmd *cobra.Command, flag string) string { return cmd.Flags().Lookup(flag).Value.String() }

// TestPrecedence: flags beat the environment, that the file, that the default.
func TestPrecedence(t *testing.T) {
	file := write(t, "# this host\nlisten = \"192.0.2.3:1\"\npool = [\"10.1.0.0/16\", \"10.2.0.0/16\"]\ncapacity = 2.5\n")
	check := func(flag, want string, args ...string) {
		t.Helper()
		if got, err := resolved(t, flag, append([]string{"init"}, args...)...); err != nil || got != want {
			t.Errorf("%s %v = %q, %v, want %q", flag, args, got, err, want)
		}
	}
	check("listen", defaultListen())
	check("listen", "192.0.2.3:1", "--config", file)
	check("pool", "[10.1.0.0/16,10.2.0.0/16]", "--config", file)
	check("capacity", "2.5", "--config", file)
	t.Setenv("MESHCRYPT_LISTEN", "192.0.2.2:1")
	check("listen", "192.0.2.2:1", "--config", file)
	check("listen", "192.0.2.1:1", "--config", file, "--listen", "192.0.2.1:1")
	t.Setenv("MESHCRYPT_CONFIG", file)
	check("capacity", "2.5")
	t.Setenv("MESHCRYPT_INSIDE_IF", "eth7")
	check("inside-if", "eth7")
	t.Setenv("MESHCRYPT_DATA_DIR", "/elsewhere")
	check("data-dir", "/elsewhere")
}

// TestOperatorsVerbsIgnoreTheFile: what an operator's command acts on is on
// its command line alone.
func TestOperatorsVerbsIgnoreTheFile(t *testing.T) {
	t.Setenv("MESHCRYPT_REPLACE", "true")
	if got, err := resolved(t, "replace", "client", "add", "ann"); err != nil || got != "false" {
		t.Errorf("replace = %q, %v", got, err)
	}
}

// TestConfigErrors: file, line and key are named.
func TestConfigErrors(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		words []string
	}{
		"unknown key":   {"listen = \"192.0.2.1:1\"\n\nlissten = 3\n", []string{"line 3", `"lissten"`}},
		"unknown table": {"name = \"a\"\n[node]\nx = 1\n", []string{"line 2", `"node"`}},
		"syntax":        {"name = \"a\"\nlisten = \n", []string{"line 2"}},
		"wrong type":    {"capacity = \"many\"\n", []string{"line 1", "key capacity", `"many"`}},
		"wrong shape":   {"\n\nname = { first = 1 }\n", []string{"line 3", "key name"}},
		"operator flag": {"uses = 3\n", []string{"line 1", `"uses"`}},
	} {
		t.Run(name, func(t *testing.T) {
			file := write(t, c.text)
			got := meshcrypt(t, "", "init", "--config", file, "--data-dir", t.TempDir())
			got.want(t, control.CodeUsage, append(c.words, file, "next:")...)
		})
	}
	meshcrypt(t, "", "status", "--config", "/no/such/file").want(t, control.CodeUsage, "/no/such/file", "--config")
	t.Setenv("MESHCRYPT_CAPACITY", "lots")
	meshcrypt(t, "", "init", "--data-dir", t.TempDir()).want(t, control.CodeUsage, "MESHCRYPT_CAPACITY", `"lots"`)
}

// TestConfigLimit: a file beyond MaxConfig is refused (I10).
func TestConfigLimit(t *testing.T) {
	fits := "#" + strings.Repeat("x", MaxConfig-2) + "\n"
	if _, err := resolved(t, "name", "init", "--config", write(t, fits)); err != nil {
		t.Errorf("at the limit: %v", err)
	}
	if _, err := resolved(t, "name", "init", "--config", write(t, fits+"#")); err == nil {
		t.Error("above the limit: no error")
	}
}

// FuzzConfig: any text gives settings or an error, and each setting has values
// under a known key.
func FuzzConfig(f *testing.F) {
	f.Add("listen = \"192.0.2.1:1\"\npool = [\"10.1.0.0/16\"]\n")
	f.Add("\"listen\" = 1\n[a.b]\n")
	known := hostFlags((&app{}).root())
	f.Fuzz(func(t *testing.T, text string) {
		settings, err := parseConfig(text, known)
		if err != nil && settings != nil {
			t.Error("settings beside an error")
		}
		for key := range settings {
			if !known[key] {
				t.Errorf("unknown key %q accepted", key)
			}
		}
	})
}
