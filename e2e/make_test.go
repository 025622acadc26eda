package e2e

import (
	"os/exec"
	"strings"
	"testing"
)

// TestMakeSaysWhatATargetTakes: a variable that is no number is refused by one line, before
// anything is built or run.
func TestMakeSaysWhatATargetTakes(t *testing.T) {
	targets := map[string]string{"churn": "MINUTES", "rest": "CLIENTS", "back": "CLIENTS", "faults": "TRIES", "sim": "SEEDS"}
	for target, name := range targets {
		for _, value := range []string{"abc", "0", "-1", "1.5", "1000000000", "3 4"} {
			out, err := exec.CommandContext(t.Context(), "make", "-C", "..", "--no-print-directory", target, name+"="+value).CombinedOutput()
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			if err == nil || lines[0] != "make: "+name+"="+value+" is not a whole number from 1 to 999999999" || len(lines) != 2 {
				t.Errorf("make %s %s=%s: %v\n%s", target, name, value, err, out)
			}
		}
	}
	for _, value := range []string{"", "1", "10000"} {
		if out, err := exec.CommandContext(t.Context(), "sh", "../.ci/whole", "CLIENTS", value).CombinedOutput(); err != nil {
			t.Errorf("%q: %s", value, out)
		}
	}
}
