package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/BurntSushi/toml"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const defaultConfig = "/etc/meshcrypt/meshcrypt.toml"

// setting is one line of the settings file.
type setting struct {
	line   int
	values []string
}

// configure completes flags that were not given: from the environment, then
// from the file. Only what describes a host may come from there, so that no
// file decides whom an operator's command acts on.
func (a *app) configure(cmd *cobra.Command) error {
	if path, ok := os.LookupEnv("MESHCRYPT_CONFIG"); ok && a.configFile == "" {
		a.configFile = path
	}
	file, path, err := a.readConfig(cmd.Root())
	if err != nil {
		return err
	}
	known := hostFlags(cmd.Root())
	var failed error
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Changed || !known[f.Name] || f.Name == "config" || failed != nil {
			return
		}
		name := "MESHCRYPT_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if value, ok := os.LookupEnv(name); ok {
			failed = set(cmd, f, []string{value}, name)
		} else if s, ok := file[f.Name]; ok {
			failed = set(cmd, f, s.values, fmt.Sprintf("%s line %d: key %s", path, s.line, f.Name))
		}
	})
	return failed
}

func set(cmd *cobra.Command, f *pflag.Flag, values []string, where string) error {
	for _, value := range values {
		if err := cmd.Flags().Set(f.Name, value); err != nil {
			return usage(cmd.CommandPath()+" --help", "%s: %q is no value for it: %v", where, value, errors.Unwrap(err))
		}
	}
	return nil
}

// hostVerbs are the verbs whose flags describe a host.
func hostVerbs() []string { return []string{"init", "run", "join", "connect", "disconnect"} }

// hostFlags are the names of all settings that the file and the environment know.
func hostFlags(root *cobra.Command) map[string]bool {
	known := make(map[string]bool)
	add := func(f *pflag.Flag) { known[f.Name] = f.Name != "config" && f.Name != "help" && f.Name != "version" }
	root.PersistentFlags().VisitAll(add)
	for _, verb := range hostVerbs() {
		if cmd, _, err := root.Find([]string{verb}); err == nil {
			cmd.LocalNonPersistentFlags().VisitAll(add)
		}
	}
	return known
}

// readConfig reads the settings file strictly: an unknown key is an error.
func (a *app) readConfig(root *cobra.Command) (map[string]setting, string, error) {
	path, named := a.configFile, a.configFile != ""
	if !named {
		path = defaultConfig
	}
	text, err := readFile(path, MaxConfig)
	if errors.Is(err, fs.ErrNotExist) && !named {
		return nil, path, nil
	}
	if err != nil {
		return nil, path, usage("name another with --config", "%v", err)
	}
	settings, err := parseConfig(string(text), hostFlags(root))
	if err != nil {
		return nil, path, usage("correct the file, or name another with --config", "%s %v", path, err)
	}
	return settings, path, nil
}

// parseConfig reads keys and their lines. The file is flat: a key is the name
// of a flag.
func parseConfig(text string, known map[string]bool) (map[string]setting, error) {
	var raw map[string]any
	if _, err := toml.Decode(text, &raw); err != nil {
		var syntax toml.ParseError
		if errors.As(err, &syntax) {
			return nil, fmt.Errorf("line %d: %s", syntax.Position.Line, syntax.Message)
		}
		return nil, err
	}
	settings := make(map[string]setting, len(raw))
	for key, value := range raw {
		line := lineOf(text, key)
		if !known[key] {
			return nil, fmt.Errorf("line %d: unknown key %q", line, key)
		}
		values, ok := texts(value)
		if !ok {
			return nil, fmt.Errorf("line %d: key %s wants a value or a list of values", line, key)
		}
		settings[key] = setting{line, values}
	}
	return settings, nil
}

// texts turns a TOML value into what a flag would be given.
func texts(value any) ([]string, bool) {
	switch v := value.(type) {
	case string, int64, float64, bool:
		return []string{fmt.Sprint(v)}, true
	case []any:
		var all []string
		for _, item := range v {
			one, ok := texts(item)
			if !ok || len(one) != 1 {
				return nil, false
			}
			all = append(all, one...)
		}
		return all, true
	}
	return nil, false
}

// lineOf finds the line that names a top-level key; 0 if it is written in a
// way that has no line of its own.
func lineOf(text, key string) int {
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimLeft(line, " \t[\"'")
		rest, ok := strings.CutPrefix(line, key)
		if ok && strings.IndexAny(strings.TrimLeft(rest, "\"'"), " \t=].") == 0 {
			return i + 1
		}
	}
	return 0
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAll(f, path, limit)
}

func readAll(r io.Reader, name string, limit int64) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(text)) > limit {
		err = fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return text, err
}
