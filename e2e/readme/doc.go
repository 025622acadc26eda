// Package readme runs the shell blocks of README.md as they stand there (tag
// e2e; no root needed): in a fresh copy of the project, or on hosts made of
// network namespaces. It owns the meaning of the marks before the blocks.
package readme
