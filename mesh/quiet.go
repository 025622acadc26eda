package mesh

import (
	"log"
	"log/slog"
	"strings"
)

// quiet gives the library a logger of the kind it wants. All it says goes to
// debug: what an operator must know of a node, the arbiter says once, and
// gossip would say from every node.
func quiet(to *slog.Logger) *log.Logger { return log.New(lines{to}, "", 0) }

type lines struct{ to *slog.Logger }

// Write takes one line of the form "[WARN] memberlist: text".
func (l lines) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	level := ""
	if rest, ok := strings.CutPrefix(text, "["); ok {
		if word, after, ok := strings.Cut(rest, "] "); ok {
			level, text = strings.ToLower(word), strings.TrimPrefix(after, "memberlist: ")
		}
	}
	l.to.Debug(text, "component", "gossip", "said", level)
	return len(line), nil
}
