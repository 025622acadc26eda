package vault

import (
	"strings"
	"testing"
)

func TestRecoveryGolden(t *testing.T) {
	const want = "MCR1-VNBD-WG9Q-JMES-S4K8-3C1M-2VP1-BY46-PH42-M9Z3-MMBX-6BR8-A92C-QSEW-6S9G"
	r := recipientOf(t, "golden")
	if got := r.RecoveryText(); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	again, err := ParseRecoveryText(want)
	if err != nil || *again.seed != *r.seed {
		t.Errorf("read back: %v", err)
	}
}

// Each character of the paper, mistyped as each other one, is noticed.
func TestRecoveryEveryCharacter(t *testing.T) {
	text := recipientOf(t, "golden").RecoveryText()
	for at := range text {
		for _, c := range recoveryAlphabet + "ilouILOU- \n\x00" {
			bad := text[:at] + string(c) + text[at+1:]
			if bad == text {
				continue
			}
			_, err := ParseRecoveryText(bad)
			wantError(t, bad, err, ErrRecoveryKey)
		}
	}
}

func TestRecoveryNamesTheMistake(t *testing.T) {
	text := recipientOf(t, "golden").RecoveryText()
	swap := func(c string) string { return text[:len("MCR1-AAAA-A")] + c + text[len("MCR1-AAAA-AA"):] }
	for what, c := range map[string]struct{ text, want string }{
		"empty":       {"", "begin with MCR1-"},
		"other":       {"MCR2" + text[4:], "begin with MCR1-"},
		"lower case":  {swap("x"), `group 2: 'x' is lower case`},
		"letter O":    {swap("O"), `group 2: 'O' never occurs, 0 (zero) is meant`},
		"letter L":    {swap("L"), `group 2: 'L' never occurs, 1 (one) is meant`},
		"letter U":    {swap("U"), `group 2: 'U' never occurs in a recovery key`},
		"not ASCII":   {swap("é"), `group 2: 'é' never occurs`},
		"lost group":  {text[:len(text)-5], "13 groups after MCR1, want 14"},
		"short group": {text[:len(text)-1], "group 14: 3 characters, want 4"},
		"long group":  {text + "0", "group 14: 5 characters, want 4"},
		"swapped":     {"MCR1-" + text[10:15] + text[5:10] + text[15:], "checksum is wrong"},
		"spaced":      {text + " ", `group 14: ' ' never occurs`},
	} {
		_, err := ParseRecoveryText(c.text)
		wantError(t, what, err, ErrRecoveryKey)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", what, err, c.want)
		}
	}
}

func TestRecoveryOpensWhatWasWrapped(t *testing.T) {
	r, k, cluster := recipientOf(t, "paper"), dataKeyOf(t, "a", 1), clusterOf("a")
	wrapped, err := Wrap(k, r.Public(), cluster)
	if err != nil {
		t.Fatal(err)
	}
	typed, err := ParseRecoveryText(r.RecoveryText())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := typed.Unwrap(wrapped, cluster, 1); err != nil || *got.key != *k.key {
		t.Errorf("recovery: %v", err)
	}
}

func FuzzParseRecoveryText(f *testing.F) {
	f.Add(recipientOf(f, "golden").RecoveryText())
	f.Add("MCR1-0000-0000-0000-0000-0000-0000-0000-0000-0000-0000-0000-0000-0000-0000")
	f.Add("MCR1")
	f.Fuzz(func(t *testing.T, text string) {
		if r, err := ParseRecoveryText(text); err == nil && r.RecoveryText() != text {
			t.Errorf("%q reads as %q", text, r.RecoveryText())
		}
	})
}
